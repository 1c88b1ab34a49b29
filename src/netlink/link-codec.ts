/** RTM_*LINK messages as bytes and as links. */

import { attr, attributes, many, nest, type AttributesValue } from '#codec/attributes.ts'
import { cstring, i32, rest, u16, u32, u8, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { Reader, Writer } from '#codec/buffer.ts'
import { mac } from '#codec/address.ts'
import type { MacText } from '#ip/text.ts'
import { bridgePort, isLinkKind, linkKinds, type BridgePort, type LinkInfo } from './link-kinds.ts'
import { ifinfomsg } from './link-peer.ts'

/** A link-layer address: a MAC where it has six bytes; other lengths (tunnels have 4 or 16, none 0) read as undefined. */
export const linkAddress: Codec<MacText | undefined> = {
  name: 'link address',
  write(w, value) {
    if (value !== undefined) mac.write(w, value)
  },
  read(r) {
    if (r.left === 6) return mac.read(r)
    r.take(r.left)
    return undefined
  },
}

const linkInfo = attributes('link info', {
  kind: attr(1, cstring(64)),
  data: nest(2, rest),
  slaveKind: attr(4, cstring(64)),
  slaveData: nest(5, rest),
})

/** struct bridge_vlan_info. */
const bridgeVlanInfo = struct('bridge_vlan_info', { flags: u16, id: u16 })

/** IFLA_BRIDGE_*, the AF_SPEC of family AF_BRIDGE. */
const bridgeSpec = attributes('bridge', {
  flags: attr(0, u16),
  mode: attr(1, u16),
  vlans: many(2, bridgeVlanInfo),
})

/** IFLA_* of family AF_BRIDGE, where AF_SPEC is about VLANs. */
export const bridgeLinkAttributes = attributes('bridge link', { extMask: attr(29, u32), afSpec: nest(26, bridgeSpec) })

/** IFLA_*. */
export const linkAttributes = attributes('link', {
  mac: attr(1, linkAddress),
  broadcast: attr(2, linkAddress),
  name: attr(3, cstring(16)),
  mtu: attr(4, u32),
  link: attr(5, u32),
  qdisc: attr(6, cstring(64)),
  master: attr(10, u32),
  txQueueLength: attr(13, u32),
  operState: attr(16, u8),
  linkInfo: nest(18, linkInfo),
  netnsPid: attr(19, u32),
  alias: attr(20, cstring(257)),
  group: attr(27, u32),
  netnsFd: attr(28, u32),
  extMask: attr(29, u32),
  promiscuity: attr(30, u32),
  numTxQueues: attr(31, u32),
  numRxQueues: attr(32, u32),
  carrier: attr(33, u8),
  linkNetnsId: attr(37, i32),
  gsoMaxSize: attr(41, u32),
  propList: nest(52, attributes('properties', { altNames: many(53, cstring(128)) })),
  permanentMac: attr(54, linkAddress),
})

export type LinkAttributes = AttributesValue<typeof linkAttributes.table>
export type LinkHeader = { family: number; type: number; index: number; flags: number; change: number }

export interface LinkWire {
  readonly header: LinkHeader
  readonly attributes: LinkAttributes
}

export const linkWire: Codec<LinkWire> = {
  name: 'link',
  write(w, value) {
    ifinfomsg.write(w, value.header)
    linkAttributes.write(w, value.attributes)
  },
  read: (r) => ({ header: ifinfomsg.read(r), attributes: linkAttributes.read(r) }),
}

/** IF_OPER_* by number (RFC 2863). */
const OPER_STATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const
export type OperState = (typeof OPER_STATES)[number]

/** Bits of `flags` (IFF_*). */
export const IFF = {
  UP: 1,
  BROADCAST: 2,
  LOOPBACK: 8,
  POINTOPOINT: 0x10,
  RUNNING: 0x40,
  NOARP: 0x80,
  PROMISC: 0x100,
  ALLMULTI: 0x200,
  MULTICAST: 0x1000,
  LOWER_UP: 0x1_0000,
} as const

/** A link as the kernel reports it. */
export interface Link {
  readonly index: number
  readonly name: string
  /** Administratively up (IFF_UP). */
  readonly up: boolean
  readonly mtu: number
  /** IFF_* bits. */
  readonly flags: number
  /** ARPHRD_*: 1 is Ethernet, 772 loopback, 65534 none. */
  readonly hardwareType: number
  readonly operState: OperState
  readonly carrier: boolean
  readonly mac?: MacText | undefined
  /** That its hardware came with, which nobody can change; absent for most virtual devices. Linux 5.5 and newer. */
  readonly permanentMac?: MacText | undefined
  /** Index of the bridge, bond or VRF that it belongs to. */
  readonly master?: number | undefined
  /** IFLA_LINK: a VLAN's parent, a veth's peer; in the namespace `parentNetnsId` if that is given. */
  readonly parent?: number | undefined
  readonly parentNetnsId?: number | undefined
  readonly alias?: string | undefined
  readonly altNames?: readonly string[] | undefined
  readonly txQueueLength?: number | undefined
  readonly promiscuity?: number | undefined
  readonly group?: number | undefined
  readonly qdisc?: string | undefined
  /** Absent for physical devices and the loopback. */
  readonly info?: LinkInfo | undefined
  /** Its settings as a bridge's port, when it is one. */
  readonly port?: BridgePort | undefined
}

/** Reads RTM_NEWLINK or RTM_DELLINK of family AF_UNSPEC. */
export function readLink(payload: Reader): Link {
  const { header, attributes: a } = linkWire.read(payload)
  const info = a.linkInfo
  return {
    index: header.index,
    name: a.name ?? '',
    up: (header.flags & IFF.UP) !== 0,
    mtu: a.mtu ?? 0,
    flags: header.flags,
    hardwareType: header.type,
    operState: OPER_STATES[a.operState ?? 0] ?? 'unknown',
    carrier: a.carrier === 1,
    mac: a.mac,
    permanentMac: a.permanentMac,
    master: a.master,
    parent: a.link,
    parentNetnsId: a.linkNetnsId,
    alias: a.alias,
    altNames: a.propList?.altNames,
    txQueueLength: a.txQueueLength,
    promiscuity: a.promiscuity,
    group: a.group,
    qdisc: a.qdisc,
    info: info?.kind === undefined ? undefined : readInfo(info.kind, info.data),
    port: info?.slaveKind === 'bridge' ? readKnown(bridgePort, info.slaveData) : undefined,
  }
}

/** What a table names of some attributes; the rest is of no use to a model. */
function readKnown<T>(codec: Codec<T>, data: Uint8Array = new Uint8Array()): T {
  const reader = new Reader(data)
  reader.keepUnknown = false
  return codec.read(reader)
}

function readInfo(kind: string, data: Uint8Array | undefined): LinkInfo {
  if (!isLinkKind(kind)) return { kind: 'other', name: kind, data }
  const codec: Codec<unknown> = linkKinds[kind]
  // The table of a kind and its type are declared together, which TypeScript cannot follow through a union.
  return { kind, data: readKnown(codec, data) } as LinkInfo
}

/** IFLA_LINKINFO to write. */
export function infoAttributes(info: LinkInfo): NonNullable<LinkAttributes['linkInfo']> {
  if (info.kind === 'other') return { kind: info.name, data: info.data }
  const codec: Codec<unknown> = linkKinds[info.kind]
  const writer = new Writer(128)
  codec.write(writer, info.data ?? {})
  return { kind: info.kind, ...(writer.length === 0 ? {} : { data: writer.written() }) }
}
