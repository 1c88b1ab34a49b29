/**
 * Source addresses of pods whose services are reached through the host and whose other traffic bypasses it (veth-host).
 *
 * What such a pod sends to a service is rewritten by the host, so the answer has to come back to the host, and the node's address brings it there. With the pod's own
 * one a backend elsewhere answers past the node's connection tracking, or the network refuses the packet at the node's port; a pod of the same node answers on its own link.
 * No packet mark is used: that a service was meant is read off the conntrack entry.
 */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { familyOf } from '#ip/prefix.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ensureTable, isAsWanted } from '#nft/ensure.ts'
import { hookPriority, type Table } from '#nft/table.ts'
import { hostNetns } from '../link/host-netns.ts'
import { dropOwned, dropStale, firstMissing, noteOf, OWNED, putOwned, type OwnedElement } from './owned.ts'

const rule = (text: string, reason: string) => ({ text, owner: 'veth-host', reason })

export const serviceTable: Table = {
  family: 'inet',
  name: 'heddle_cni_services',
  comment: 'service traffic of pods beside the host (veth-host)',
  sets: [
    // The pod's address, and the node's that its service traffic leaves with.
    { name: 'pods4', key: ['ipv4_addr'], data: ['ipv4_addr'], comment: OWNED },
    { name: 'pods6', key: ['ipv6_addr'], data: ['ipv6_addr'], comment: OWNED },
    { name: 'stack4', key: ['ipv4_addr', 'ipv4_addr'], flags: ['interval'], comment: OWNED },
    { name: 'stack6', key: ['ipv6_addr', 'ipv6_addr'], flags: ['interval'], comment: OWNED },
  ],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: hookPriority.srcnat },
      rules: [
        rule('meta nfproto ipv4 ct status dnat snat ip to ip saddr map @pods4', 'to a service'),
        rule('meta nfproto ipv6 ct status dnat snat ip6 to ip6 saddr map @pods6', 'to a service'),
        rule('ip saddr . ip daddr @stack4 snat ip to ip saddr map @pods4', "to what is behind the host's stack"),
        rule('ip6 saddr . ip6 daddr @stack6 snat ip6 to ip6 saddr map @pods6', "to what is behind the host's stack"),
      ],
    },
  ],
}

/** One address of a pod: the node's of the same family, and the networks that it reaches through the host besides services. */
export interface ServiceSource {
  readonly pod: IpText
  readonly node: IpText
  readonly stack: readonly CidrText[]
}

/** The map last: what it names is what the rules change. */
const elementsOf = ({ pod, node, stack }: ServiceSource): readonly OwnedElement[] => [
  ...stack.map((cidr) => ({ set: `stack${familyOf(pod)}`, key: [pod, cidr] })),
  { set: `pods${familyOf(pod)}`, key: [pod], data: [node] },
]

/** From now on service traffic of these addresses leaves with the node's. */
export async function sourceServices(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  sources: readonly ServiceSource[],
): Promise<void> {
  const { nft } = hostNetns(host)
  const elements = sources.flatMap(elementsOf)
  await ensureTable(nft, serviceTable)
  putOwned(nft, serviceTable, network, attachment, elements)
  host.rules?.push(noteOf(serviceTable, elements))
}

export const dropServices = (socket: NetlinkSocket, network: string, attachment: Attachment): void =>
  void dropOwned(socket, serviceTable, network, attachment)

export const dropStaleServices = (socket: NetlinkSocket, network: string, valid: readonly Attachment[]): void =>
  void dropStale(socket, serviceTable, network, valid)

/** What is wrong with it, in words. */
export function wrongServices(
  socket: NetlinkSocket,
  network: string,
  attachment: Attachment,
  sources: readonly ServiceSource[],
): string | undefined {
  if (sources.length === 0) return undefined
  const missing = firstMissing(socket, serviceTable, network, attachment, sources.flatMap(elementsOf))
  if (missing !== undefined)
    return `the set ${missing.set} of the table ${serviceTable.name} has no element ${missing.key.join(' . ')} of this attachment`
  return isAsWanted(socket, serviceTable) ? undefined : `the table inet ${serviceTable.name} is not as it was made`
}
