/** The host's end of a pod's link as a port of the bridge. */

import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'

import { tryAgain } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { bridgeVlanMessage, getLink, listBridgeVlans, setLinkMessage, type BridgeVlan } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { BridgePort } from '#netlink/link-kinds.ts'
import type { Message } from '#netlink/message.ts'
import { hasCode } from '#sys/errno.ts'
import { sendAll } from '../link/veth.ts'
import { noVlans } from './bridge-link.ts'
import type { BridgeConf } from './config.ts'

type VlanConf = Pick<BridgeConf, 'vlan' | 'vlanTrunk' | 'preserveDefaultVlan'>

/** The port's flags; undefined where the kernel's defaults are wanted. */
export function portFlags({ hairpinMode, portIsolation }: BridgeConf): BridgePort | undefined {
  if (!hairpinMode && !portIsolation) return undefined
  return { ...(hairpinMode ? { hairpin: true } : {}), ...(portIsolation ? { isolated: true } : {}) }
}

/** The port's VLANs, then up: before that no frame passes. `optional` goes along, whatever becomes of it. */
export function bringUpPort(host: PluginHost, name: string, conf: BridgeConf, optional: readonly Message[] = []): void {
  if (conf.vlan !== 0 || conf.vlanTrunk.length > 0) setVlans(host, getLink(host.netlink, name).index, conf)
  sendAll(host.netlink, [setLinkMessage(name, { up: true })], undefined, optional)
}

/** Throws CniError 2 on a kernel without VLAN filtering. */
export function setVlans(host: PluginHost, index: number, conf: VlanConf): void {
  const present = listBridgeVlans(host.netlink).get(index) ?? []
  try {
    sendAll(host.netlink, vlanMessages(index, conf, present))
  } catch (error) {
    if (hasCode(error, 'EOPNOTSUPP', 'EINVAL')) throw noVlans()
    throw error
  }
}

/** Pure: what the kernel put on the new port goes, unless it shall stay; then the configured VLANs come. */
export function vlanMessages(index: number, conf: VlanConf, present: readonly BridgeVlan[]): readonly Message[] {
  return [
    ...(conf.preserveDefaultVlan ? [] : present.map((vlan) => bridgeVlanMessage('delete', index, vlan))),
    ...wantedVlans(conf).map((vlan) => bridgeVlanMessage('add', index, vlan)),
  ]
}

/** `vlan` is native and untagged; the trunk's are tagged; a trunk without `vlan` has VLAN 1 as its native one. */
export function wantedVlans({ vlan, vlanTrunk }: VlanConf): readonly BridgeVlan[] {
  const native = vlan !== 0 ? vlan : vlanTrunk.length > 0 ? 1 : 0
  const tagged = vlanTrunk.filter((id) => id !== native).map((id) => ({ id, pvid: false, untagged: false }))
  return native === 0 ? tagged : [...tagged, { id: native, pvid: true, untagged: true }]
}

const FORWARDING = 3
const DEADLINE_MS = 3000

/**
 * Waits until the bridge forwards for the port, which the kernel decides on in a work item moments after both ends are up. Throws CniError 11 after
 * three seconds.
 */
export async function forwarding(host: PluginHost, name: string): Promise<Link> {
  const deadline = performance.now() + DEADLINE_MS
  for (let tries = 0; ; tries++) {
    const link = getLink(host.netlink, name)
    if (link.operState === 'up' && (link.port?.state === undefined || link.port.state === FORWARDING)) return link
    if (performance.now() > deadline) {
      throw tryAgain(
        `bridge port ${name} does not forward after ${DEADLINE_MS} ms: it is ${link.operState}, port state ${link.port?.state}`,
        'is spanning tree on, or was a link set down by somebody else?',
      )
    }
    await (tries < 20 ? turn() : sleep(1))
  }
}
