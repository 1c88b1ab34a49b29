/** The plugin ptp: a veth pair between the pod and the host, routed, without a bridge. Contract: the reference plugin's configuration and result. */

import * as v from 'valibot'

import { isEmptyDns } from '#cni/config.ts'
import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type IpConfig, type Result, type RouteConfig } from '#cni/result.ts'
import { intSchema, parseWith } from '#cni/schema.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { addToIp, formatIp, parseIp } from '#ip/address.ts'
import { familyOf, formatCidr, hostCidr, ipNetOf, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { addrMessage } from '#netlink/addr.ts'
import { getLink, kindOf, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import { requireIptables } from '../iptables/nat.ts'
import { allocation } from '../link/allocate.ts'
import { checkInterface, configureInterface, ipOf } from '../link/configure.ts'
import { ensureForwarding, hostNetns, withoutDad, writeSysctls } from '../link/host-netns.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { createVeth, findVeth, removeLink, removeVeth, sendAll, staleVeths, vethName } from '../link/veth.ts'
import { masqueradePod, notMasqueradedPod, unmasqueradePod, unmasqueradeStalePods } from '../rules/pod-masquerade.ts'

export const ptp: Plugin = { type: 'ptp', versions: specVersions, add, del, check, status, gc }

const schema = v.object({
  ipMasq: v.nullish(v.boolean(), false),
  ipMasqBackend: v.nullish(v.picklist(['iptables', 'nftables', '']), ''),
  mtu: v.nullish(intSchema(0, 65_535), 0),
})

/** Throws CniError 7. */
function ptpConf(input: PluginInput): v.InferOutput<typeof schema> {
  const what = `ptp configuration of network ${JSON.stringify(input.config.name)}`
  if (input.config.ipam.type === '')
    throw invalidConfig(`${what} has no "ipam"`, 'a routed link cannot do without addresses')
  return parseWith(schema, input.config.raw, what)
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = ptpConf(input)
  // Open for as long as the way back may need it.
  using pod = openPod(input.netns)
  return await undoing(host, (undo) => connect(input, host, conf, pod, undo))
}

async function connect(
  input: PluginInput,
  host: PluginHost,
  conf: v.InferOutput<typeof schema>,
  pod: Pod,
  undo: Undo,
): Promise<Result> {
  const name = vethName(input, host, pod)
  createVeth(input, host, pod, { name, mtu: conf.mtu }, undo)
  host.failpoint('ptp.linked')
  const ipam = await allocate(input, host, undo)
  ensureForwarding(host, new Set(ipam.ips.map(({ address }) => familyOf(address))))
  const port = setUpHostEnd(host, name, ipam.ips)
  host.failpoint('ptp.up')
  const container = await configureInterface(pod, input.ifname, ipam.ips, ipam.routes, {
    enableDad: false,
    noPrefixRoute: true,
    firstRoutes: ipam.ips.flatMap(ownRoutes),
  })
  host.failpoint('ptp.configured')
  if (conf.ipMasq) {
    undo.add('masquerade', () => unmasqueradePod(host, input.config.name, input))
    await masqueradePod(
      host,
      conf.ipMasqBackend,
      input.config.name,
      input,
      ipam.ips.map(({ address }) => address),
    )
    host.failpoint('ptp.masqueraded')
  }
  const macOf = ({ mac }: Link) => (mac === undefined ? {} : { mac })
  return {
    interfaces: [
      { name: port.name, ...macOf(port), mtu: port.mtu },
      { name: container.name, ...macOf(container), mtu: container.mtu, sandbox: pod.path },
    ],
    ips: ipam.ips.map((ip) => ({ ...ip, interface: 1 })),
    routes: ipam.routes,
    dns: isEmptyDns(input.config.dns) ? ipam.dns : input.config.dns,
  }
}

async function allocate(input: PluginInput, host: PluginHost, undo: Undo): Promise<Result> {
  const { type } = input.config.ipam
  const result = await allocation(input, host, undo)
  host.failpoint('ptp.allocated')
  if (result.ips.length === 0) throw invalidConfig(`the IPAM plugin ${type} gave no address`)
  return { ...emptyResult, ...result, ips: result.ips.map((ip) => ({ ...ip, interface: 1, gateway: gatewayOf(ip) })) }
}

const gatewayOf = (ip: IpConfig): IpText => ip.gateway ?? formatIp(addToIp(networkOf(parseIpNet(ip.address)).ip, 1))

const hostRoute = (ip: IpText): CidrText => formatCidr(hostCidr(parseIp(ip)))

const LINK_SCOPE = 253

/** The gateway is reached over the link, and the subnet over the gateway: nothing but the host is a neighbour. */
function ownRoutes(ip: IpConfig): readonly RouteConfig[] {
  const gw = gatewayOf(ip)
  const subnet = formatCidr(networkOf(parseIpNet(ip.address)))
  return [
    { dst: hostRoute(gw), ...(familyOf(gw) === 4 ? { scope: LINK_SCOPE } : {}) },
    { dst: subnet, gw },
  ]
}

/** The host's end: up, the gateway as an address of its own, and a route to the pod. */
function setUpHostEnd(host: PluginHost, name: string, ips: readonly IpConfig[]): Link {
  const { index } = getLink(host.netlink, name)
  writeSysctls(hostNetns(host).fd, withoutDad(name))
  const gateways = [...new Set(ips.map(gatewayOf))]
  sendAll(host.netlink, [
    setLinkMessage(index, { up: true }),
    ...gateways.map((gateway) =>
      addrMessage('add', {
        index,
        address: ipNetOf(gateway, familyOf(gateway) === 4 ? 32 : 128),
        nodad: familyOf(gateway) === 6,
      }),
    ),
    ...ips.map(({ address }) => routeMessage('replace', { dst: hostRoute(ipOf(address)), oif: index })),
  ])
  return getLink(host.netlink, index)
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const link = await all([() => removeVeth(input, host)])
  host.failpoint('ptp.unlinked')
  const errors = await all([
    () => unmasqueradePod(host, name, input),
    () => (ipam.type === '' ? undefined : host.delegate('DEL', ipam.type, input)),
  ])
  host.failpoint('ptp.released')
  const joined = joinErrors([...link, ...errors])
  if (joined !== undefined) throw joined
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = ptpConf(input)
  const { prevResult, config } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  await host.delegate('CHECK', config.ipam.type, input)
  using pod = openPod(input.netns)
  const container = checkInterface(pod, prevResult, input.ifname)
  if (kindOf(container) !== 'veth')
    throw checkFailed(`${input.ifname} in ${pod.path} is a ${kindOf(container)}, not a veth`)
  const port = findVeth(host.netlink, config.name, input) ?? portOf(host, container)
  if (port === undefined || port.index !== container.parent)
    throw checkFailed(`the host's end of ${input.ifname} is gone`)
  if (!port.up) throw checkFailed(`${port.name} is down`, `ip link set ${port.name} up`)
  const index = prevResult.interfaces.findIndex(({ name, sandbox }) => name === input.ifname && sandbox)
  const addresses = prevResult.ips.filter((ip) => ip.interface === index).map(({ address }) => address)
  const routed = new Set(listRoutes(host.netlink, { oif: port.index }).map(({ dst }) => dst))
  for (const address of addresses) {
    if (!routed.has(hostRoute(ipOf(address))))
      throw checkFailed(`the host's route to ${address} over ${port.name} is gone`)
  }
  if (!conf.ipMasq) return
  const missing = await notMasqueradedPod(host, conf.ipMasqBackend, config.name, input, addresses)
  if (missing !== undefined) throw checkFailed(`${missing} is not masqueraded any more`)
}

/** The other end of a link that another implementation made. */
function portOf(host: PluginHost, container: Link): Link | undefined {
  if (container.parent === undefined) return undefined
  try {
    return getLink(host.netlink, container.parent)
  } catch {
    return undefined
  }
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  if (ptpConf(input).ipMasqBackend === 'iptables') requireIptables('ipMasqBackend')
  await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const links = await all(
    staleVeths(host.netlink, name, input.validAttachments).map((link) => () => removeLink(host.netlink, link.index)),
  )
  const errors = await all([
    () => unmasqueradeStalePods(host, name, input.validAttachments),
    () => (ipam.type === '' ? undefined : host.delegate('GC', ipam.type, input)),
  ])
  const joined = joinErrors([...links, ...errors])
  if (joined !== undefined) throw joined
}
