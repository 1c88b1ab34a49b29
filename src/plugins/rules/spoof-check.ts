/** `macspoofchk`: a bridge port may send only with the MAC address of its pod. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { MacText } from '#ip/text.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ensureTable } from '#nft/ensure.ts'
import type { Table } from '#nft/table.ts'
import { hostNetns } from '../link/host-netns.ts'
import { dropOwned, dropStale, firstMissing, noteOf, OWNED, putOwned, type OwnedElement } from './owned.ts'

/** Before everything else on a bridge: NF_BR_PRI_NAT_DST_BRIDGED (linux/netfilter_bridge.h). */
const PRIORITY = -300

export const spoofTable: Table = {
  family: 'bridge',
  name: 'heddle_cni_spoof',
  comment: 'MAC spoof check of CNI attachments (macspoofchk)',
  sets: [
    { name: 'checked', key: ['ifname'], comment: OWNED },
    { name: 'allowed', key: ['ifname', 'ether_addr'], comment: OWNED },
  ],
  chains: [
    {
      name: 'prerouting',
      base: { type: 'filter', hook: 'prerouting', priority: PRIORITY },
      rules: [
        { text: 'iifname . ether saddr @allowed accept', owner: 'macspoofchk', reason: "the pod's own address" },
        { text: 'iifname @checked drop', owner: 'macspoofchk', reason: 'any other address on a checked port' },
      ],
    },
  ],
}

const elementsOf = (port: string, mac: MacText): readonly OwnedElement[] => [
  { set: 'allowed', key: [port, mac] },
  { set: 'checked', key: [port] },
]

/** From now on the port forwards only frames with this source. */
export async function checkSpoofing(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  port: string,
  mac: MacText,
): Promise<void> {
  const { nft } = hostNetns(host)
  const elements = elementsOf(port, mac)
  await ensureTable(nft, spoofTable)
  putOwned(nft, spoofTable, network, attachment, elements)
  host.rules?.push(noteOf(spoofTable, elements))
}

export const dropSpoofCheck = (socket: NetlinkSocket, network: string, attachment: Attachment): void =>
  void dropOwned(socket, spoofTable, network, attachment)

export const dropStaleSpoofChecks = (socket: NetlinkSocket, network: string, valid: readonly Attachment[]): void =>
  void dropStale(socket, spoofTable, network, valid)

export const isSpoofChecked = (
  socket: NetlinkSocket,
  network: string,
  attachment: Attachment,
  port: string,
  mac: MacText,
): boolean => firstMissing(socket, spoofTable, network, attachment, elementsOf(port, mac)) === undefined
