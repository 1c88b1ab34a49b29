/**
 * The plugin neutron-veth: a routed veth pair for a pod whose address is valid at the node's own port of an OpenStack network. The pod sends all it has to a link-local
 * gateway; the network reaches it through the node, whose card answers for it.
 */

import { isEmptyDns } from '#cni/config.ts'
import { invalidConfig, joinErrors, unavailable } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result, RouteConfig } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { familyOf, ipNetOf } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { findLink, getLink, kindOf } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { allocation } from '../link/allocate.ts'
import { checkInterface, configureInterface, ipOf } from '../link/configure.ts'
import {
  forwardFor,
  gatewayNeighbours,
  hostRoute,
  legMacs,
  setUpHostEnd,
  wrongGateway,
  wrongHostEnd,
  type Gateways,
} from '../link/leg.ts'
import { checkMtu, masterOf } from '../link/master.ts'
import { factsOf, mtuFor, nodeAddresses } from '../link/node-address.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { record, staleRecords } from '../link/pod-link.ts'
import { readRecord, removeRecord, type LinkRecord } from '../link/record.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { createVeth, findVeth, removeLink, removeVeth, sendAll, staleVeths, vethName } from '../link/veth.ts'
import { announce } from './announce.ts'
import { neutronVethConf, type NeutronVethConf } from './config.ts'
import { dropProxies, lockShared, putProxies, readyCard, TYPE, wrongProxies } from './proxies.ts'
import { dropDummy, ensureDummy } from './shared-dummy.ts'

export const neutronVeth: Plugin = { type: TYPE, versions: specVersions, add, del, check, status, gc }

/** The card that the pods' network is on. Throws CniError 7. */
function cardOf(conf: NeutronVethConf, input: PluginInput, host: PluginHost): Link {
  const name = conf.master === '' ? (factsOf(input.config, host.root)?.node.interface ?? '') : conf.master
  return masterOf(host.netlink, name, conf.what, 'the host')
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = neutronVethConf(input)
  // Open for as long as the way back may need it.
  using pod = openPod(input.netns)
  return await undoing(host, (undo) => connect(input, host, conf, pod, undo))
}

async function connect(
  input: PluginInput,
  host: PluginHost,
  conf: NeutronVethConf,
  pod: Pod,
  undo: Undo,
): Promise<Result> {
  const network = input.config.name
  const name = vethName(input, host, pod)
  if (conf.master !== '') cardOf(conf, input, host)
  const ipam = await allocate(input, host, conf, undo)
  // Not before: neutron-ipam alone may learn only with its first address what the card and the network are.
  const card = cardOf(conf, input, host)
  if (conf.mtu !== 0) checkMtu(conf.mtu, card, conf.what)
  const facts = factsOf(input.config, host.root)
  const ips = ipam.ips.map(({ address }) => ipOf(address))
  const families = new Set(ips.map((ip) => familyOf(ip)))
  const macs = legMacs(network, input)
  const mtu = mtuFor(conf.mtu, card, facts, ips)
  createVeth(input, host, pod, { name, mtu, mac: macs.pod, hostMac: macs.host }, undo)
  host.failpoint('neutron-veth.linked')
  forwardFor(host, card.name, families)
  const outside = getLink(host.netlink, name)
  setUpHostEnd(host, outside, ips, macs.pod, nodeAddresses(host, card, facts))
  host.failpoint('neutron-veth.up')
  const inside = await configureInterface(pod, input.ifname, ipam.ips, ipam.routes, {
    enableDad: false,
    noPrefixRoute: true,
    firstRoutes: families.has(4) ? [{ dst: hostRoute(conf.gateways[4]), scope: LINK_SCOPE }] : [],
  })
  sendAll(pod.netlink, gatewayNeighbours(inside.index, conf.gateways, families, macs.host))
  host.failpoint('neutron-veth.configured')
  await share(input, host, conf, pod, card, ips, undo)
  if (conf.announce) announce(host, card.name, name, ips)
  return {
    ...ipam,
    interfaces: [
      { name, mac: macs.host, mtu: outside.mtu },
      { name: inside.name, mac: macs.pod, mtu: inside.mtu, sandbox: pod.path },
    ],
  }
}

const LINK_SCOPE = 253

const DEFAULT: Readonly<Record<4 | 6, CidrText>> = { 4: '0.0.0.0/0' as CidrText, 6: '::/0' as CidrText }

async function allocate(input: PluginInput, host: PluginHost, conf: NeutronVethConf, undo: Undo): Promise<Result> {
  const { type } = input.config.ipam
  const result = await allocation(input, host, undo)
  host.failpoint('neutron-veth.allocated')
  if (result.ips.length === 0) throw invalidConfig(`the IPAM plugin ${type} gave no address`)
  const ips = [...new Set(result.ips.map(({ address }) => ipOf(address)))]
  return {
    interfaces: [],
    ips: ips.map((ip) => ({
      address: ipNetOf(ip, familyOf(ip) === 4 ? 32 : 128),
      gateway: conf.gateways[familyOf(ip)],
      interface: 1,
    })),
    routes: routesOf(result.routes, conf.gateways, new Set(ips.map((ip) => familyOf(ip)))),
    dns: isEmptyDns(input.config.dns) ? result.dns : input.config.dns,
  }
}

