/** CHECK of the bridge plugin: is everything that ADD made still so? */

import type { PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Interface, Result } from '#cni/result.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { listAddrs } from '#netlink/addr.ts'
import { findLink, kindOf } from '#netlink/link.ts'
import { IFF, type Link } from '#netlink/link-codec.ts'
import { addressesOf, checkInterface } from '../link/configure.ts'
import { hostNetns } from '../link/host-netns.ts'
import type { Pod } from '../link/pod.ts'
import { findVeth } from '../link/veth.ts'
import { notMasqueradedPod } from '../rules/pod-masquerade.ts'
import { isSpoofChecked } from '../rules/spoof-check.ts'
import type { BridgeConf } from './config.ts'
import { withGateways } from './gateways.ts'

/** Throws CniError 100 naming what is wrong. What ADD did not make (later plugins' addresses and routes) is not looked at. */
export async function checkBridge(
  input: PluginInput,
  host: PluginHost,
  pod: Pod,
  conf: BridgeConf,
  result: Result,
): Promise<void> {
  const bridge = checkBridgeLink(host, conf, result)
  const container = checkInterface(pod, result, input.ifname, !conf.disableContainerInterface)
  if (kindOf(container) !== 'veth')
    throw checkFailed(`${input.ifname} in ${pod.path} is a ${kindOf(container)}, not a veth`)
  const index = result.interfaces.findIndex(({ name, sandbox }) => name === input.ifname && sandbox)
  checkGateways(host, conf, { ...result, ips: result.ips.filter((ip) => ip.interface === index) })
  const port = checkPort(input, host, conf, bridge, result, container)
  const { nft } = hostNetns(host)
  if (conf.ipMasq) {
    const addresses = addressesOf(result, index).map(({ address }) => address)
    const missing = await notMasqueradedPod(host, conf.ipMasqBackend, input.config.name, input, addresses)
    if (missing !== undefined) throw checkFailed(`${missing} is not masqueraded any more`)
  }
  if (conf.macspoofchk && container.mac !== undefined) {
    if (!isSpoofChecked(nft, input.config.name, input, port.name, container.mac)) {
      throw checkFailed(`the MAC spoof check of ${port.name} is gone`)
    }
  }
}

function checkBridgeLink(host: PluginHost, conf: BridgeConf, result: Result): Link {
  const link = findLink(host.netlink, conf.bridge)
  if (link === undefined) throw checkFailed(`the bridge ${conf.bridge} is gone`)
  if (kindOf(link) !== 'bridge') throw checkFailed(`${conf.bridge} is a ${kindOf(link)}, not a bridge`)
  if (!link.up) throw checkFailed(`the bridge ${conf.bridge} is down`, `ip link set ${conf.bridge} up`)
  if (hostInterface(result, conf.bridge) === undefined)
    throw checkFailed(`the result of ADD has no interface ${conf.bridge}`)
  if (conf.promiscMode && (link.flags & IFF.PROMISC) === 0) {
    throw checkFailed(`the bridge ${conf.bridge} is not promiscuous`, `ip link set ${conf.bridge} promisc on`)
  }
  return link
}

/** The pod's way out: what its gateway addresses are on. */
function checkGateways(host: PluginHost, conf: BridgeConf, result: Result): void {
  const { addresses } = withGateways(result, conf.isGateway, false)
  if (addresses.length === 0) return
  const name = conf.vlan === 0 ? conf.bridge : `${conf.bridge}.${conf.vlan}`
  const link = findLink(host.netlink, name)
  if (link === undefined) throw checkFailed(`${name}, which has the gateway's address, is gone`)
  const present = listAddrs(host.netlink, { index: link.index }).map(({ address }) => address)
  for (const address of addresses) {
    if (present.includes(address)) continue
    throw checkFailed(`${name} does not have the gateway's address ${address}`, `ip address add ${address} dev ${name}`)
  }
}

const hostInterface = (result: Result, name: string): Interface | undefined =>
  result.interfaces.find((candidate) => candidate.name === name && !candidate.sandbox)

/** The pod's other end: by our mark, or by the name in the result where another implementation made it. */
function checkPort(
  input: PluginInput,
  host: PluginHost,
  conf: BridgeConf,
  bridge: Link,
  result: Result,
  container: Link,
): Link {
  const port =
    findVeth(host.netlink, input.config.name, input) ??
    result.interfaces
      .filter(({ name, sandbox }) => !sandbox && name !== conf.bridge)
      .map(({ name }) => findLink(host.netlink, name))
      .find((link) => link !== undefined && kindOf(link) === 'veth' && link.index === container.parent)
  if (port === undefined) throw checkFailed(`the host's end of ${input.ifname} is gone`)
  if (port.index !== container.parent)
    throw checkFailed(`${port.name} is not the other end of the pod's ${input.ifname}`)
  if (port.master !== bridge.index)
    throw checkFailed(`${port.name} is no port of ${conf.bridge}`, `ip link set ${port.name} master ${conf.bridge}`)
  if (!port.up) throw checkFailed(`${port.name} is down`, `ip link set ${port.name} up`)
  if (conf.hairpinMode && port.port?.hairpin !== true) throw checkFailed(`${port.name} is not in hairpin mode`)
  if (conf.portIsolation && port.port?.isolated !== true) throw checkFailed(`${port.name} is not isolated`)
  return port
}
