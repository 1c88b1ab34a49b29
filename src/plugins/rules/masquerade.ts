/**
 * Masquerade of pods (`ipMasq`): what a pod sends outside its own subnet leaves with the host's address.
 *
 * One table for all networks, its structure always the same; a pod is an element of two sets, and both name their owner.
 */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { IpNetText } from '#ip/text.ts'
import { formatIp } from '#ip/address.ts'
import { formatCidr, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ensureTable } from '#nft/ensure.ts'
import { hookPriority, type Table } from '#nft/table.ts'
import { hostNetns } from '../link/host-netns.ts'
import { dropOwned, dropStale, firstMissing, noteOf, OWNED, putOwned, type OwnedElement } from './owned.ts'

const rule = (text: string, reason: string) => ({ text, owner: 'masquerade', reason })

export const masqueradeTable: Table = {
  family: 'inet',
  name: 'heddle_cni_masq',
  comment: 'masquerade of CNI attachments (ipMasq)',
  sets: [
    { name: 'pods4', key: ['ipv4_addr'], comment: OWNED },
    { name: 'pods6', key: ['ipv6_addr'], comment: OWNED },
    { name: 'own4', key: ['ipv4_addr', 'ipv4_addr'], flags: ['interval'], comment: OWNED },
    { name: 'own6', key: ['ipv6_addr', 'ipv6_addr'], flags: ['interval'], comment: OWNED },
  ],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: hookPriority.srcnat },
      rules: [
        rule('ip saddr @pods4 goto masq4', 'traffic of a pod'),
        rule('ip6 saddr @pods6 goto masq6', 'traffic of a pod'),
      ],
    },
    {
      name: 'masq4',
      rules: [
        rule('ip daddr 224.0.0.0/4 return', 'multicast keeps its source'),
        rule('ip saddr . ip daddr @own4 return', "to the pod's own subnet"),
        rule('masquerade', 'to the outside'),
      ],
    },
    {
      name: 'masq6',
      rules: [
        rule('ip6 daddr ff00::/8 return', 'multicast keeps its source'),
        rule('ip6 saddr . ip6 daddr @own6 return', "to the pod's own subnet"),
        rule('masquerade', 'to the outside'),
      ],
    },
  ],
}

function elementsOf(address: IpNetText): readonly OwnedElement[] {
  const net = parseIpNet(address)
  const ip = formatIp(net.ip)
  return [
    { set: `own${net.ip.family}`, key: [ip, formatCidr(networkOf(net))] },
    { set: `pods${net.ip.family}`, key: [ip] },
  ]
}

/** Masquerades these addresses of an attachment from now on. */
export async function masquerade(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  addresses: readonly IpNetText[],
): Promise<void> {
  const { nft } = hostNetns(host)
  const elements = addresses.flatMap(elementsOf)
  await ensureTable(nft, masqueradeTable)
  putOwned(nft, masqueradeTable, network, attachment, elements)
  host.rules?.push(noteOf(masqueradeTable, elements))
}

export const unmasquerade = (socket: NetlinkSocket, network: string, attachment: Attachment): void =>
  void dropOwned(socket, masqueradeTable, network, attachment)

export const unmasqueradeStale = (socket: NetlinkSocket, network: string, valid: readonly Attachment[]): void =>
  void dropStale(socket, masqueradeTable, network, valid)

/** The address that is not masqueraded though it should be. */
export function notMasqueraded(
  socket: NetlinkSocket,
  network: string,
  attachment: Attachment,
  addresses: readonly IpNetText[],
): string | undefined {
  const missing = firstMissing(socket, masqueradeTable, network, attachment, addresses.flatMap(elementsOf))
  return missing === undefined ? undefined : String(missing.key[0])
}
