/** The bridge itself: made when it is missing, shared by all pods of its networks. */

import { randomBytes } from 'node:crypto'

import { invalidConfig, unsupportedField } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { localMac } from '#ip/mac.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpNetText, IpText } from '#ip/text.ts'
import { deleteAddr, listAddrs, replaceAddr } from '#netlink/addr.ts'
import { createLink, findLink, getLink, kindOf, setLink } from '#netlink/link.ts'
import { IFF, type Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import { neighMessage } from '#netlink/neigh.ts'
import { hasCode } from '#sys/errno.ts'
import { distrustful, hostNetns, withoutDad, writeSysctls } from '../link/host-netns.ts'
import type { Undo } from '../link/undo.ts'
import type { BridgeConf } from './config.ts'
import { conflictsOf } from './gateways.ts'

/**
 * The bridge, up. Like `ip link add NAME type bridge`. Throws CniError 7 when the name belongs to another kind of link, 2 when the kernel's bridges know no VLANs.
 * It gets a MAC address of its own at once, or it would change with the ports that come and go.
 */
export function ensureBridge(host: PluginHost, conf: BridgeConf): Link {
  const found = findLink(host.netlink, conf.bridge) ?? createBridge(host, conf)
  if (kindOf(found) !== 'bridge') {
    throw invalidConfig(
      `"bridge" ${JSON.stringify(conf.bridge)} is a ${kindOf(found) ?? 'device'}, not a bridge`,
      'choose another name, or remove that link',
    )
  }
  const promisc = conf.promiscMode && (found.flags & IFF.PROMISC) === 0
  if (found.up && !promisc) return found
  writeSysctls(hostNetns(host).fd, distrustful(conf.bridge))
  setLink(host.netlink, found.index, { up: true, ...(promisc ? { promisc: true } : {}) })
  return getLink(host.netlink, found.index)
}

function createBridge(host: PluginHost, conf: BridgeConf): Link {
  const vlans = conf.vlan !== 0 || conf.vlanTrunk.length > 0
  host.failpoint('bridge.create')
  try {
    createLink(host.netlink, {
      name: conf.bridge,
      mac: localMac(randomBytes(6)),
      ...(conf.mtu === 0 ? {} : { mtu: conf.mtu }),
      info: { kind: 'bridge', data: vlans ? { vlanFiltering: true } : {} },
    })
  } catch (error) {
    if (vlans && hasCode(error, 'EOPNOTSUPP', 'EINVAL')) throw noVlans()
    // Another ADD was faster.
    if (!hasCode(error, 'EEXIST')) throw error
  }
  writeSysctls(hostNetns(host).fd, withoutDad(conf.bridge))
  host.failpoint('bridge.created')
  return getLink(host.netlink, conf.bridge)
}

/** The kernel was built without CONFIG_BRIDGE_VLAN_FILTERING. */
export const noVlans = () =>
  unsupportedField(
    '"vlan" and "vlanTrunk" need a bridge that filters VLANs, and this kernel has none',
    'use a kernel with CONFIG_BRIDGE_VLAN_FILTERING, or leave these fields out',
  )

/** Gives a link of the host (the bridge, or a VLAN's gateway port) its gateway addresses. Throws CniError 7 for a conflict that the configuration does not settle. */
export function ensureGatewayAddresses(
  host: PluginHost,
  link: Link,
  wanted: readonly IpNetText[],
  conf: Pick<BridgeConf, 'forceAddress'>,
  undo: Undo,
): void {
  if (wanted.length === 0) return
  const present = listAddrs(host.netlink, { index: link.index }).map((addr) => addr.address)
  for (const address of wanted) {
    if (present.includes(address)) continue
    for (const conflict of conflictsOf(address, present)) {
      if (!conf.forceAddress) throw addressConflict(link.name, conflict, address)
      deleteAddr(host.netlink, { index: link.index, address: conflict })
      undo.add(`address ${conflict}`, () => replaceAddr(host.netlink, { index: link.index, address: conflict }))
    }
    host.failpoint('bridge.address')
    replaceAddr(host.netlink, { index: link.index, address, nodad: familyOf(address) === 6 })
    host.failpoint('bridge.addressed')
  }
}

const addressConflict = (name: string, has: IpNetText, wanted: IpNetText) =>
  invalidConfig(
    `${JSON.stringify(name)} already has an IP address different from ${wanted}: ${has}`,
    `the subnet of this node has changed: set "forceAddress", or when no pod uses the old subnet any more: ip address delete ${has} dev ${name}`,
  )

/** Forgets what the host remembers of an address's last owner, and would send its packets to: a MAC address that is gone. Missing entries are fine. */
export const neighboursOf = (index: number, ips: readonly IpText[]): readonly Message[] =>
  ips.map((ip) => neighMessage('delete', { index, ip }))
