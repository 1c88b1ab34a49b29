/**
 * The chained plugin veth-host: a second way between a pod and its own node, for pods whose interface bypasses the host's stack (ipvlan, a card of their own).
 * Services, the node itself, and what the configuration names go over it; everything else stays where it was.
 */

import { invalidConfig, joinErrors, unavailable } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { IpConfig, Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import type { MacText } from '#ip/text.ts'
import { findLink, getLink, kindOf, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import { distrustful, hostNetns, withoutDad, writeSysctls, type Sysctl } from '../link/host-netns.ts'
import { forwardFor, gatewayNeighbours, legMacs, setUpHostEnd, wrongGateway, wrongHostEnd } from '../link/leg.ts'
import { masterOf } from '../link/master.ts'
import { factsIn, nodeAddresses } from '../link/node-address.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { createVeth, findVeth, removeLink, sendAll, staleVeths, vethName } from '../link/veth.ts'
import { dropServices, dropStaleServices, sourceServices, wrongServices } from '../rules/services.ts'
import { vethHostConf, type VethHostConf } from './config.ts'
import { planOf, type Plan } from './plan.ts'

const TYPE = 'veth-host'

export const vethHost: Plugin = { type: TYPE, versions: specVersions, add, del, check, status, gc }

/** Throws CniError 7 when the plugin is not chained behind one that gives the interface an address. */
function previous({ prevResult, ifname }: PluginInput): readonly [Result, readonly IpConfig[]] {
  if (prevResult === undefined)
    throw invalidConfig(
      `${TYPE} must be called as a chained plugin`,
      'put it after ipvlan or host-device-plus in the list',
    )
  const at = prevResult.interfaces.findIndex(({ name, sandbox }) => name === ifname && sandbox)
  const ips = prevResult.ips.filter((ip) => ip.interface === undefined || ip.interface === at)
  if (ips.length > 0) return [prevResult, ips]
  throw invalidConfig(
    `the previous result has no address for ${ifname}`,
    'the host reaches the pod by it: use an "ipam"',
  )
}

/** What this pod shall have today, and the node's card. Throws CniError 7 where the node has none to be known by. */
function planFor(conf: VethHostConf, host: PluginHost, ips: readonly IpConfig[]): readonly [Plan, string] {
  const facts = factsIn(conf.stateDir, host.root)
  const name = conf.master === '' ? (facts?.node.interface ?? '') : conf.master
  const card = masterOf(host.netlink, name, conf.what, 'the host')
  return [planOf(conf, ips, nodeAddresses(host, card, facts)), card.name]
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = vethHostConf(input)
  const [result, ips] = previous(input)
  const planned = planFor(conf, host, ips)
  using pod = openPod(input.netns)
  return await undoing(host, (undo) => connect(input, host, conf, planned, pod, result, undo))
}

async function connect(
  input: PluginInput,
  host: PluginHost,
  conf: VethHostConf,
  [plan, card]: readonly [Plan, string],
  pod: Pod,
  result: Result,
  undo: Undo,
): Promise<Result> {
  const { ifName } = conf
  const network = input.config.name
  const main = mainLink(input, pod, conf)
  const name = vethName(input, host, pod, ifName)
  const macs = legMacs(network, input)
  const mtu = conf.mtu === 0 ? main.mtu : conf.mtu
  createVeth(input, host, pod, { name, inside: ifName, mtu, mac: macs.pod, hostMac: macs.host }, undo)
  host.failpoint('veth-host.linked')
  forwardFor(host, card, plan.families)
  const outside = getLink(host.netlink, name)
  setUpHostEnd(host, outside, plan.ips, macs.pod, plan.node)
  host.failpoint('veth-host.up')
  if (plan.sources.length > 0) {
    undo.add('service sources', () => dropServices(hostNetns(host).nft, network, input))
    await sourceServices(host, network, input, plan.sources)
    host.failpoint('veth-host.sourced')
  }
  // Last: from here on the pod sends over it.
  const inside = setUpPodEnd(pod, conf, plan, macs.host)
  host.failpoint('veth-host.routed')
  return {
    ...result,
    interfaces: [
      ...result.interfaces,
      { name, mac: macs.host, mtu: outside.mtu },
      { name: ifName, mac: macs.pod, mtu: inside.mtu, sandbox: pod.path },
    ],
  }
}

/** The pod's interface of the plugins before. Throws CniError 7 where the leg would be its double. */
function mainLink({ ifname }: PluginInput, pod: Pod, { ifName, what }: VethHostConf): Link {
  if (ifName === ifname)
    throw invalidConfig(
      `${what}: "ifName" is ${ifName}`,
      'it names the leg beside the interface of that name: choose another',
    )
  const link = findLink(pod.netlink, ifname)
  if (link !== undefined) return link
  throw invalidConfig(`there is no interface ${ifname} in ${pod.path}`, 'the plugins before make it')
}

const podSysctls = (name: string, families: ReadonlySet<4 | 6>): readonly Sysctl[] =>
  families.has(6)
    ? [{ path: ['ipv6', 'conf', name, 'disable_ipv6'], value: '0' }, ...distrustful(name), ...withoutDad(name)]
    : []

function setUpPodEnd(pod: Pod, conf: VethHostConf, { routes, families }: Plan, hostMac: MacText): Link {
  const link = getLink(pod.netlink, conf.ifName)
  writeSysctls(pod.fd, podSysctls(conf.ifName, families))
  const { index } = link
  sendAll(pod.netlink, [
    setLinkMessage(index, { up: true }),
    ...gatewayNeighbours(index, conf.gateways, families, hostMac),
    ...routes(index).map((route) => routeMessage('replace', route)),
  ])
  return link
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const network = input.config.name
  const errors = await all([
    async () => {
      const link = findVeth(host.netlink, network, input)
      if (link !== undefined) await removeLink(host.netlink, link.index)
      host.failpoint('veth-host.unlinked')
    },
    () => dropServices(hostNetns(host).nft, network, input),
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = vethHostConf(input)
  const [, ips] = previous(input)
  const [plan] = planFor(conf, host, ips)
  using pod = openPod(input.netns)
  const wrong = wrongLeg(input, host, conf, plan, pod)
  if (wrong !== undefined) throw checkFailed(wrong)
}

function wrongLeg(
  { config, containerId, ifname }: PluginInput,
  host: PluginHost,
  { ifName, gateways }: VethHostConf,
  plan: Plan,
  pod: Pod,
): string | undefined {
  const network = config.name
  const attachment = { containerId, ifname }
  const inside = findLink(pod.netlink, ifName)
  if (inside === undefined) return `there is no interface ${ifName} in ${pod.path}`
  const outside = findVeth(host.netlink, network, attachment)
  if (outside === undefined || kindOf(inside) !== 'veth' || inside.parent !== outside.index)
    return `the host's end of ${ifName} in ${pod.path} is gone`
  if (!inside.up) return `${ifName} in ${pod.path} is down`
  const end = wrongHostEnd(host, outside, plan.ips, inside.mac ?? '')
  if (end !== undefined) return end
  const gateway = wrongGateway(pod.netlink, inside, gateways, plan.families, outside.mac ?? '')
  if (gateway !== undefined) return `${pod.path}: ${gateway}`
  const routes = listRoutes(pod.netlink, { oif: inside.index })
  const lost = plan
    .routes(inside.index)
    .find((route) => !routes.some(({ dst, gateway: via }) => dst === route.dst && via === route.gateway))
  if (lost !== undefined) return `the route to ${lost.dst} over ${ifName} is gone from ${pod.path}`
  return wrongServices(hostNetns(host).nft, network, attachment, plan.sources)
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const { master, what } = vethHostConf(input)
  if (master !== '' && findLink(host.netlink, master) === undefined)
    throw unavailable(`${what}: "master" ${JSON.stringify(master)} is no link of the host`, 'see ip link')
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const network = input.config.name
  const links = staleVeths(host.netlink, network, input.validAttachments)
  const errors = await all([
    ...links.map((link) => () => removeLink(host.netlink, link.index)),
    () => dropStaleServices(hostNetns(host).nft, network, input.validAttachments),
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}
