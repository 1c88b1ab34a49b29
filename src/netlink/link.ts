/** Links: network devices. */

import { Writer } from '#codec/buffer.ts'
import type { Of } from '#codec/codec.ts'
import type { MacText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { ERRNO } from '#sys/errno.ts'
import { NLM_F, RTM } from './constants.ts'
import {
  bridgeLinkAttributes,
  IFF,
  infoAttributes,
  linkWire,
  readLink,
  type Link,
  type LinkAttributes,
} from './link-codec.ts'
import { bridgePort, type BridgePort, type LinkInfo } from './link-kinds.ts'
import { ifinfomsg } from './link-peer.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'

/** RTEXT_FILTER_SKIP_STATS: counters make up most of a link's message and nobody here reads them. */
export const SKIP_STATS = 8

/** What can be set on a link; what is absent stays as it is. */
export interface LinkSettings {
  readonly name?: string | undefined
  readonly up?: boolean | undefined
  readonly mtu?: number | undefined
  readonly mac?: MacText | undefined
  /** Index of the new master; 0 for none. */
  readonly master?: number | undefined
  readonly alias?: string | undefined
  readonly txQueueLength?: number | undefined
  readonly group?: number | undefined
  readonly promisc?: boolean | undefined
  readonly allMulticast?: boolean | undefined
  readonly arp?: boolean | undefined
  readonly multicast?: boolean | undefined
}

/** A link to be made. */
export interface NewLink extends LinkSettings {
  readonly name: string
  readonly info: LinkInfo
  /** Index of the underlying link (macvlan, ipvlan, vlan). */
  readonly parent?: number | undefined
  /** The index it shall have. */
  readonly index?: number | undefined
  /** An open descriptor of the namespace that it is born in, instead of the socket's. */
  readonly netnsFd?: number | undefined
  readonly numTxQueues?: number | undefined
  readonly numRxQueues?: number | undefined
}

/** A link by its index or its name. */
export type LinkRef = number | string

function linkMessage(
  op: () => string,
  type: number,
  flags: number,
  ref: LinkRef,
  attributes: LinkAttributes,
  bits: { flags: number; change: number } = { flags: 0, change: 0 },
): Message {
  const header = { family: AF.UNSPEC, type: 0, index: typeof ref === 'number' ? ref : 0, ...bits }
  return { op, type, flags, write: (w) => linkWire.write(w, { header, attributes }) }
}

function flagBits(settings: LinkSettings): { flags: number; change: number } {
  let flags = 0
  let change = 0
  const put = (value: boolean | undefined, bit: number): void => {
    if (value === undefined) return
    change |= bit
    if (value) flags |= bit
  }
  put(settings.up, IFF.UP)
  put(settings.promisc, IFF.PROMISC)
  put(settings.allMulticast, IFF.ALLMULTI)
  put(settings.multicast, IFF.MULTICAST)
  if (settings.arp !== undefined) put(!settings.arp, IFF.NOARP)
  return { flags, change }
}

function settingAttributes(settings: LinkSettings): LinkAttributes {
  const { name, mtu, mac, master, alias, txQueueLength, group } = settings
  return { name, mtu, mac, master, alias, txQueueLength, group }
}

/** Like `ip link add`. One request makes it, with its master, address and state. An alias needs `createLink`, which sends a second. */
export function createLinkMessage(link: NewLink): Message {
  const { alias: _, ...settings } = link
  return linkMessage(
    () => `link add ${link.name} type ${link.info.kind === 'other' ? link.info.name : link.info.kind}`,
    RTM.NEWLINK,
    NLM_F.CREATE | NLM_F.EXCL,
    link.index ?? 0,
    {
      ...settingAttributes(settings),
      link: link.parent,
      netnsFd: link.netnsFd,
      numTxQueues: link.numTxQueues,
      numRxQueues: link.numRxQueues,
      linkInfo: infoAttributes(link.info),
    },
    flagBits(link),
  )
}

/** Like `ip link set DEV …`. With a name as `ref` the name cannot be changed. */
export function setLinkMessage(ref: LinkRef, settings: LinkSettings): Message {
  const attributes = settingAttributes(settings)
  return linkMessage(
    () => `link set ${ref}`,
    RTM.SETLINK,
    0,
    ref,
    typeof ref === 'string' ? { ...attributes, name: ref } : attributes,
    flagBits(settings),
  )
}

/** Like `ip link set DEV type KIND …`: changes what the kernel lets one change of a link's own settings. */
export function changeLinkMessage(ref: LinkRef, info: LinkInfo): Message {
  const attributes = { ...(typeof ref === 'string' ? { name: ref } : {}), linkInfo: infoAttributes(info) }
  return linkMessage(() => `link change ${ref} type ${info.kind}`, RTM.NEWLINK, 0, ref, attributes)
}

/** Like `bridge link set dev DEV hairpin on …`. The link must be a bridge's port already. */
export function setBridgePortMessage(ref: LinkRef, port: BridgePort): Message {
  const writer = new Writer(64)
  bridgePort.write(writer, port)
  const linkInfo = { slaveKind: 'bridge', slaveData: writer.copy() }
  const attributes = { ...(typeof ref === 'string' ? { name: ref } : {}), linkInfo }
  return linkMessage(() => `link set ${ref} type bridge_slave`, RTM.NEWLINK, 0, ref, attributes)
}

/** Like `ip link delete`. */
export function deleteLinkMessage(ref: LinkRef): Message {
  return linkMessage(() => `link delete ${ref}`, RTM.DELLINK, 0, ref, typeof ref === 'string' ? { name: ref } : {})
}

/** Like `ip link set DEV netns FD name NAME`. */
export function moveLinkMessage(ref: LinkRef, netnsFd: number, name?: string): Message {
  return linkMessage(() => `link set ${ref} netns`, RTM.SETLINK, 0, ref, {
    name: typeof ref === 'string' ? ref : name,
    netnsFd,
  })
}

/** What `listLinks` shows; the kernel filters. */
export interface LinkFilter {
  readonly kind?: string | undefined
  readonly master?: number | undefined
}

/** Like `ip link show`. */
export function listLinks(socket: NetlinkSocket, filter: LinkFilter = {}): Link[] {
  const { kind, master } = filter
  const attributes = { extMask: SKIP_STATS, master, ...(kind === undefined ? {} : { linkInfo: { kind } }) }
  const links = socket.dump(
    linkMessage(() => 'link show', RTM.GETLINK, 0, 0, attributes),
    readLink,
  )
  // Where nothing matches the filter's kind because the kernel does not know it, it lists everything.
  return kind === undefined ? links : links.filter((link) => kindOf(link) === kind)
}

/** The name of a link's kind (`veth`), undefined for physical devices. */
export const kindOf = (link: Link): string | undefined =>
  link.info?.kind === 'other' ? link.info.name : link.info?.kind

/** Like `ip link show dev DEV`. Throws `NetlinkError` ENODEV when there is none. */
export const getLink = (socket: NetlinkSocket, ref: LinkRef): Link => socket.get(getLinkMessage(ref), readLink)

function getLinkMessage(ref: LinkRef): Message {
  const attributes = { extMask: SKIP_STATS, ...(typeof ref === 'string' ? { name: ref } : {}) }
  return linkMessage(() => `link show ${ref}`, RTM.GETLINK, 0, ref, attributes)
}

/** Like `getLink`, but undefined when there is none, and so for what no link can be called. */
export const findLink = (socket: NetlinkSocket, ref: LinkRef): Link | undefined =>
  typeof ref === 'string' && !mayBeName(ref) ? undefined : socket.find(getLinkMessage(ref), readLink, ERRNO.ENODEV)

/** IFNAMSIZ with its NUL, and no NUL before. */
const mayBeName = (text: string): boolean => text !== '' && !text.includes('\0') && Buffer.byteLength(text) <= 15

/** Like `ip link add`, with the alias if one is given. */
export function createLink(socket: NetlinkSocket, link: NewLink): void {
  socket.request(createLinkMessage(link))
  if (link.alias !== undefined && link.netnsFd === undefined) setLink(socket, link.name, { alias: link.alias })
}

/** Like `ip link set`. */
export const setLink = (socket: NetlinkSocket, ref: LinkRef, settings: LinkSettings): void =>
  socket.request(setLinkMessage(ref, settings))

/** Like `ip link set DEV type KIND …`. */
export const changeLink = (socket: NetlinkSocket, ref: LinkRef, info: LinkInfo): void =>
  socket.request(changeLinkMessage(ref, info))

/** Like `bridge link set`. */
export const setBridgePort = (socket: NetlinkSocket, ref: LinkRef, port: BridgePort): void =>
  socket.request(setBridgePortMessage(ref, port))

/** Like `ip link delete`, on the thread pool: the kernel waits 15–20 ms for its readers. */
export const deleteLink = (socket: NetlinkSocket, ref: LinkRef): Promise<void> =>
  socket.requestOnPool(deleteLinkMessage(ref))

/** Like `ip link set DEV netns …`, on the thread pool (16 ms). Prefer a link that is born in its namespace. */
export const moveLink = (socket: NetlinkSocket, ref: LinkRef, netnsFd: number, name?: string): Promise<void> =>
  socket.requestOnPool(moveLinkMessage(ref, netnsFd, name))

/** A VLAN on a bridge's port. */
export interface BridgeVlan {
  readonly id: number
  readonly pvid: boolean
  readonly untagged: boolean
}

const VLAN = { PVID: 2, UNTAGGED: 4 } as const
const BRIDGE_FLAGS_SELF = 2
const BRVLAN = 2

/** Like `bridge vlan add dev DEV vid ID [pvid] [untagged]` and `bridge vlan delete`; `self` for the bridge device itself. */
export function bridgeVlanMessage(verb: 'add' | 'delete', index: number, vlan: BridgeVlan, self = false): Message {
  const flags = (vlan.pvid ? VLAN.PVID : 0) | (vlan.untagged ? VLAN.UNTAGGED : 0)
  const afSpec = { ...(self ? { flags: BRIDGE_FLAGS_SELF } : {}), vlans: [{ flags, id: vlan.id }] }
  return bridgeMessage(
    () => `bridge vlan ${verb} dev ${index} vid ${vlan.id}`,
    verb === 'add' ? RTM.SETLINK : RTM.DELLINK,
    index,
    { afSpec },
  )
}

function bridgeMessage(
  op: () => string,
  type: number,
  index: number,
  attributes: Of<typeof bridgeLinkAttributes>,
): Message {
  return {
    op,
    type,
    flags: 0,
    write(w) {
      ifinfomsg.write(w, { family: AF.BRIDGE, type: 0, index, flags: 0, change: 0 })
      bridgeLinkAttributes.write(w, attributes)
    },
  }
}

/** Like `bridge vlan show`: the VLANs of every port and bridge, by index. */
export function listBridgeVlans(socket: NetlinkSocket): Map<number, BridgeVlan[]> {
  const found = new Map<number, BridgeVlan[]>()
  socket.dump(
    bridgeMessage(() => 'bridge vlan show', RTM.GETLINK, 0, { extMask: BRVLAN }),
    (payload) => {
      const { index } = ifinfomsg.read(payload)
      const vlans = bridgeLinkAttributes.read(payload).afSpec?.vlans ?? []
      if (vlans.length > 0) found.set(index, vlans.map(readVlan))
    },
  )
  return found
}

const readVlan = ({ flags, id }: { readonly flags: number; readonly id: number }): BridgeVlan => ({
  id,
  pvid: (flags & VLAN.PVID) !== 0,
  untagged: (flags & VLAN.UNTAGGED) !== 0,
})
