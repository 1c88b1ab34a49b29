/** The plugin bridge: a veth pair between the pod and a bridge of the host. Contract: the reference plugin's configuration and result. */

import { isEmptyDns } from '#cni/config.ts'
import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type Interface, type IpConfig, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { familyOf } from '#ip/prefix.ts'
import { findLink, getLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { requireIptables } from '../iptables/nat.ts'
import { allocation } from '../link/allocate.ts'
import { configureInterface, ipOf } from '../link/configure.ts'
import { ensureForwarding, hostNetns } from '../link/host-netns.ts'
import { asksOverLink } from '../link/ipam-link.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { createVeth, removeLink, removeVeth, sendAll, staleVeths, vethName } from '../link/veth.ts'
import { masqueradePod, unmasqueradePod, unmasqueradeStalePods } from '../rules/pod-masquerade.ts'
import { checkSpoofing, dropSpoofCheck, dropStaleSpoofChecks } from '../rules/spoof-check.ts'
import { ensureBridge, ensureGatewayAddresses, neighboursOf } from './bridge-link.ts'
import { checkBridge } from './check.ts'
import { bridgeConf, bridgeNameOf, type BridgeConf } from './config.ts'
import { withGateways } from './gateways.ts'
import { bringUpPort, forwarding, portFlags } from './port.ts'
import { ensureVlanGateway } from './vlan-gateway.ts'

export const bridge: Plugin = { type: 'bridge', versions: specVersions, add, del, check, status, gc }

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = bridgeConf(input)
  // Open for as long as the way back may need it.
  using pod = openPod(input.netns)
  return await undoing(host, (undo) => connect(input, host, conf, pod, undo))
}

async function connect(input: PluginInput, host: PluginHost, conf: BridgeConf, pod: Pod, undo: Undo): Promise<Result> {
  const bridgeLink = ensureBridge(host, conf)
  host.failpoint('bridge.link')
  const { mtu, mac } = conf
  const name = vethName(input, host, pod)
  // Its address goes to disk while the kernel makes the link.
  const { type } = input.config.ipam
  const isOverLink = asksOverLink(type)
  const early = type === '' || isOverLink ? undefined : allocate(input, host, undo)
  // When the link fails first, nobody asks for the addresses any more.
  early?.catch(() => {})
  createVeth(
    input,
    host,
    pod,
    { name, mtu: mtu === 0 ? bridgeLink.mtu : mtu, mac, master: bridgeLink.index, port: portFlags(conf) },
    undo,
  )
  host.failpoint('bridge.linked')
  const inside = getLink(pod.netlink, input.ifname)
  if (isOverLink) await openLink(input, host, conf, { pod, port: name, inside }, undo)
  const ipam = (await (isOverLink ? allocate(input, host, undo) : early)) ?? emptyResult
  const gatewayed = withGateways(ipam, conf.isGateway, conf.isDefaultGateway)
  const { ips, routes } = gatewayed.result
  // All that the host needs comes before the pod's end is up: its first packet meets every rule.
  const gateway = conf.vlan !== 0 && conf.isGateway ? ensureVlanGateway(host, bridgeLink, conf) : undefined
  ensureGatewayAddresses(host, gateway ?? bridgeLink, gatewayed.addresses, conf, undo)
  if (gatewayed.addresses.length > 0) ensureForwarding(host, familiesOf(gatewayed.result))
  if (!isOverLink) await addSpoofCheck(input, host, conf, name, inside, undo)
  await addMasquerade(input, host, conf, ips, undo)
  const neighbours = neighboursOf(
    (gateway ?? bridgeLink).index,
    ips.map((ip) => ipOf(ip.address)),
  )
  if (isOverLink) host.netlink.batch(neighbours)
  else bringUpPort(host, name, conf, neighbours)
  host.failpoint('bridge.up')
  const options = { enableDad: conf.enableDad, carrier: () => forwarding(host, name), fresh: inside }
  if (!conf.disableContainerInterface) await configureInterface(pod, input.ifname, ips, routes, options)
  host.failpoint('bridge.configured')
  const port = conf.disableContainerInterface ? getLink(host.netlink, name) : await forwarding(host, name)
  return {
    interfaces: [
      describe(bridgeLink),
      describe(port),
      describe(inside, pod),
      ...(gateway === undefined ? [] : [describe(gateway)]),
    ],
    ips: ips.map((ip) => ({ ...ip, interface: 2 })),
    routes,
    dns: isEmptyDns(input.config.dns) ? gatewayed.result.dns : input.config.dns,
  }
}

interface Ends {
  readonly pod: Pod
  /** The host's end. */
  readonly port: string
  readonly inside: Link
}