/** All that IPAM wants, and a default, through the host: the subnet's own gateway is no neighbour of the pod. */
function routesOf(
  wanted: readonly RouteConfig[],
  gateways: Gateways,
  families: ReadonlySet<4 | 6>,
): readonly RouteConfig[] {
  const own = wanted
    .filter(({ dst }) => families.has(familyOf(dst)))
    .map((route) => ({ ...route, gw: gateways[familyOf(route.dst)] }))
  const missing = [...families].filter((family) => !own.some(({ dst }) => dst === DEFAULT[family]))
  return [...own, ...missing.map((family) => ({ dst: DEFAULT[family], gw: gateways[family] }))]
}

/** What outlives the pod's link, after it is written down. */
async function share(
  input: PluginInput,
  host: PluginHost,
  conf: NeutronVethConf,
  pod: Pod,
  card: Link,
  ips: readonly IpText[],
  undo: Undo,
): Promise<void> {
  if (!conf.proxyNeighbours && conf.dummy === '') return
  const proxied = conf.proxyNeighbours ? ips : []
  using _lock = await lockShared(host)
  const shared = conf.dummy === '' ? {} : { shared: conf.dummy }
  record({ plugin: TYPE, input, host, pod, undo }, { proxied: { card: card.name, ips: [...proxied] }, ...shared })
  undo.add('what pods share', () => unshare(host, readRecord(host, input.config.name, input)))
  host.failpoint('neutron-veth.recorded')
  if (conf.dummy !== '') ensureDummy(host, conf.dummy, conf.gateways[4], conf.what)
  if (proxied.length > 0) {
    readyCard(host, card.name, new Set(ips.map((ip) => familyOf(ip))))
    putProxies(host, card, proxied)
  }
  host.failpoint('neutron-veth.shared')
}

/** Takes away what a record tells of, then the record. */
async function unshare(host: PluginHost, known: LinkRecord | undefined): Promise<void> {
  if (known === undefined) return
  using _lock = await lockShared(host)
  dropProxies(host, known)
  await dropDummy(host, known)
  removeRecord(host, known.network, known)
}

/** First nobody is led here any more, then the pod cannot send any more; its address may go to another pod after that. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const errors = await all([() => unshare(host, readRecord(host, name, input))])
  host.failpoint('neutron-veth.unshared')
  const link = await all([() => removeVeth(input, host)])
  host.failpoint('neutron-veth.unlinked')
  const release = await all([() => (ipam.type === '' ? undefined : host.delegate('DEL', ipam.type, input))])
  host.failpoint('neutron-veth.released')
  const joined = joinErrors([...errors, ...link, ...release])
  if (joined !== undefined) throw joined
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = neutronVethConf(input)
  const { prevResult, config } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  await host.delegate('CHECK', config.ipam.type, input)
  using pod = openPod(input.netns)
  const inside = checkInterface(pod, prevResult, input.ifname)
  if (kindOf(inside) !== 'veth') throw checkFailed(`${input.ifname} in ${pod.path} is a ${kindOf(inside)}, not a veth`)
  const outside = findVeth(host.netlink, config.name, input)
  if (outside === undefined || outside.index !== inside.parent)
    throw checkFailed(`the host's end of ${input.ifname} is gone`)
  const at = prevResult.interfaces.findIndex(({ name, sandbox }) => name === input.ifname && sandbox)
  const ips = prevResult.ips.filter((ip) => ip.interface === at).map(({ address }) => ipOf(address))
  const families = new Set(ips.map((ip) => familyOf(ip)))
  const wrong =
    wrongGateway(pod.netlink, inside, conf.gateways, families, outside.mac ?? '') ??
    wrongHostEnd(host, outside, ips, inside.mac ?? '') ??
    (conf.proxyNeighbours ? wrongProxies(host, cardOf(conf, input, host), ips) : undefined) ??
    (conf.dummy === '' || findLink(host.netlink, conf.dummy)?.up === true ? undefined : `${conf.dummy} is gone or down`)
  if (wrong !== undefined) throw checkFailed(wrong)
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const { master, what } = neutronVethConf(input)
  if (master !== '' && findLink(host.netlink, master) === undefined)
    throw unavailable(`${what}: "master" ${JSON.stringify(master)} is no link of the host`, 'see ip link')
  await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const shared = await all(staleRecords(input, host, TYPE).map((known) => () => unshare(host, known)))
  const links = await all(
    staleVeths(host.netlink, name, input.validAttachments).map((link) => () => removeLink(host.netlink, link.index)),
  )
  const release = await all([() => (ipam.type === '' ? undefined : host.delegate('GC', ipam.type, input))])
  const joined = joinErrors([...shared, ...links, ...release])
  if (joined !== undefined) throw joined
}
