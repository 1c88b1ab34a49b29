/**
 * What a pod sends is limited on a device of its own (an ifb), to which the host's end of its link hands every packet: only what a device sends can wait. It bears
 * the mark of its attachment as its alias.
 */

import { createHash } from 'node:crypto'

import { tryAgain } from '#cni/errors.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { createLinkMessage, findLink, getLink, kindOf, listLinks, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { distrustful, hostNetns, withoutLinkLocal, writeSysctls } from '../link/host-netns.ts'
import { aliasOf, aliasPrefix } from '../link/owner.ts'
import type { Undo } from '../link/undo.ts'
import { removeLink, sendAll } from '../link/veth.ts'

/** `bwp` and twelve digits of a hash: 15 bytes, what a name may have. */
const nameOf = (text: string): string => `bwp${createHash('sha512').update(text).digest('hex')}`.slice(0, 15)

/** The reference plugin's name, the same for all attachments of a container to a network; then one of this attachment alone. */
const namesOf = (network: string, { containerId, ifname }: Attachment) =>
  [nameOf(`${network}${containerId}`), nameOf(`${network}:${containerId}:${ifname}`)] as const

/** The queue of packets behind the limit, which an ifb has 32 of by itself. */
const MIN_QUEUE = 1000

/** Makes it, marked in the same system call, for packets like those of `beside`; not up yet. Throws CniError 11 where this attachment has one. */
export function createIfb(host: PluginHost, network: string, attachment: Attachment, beside: Link, undo: Undo): Link {
  const alias = aliasOf(network, attachment)
  const name = freeName(host.netlink, network, attachment, alias)
  const { mtu } = beside
  const txQueueLength = Math.max(MIN_QUEUE, beside.txQueueLength ?? 0)
  sendAll(
    host.netlink,
    [createLinkMessage({ name, mtu, txQueueLength, info: { kind: 'ifb' } }), setLinkMessage(name, { alias })],
    () => undo.add(`link ${name}`, () => removeLink(host.netlink, name)),
  )
  writeSysctls(hostNetns(host).fd, [...distrustful(name), ...withoutLinkLocal(name)], true)
  return getLink(host.netlink, name)
}

function freeName(netlink: NetlinkSocket, network: string, attachment: Attachment, alias: string): string {
  for (const name of namesOf(network, attachment)) {
    const there = findLink(netlink, name)
    if (there === undefined) return name
    if (there.alias === alias) {
      throw tryAgain(
        `${attachment.ifname} of container ${attachment.containerId} has its limit already (link ${name})`,
        'run DEL for this attachment first',
      )
    }
  }
  throw tryAgain(`every name for the ifb of container ${attachment.containerId} is taken`)
}

/** The one of an attachment. The reference plugin's has no mark. */
export function findIfb(netlink: NetlinkSocket, network: string, attachment: Attachment): Link | undefined {
  const alias = aliasOf(network, attachment)
  const links = namesOf(network, attachment).map((name) => findLink(netlink, name))
  const ifbs = links.filter((link) => link !== undefined && kindOf(link) === 'ifb')
  return ifbs.find((link) => link?.alias === alias) ?? (ifbs[0]?.alias === undefined ? ifbs[0] : undefined)
}

/** Those of a network whose attachments are not among the valid ones. */
export function staleIfbs(netlink: NetlinkSocket, network: string, valid: readonly Attachment[]): readonly Link[] {
  const prefix = aliasPrefix(network)
  const keep = new Set(valid.map((attachment) => aliasOf(network, attachment)))
  return listLinks(netlink, { kind: 'ifb' }).filter(
    ({ alias }) => alias !== undefined && alias.startsWith(prefix) && !keep.has(alias),
  )
}