/** Frames pass from here on, because the addresses are asked for over the link. What concerns the link alone is in place before the first. */
async function openLink(
  input: PluginInput,
  host: PluginHost,
  conf: BridgeConf,
  { pod, port, inside }: Ends,
  undo: Undo,
): Promise<void> {
  await addSpoofCheck(input, host, conf, port, inside, undo)
  sendAll(pod.netlink, [setLinkMessage(inside.index, { up: true })])
  bringUpPort(host, port, conf)
  await forwarding(host, port)
  host.failpoint('bridge.open')
}

async function addSpoofCheck(
  input: PluginInput,
  host: PluginHost,
  conf: BridgeConf,
  port: string,
  { mac }: Link,
  undo: Undo,
): Promise<void> {
  if (!conf.macspoofchk || mac === undefined) return
  const { nft } = hostNetns(host)
  host.failpoint('bridge.spoofcheck')
  undo.add('spoof check', () => dropSpoofCheck(nft, input.config.name, input))
  await checkSpoofing(host, input.config.name, input, port, mac)
  host.failpoint('bridge.spoofchecked')
}

async function addMasquerade(
  input: PluginInput,
  host: PluginHost,
  conf: BridgeConf,
  ips: readonly IpConfig[],
  undo: Undo,
): Promise<void> {
  if (!conf.ipMasq || ips.length === 0) return
  const addresses = ips.map((ip) => ip.address)
  host.failpoint('bridge.masquerade')
  undo.add('masquerade', () => unmasqueradePod(host, input.config.name, input))
  await masqueradePod(host, conf.ipMasqBackend, input.config.name, input, addresses)
  host.failpoint('bridge.masqueraded')
}

async function allocate(input: PluginInput, host: PluginHost, undo: Undo): Promise<Result> {
  const result = await allocation(input, host, undo)
  host.failpoint('bridge.allocated')
  if (result.ips.length === 0) throw invalidConfig(`the IPAM plugin ${input.config.ipam.type} gave no address`)
  return { ...result, ips: result.ips.map((ip) => ({ ...ip, interface: 2 })) }
}

const familiesOf = (result: Result): ReadonlySet<4 | 6> => new Set(result.ips.map((ip) => familyOf(ip.address)))

function describe(link: Link, pod?: Pod): Interface {
  return {
    name: link.name,
    ...(link.mac === undefined ? {} : { mac: link.mac }),
    mtu: link.mtu,
    ...(pod === undefined ? {} : { sandbox: pod.path }),
  }
}

/** Every part runs, whatever becomes of the others, and needs neither the namespace nor the previous result. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const { nft } = hostNetns(host)
  const early = asksOverLink(ipam.type) ? await all([() => host.delegate('DEL', ipam.type, input)]) : []
  // The link first: an address may go to another pod only when this one cannot send from it any more.
  host.failpoint('bridge.unlink')
  const link = await all([() => removeVeth(input, host)])
  host.failpoint('bridge.unlinked')
  const errors = await all([
    () => unmasqueradePod(host, name, input),
    () => host.failpoint('bridge.unmasqueraded'),
    () => dropSpoofCheck(nft, name, input),
    () => forget(input, host),
    () => (ipam.type === '' || asksOverLink(ipam.type) ? undefined : host.delegate('DEL', ipam.type, input)),
  ])
  host.failpoint('bridge.released')
  const joined = joinErrors([...early, ...link, ...errors])
  if (joined !== undefined) throw joined
}

function forget(input: PluginInput, host: PluginHost): void {
  const link = findLink(host.netlink, bridgeNameOf(input.config))
  if (link !== undefined && input.prevResult !== undefined) {
    const ips = input.prevResult.ips.map((ip) => ipOf(ip.address))
    host.netlink.batch(neighboursOf(link.index, ips))
  }
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf: BridgeConf = bridgeConf(input)
  if (input.prevResult === undefined)
    throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  if (input.config.ipam.type !== '') await host.delegate('CHECK', input.config.ipam.type, input)
  using pod = openPod(input.netns)
  await checkBridge(input, host, pod, conf, input.prevResult)
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  if (bridgeConf(input).ipMasqBackend === 'iptables') requireIptables('ipMasqBackend')
  if (input.config.ipam.type !== '') await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const { nft } = hostNetns(host)
  const early = asksOverLink(ipam.type) ? await all([() => host.delegate('GC', ipam.type, input)]) : []
  const links = await all(
    staleVeths(host.netlink, name, input.validAttachments).map((link) => () => removeLink(host.netlink, link.index)),
  )
  const errors = await all([
    () => unmasqueradeStalePods(host, name, input.validAttachments),
    () => dropStaleSpoofChecks(nft, name, input.validAttachments),
    () => (ipam.type === '' || asksOverLink(ipam.type) ? undefined : host.delegate('GC', ipam.type, input)),
  ])
  const joined = joinErrors([...early, ...links, ...errors])
  if (joined !== undefined) throw joined
}
