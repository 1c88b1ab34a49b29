/** Neighbours: which link-layer address an IP address has on a link (ARP, NDP). */

import { ipAddress } from '#codec/address.ts'
import { attr, attributes, put } from '#codec/attributes.ts'
import { CodecError, LITTLE, type Reader, type Writer } from '#codec/buffer.ts'
import { be16, i32, pad, u16, u32, u8 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { NLM_F, RTM } from './constants.ts'
import { linkAddress } from './link-codec.ts'
import type { Message } from './message.ts'
import { names } from './names.ts'
import type { NetlinkSocket } from './socket.ts'

export const ndmsg = struct('ndmsg', { family: u8, _pad: pad(3), index: i32, state: u16, flags: u8, type: u8 })

/** NDA_*: of neighbours and of forwarding entries. */
export const neighAttributes = attributes('neighbour', {
  dst: attr(1, ipAddress),
  mac: attr(2, linkAddress),
  cacheInfo: attr(3, struct('nda_cacheinfo', { confirmed: u32, used: u32, updated: u32, references: u32 })),
  probes: attr(4, u32),
  vlan: attr(5, u16),
  port: attr(6, be16),
  vni: attr(7, u32),
  via: attr(8, u32),
  master: attr(9, u32),
  linkNetnsId: attr(10, i32),
  sourceVni: attr(11, u32),
  protocol: attr(12, u8),
  nexthopId: attr(13, u32),
  extendedFlags: attr(15, u32),
})

export const NDA = neighAttributes.table
const NDMSG_LENGTH = 12

/** NUD_*. */
export const neighStates = names({
  none: 0,
  incomplete: 1,
  reachable: 2,
  stale: 4,
  delay: 8,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
})
export type NeighState = ReturnType<typeof neighStates.nameOf>

/** NTF_*. */
export const NTF = {
  USE: 1,
  SELF: 2,
  MASTER: 4,
  PROXY: 8,
  EXT_LEARNED: 0x10,
  OFFLOADED: 0x20,
  STICKY: 0x40,
  ROUTER: 0x80,
} as const
/** NTF_EXT_MANAGED: the kernel keeps the entry resolved. */
const EXT_MANAGED = 1

/** A neighbour. Its identity: link, address, and whether it is a proxy entry. */
export interface Neigh {
  readonly index: number
  readonly ip: IpText
  readonly mac?: MacText | undefined
  /** Permanent unless given. */
  readonly state?: NeighState | undefined
  /** Answer for this address on behalf of others. */
  readonly proxy?: boolean | undefined
  readonly router?: boolean | undefined
  /** Learned by a control plane, not by the kernel: not garbage collected. */
  readonly externallyLearned?: boolean | undefined
  /** The kernel resolves it and keeps it resolved. */
  readonly managed?: boolean | undefined
  /** Who made it (NDA_PROTOCOL). */
  readonly protocol?: number | undefined
}

export interface SeenNeigh extends Neigh {
  readonly state: NeighState
  readonly flags: number
}

/** Flags of a new entry: add refuses an existing one, append (forwarding entries only) joins it. */
export const NEW_FLAGS = {
  add: NLM_F.CREATE | NLM_F.EXCL,
  replace: NLM_F.CREATE | NLM_F.REPLACE,
  append: NLM_F.CREATE | NLM_F.APPEND,
  delete: 0,
} as const

/** Like `ip neighbour add`, `replace` and `delete`. */
export function neighMessage(verb: 'add' | 'replace' | 'delete', neigh: Neigh): Message {
  return {
    op: () => `neighbour ${verb} ${neigh.proxy === true ? 'proxy ' : ''}${neigh.ip} dev ${neigh.index}`,
    type: verb === 'delete' ? RTM.DELNEIGH : RTM.NEWNEIGH,
    flags: NEW_FLAGS[verb],
    write(w) {
      const flags =
        (neigh.proxy === true ? NTF.PROXY : 0) |
        (neigh.router === true ? NTF.ROUTER : 0) |
        (neigh.externallyLearned === true ? NTF.EXT_LEARNED : 0)
      const state = neigh.state ?? (neigh.managed === true ? 'none' : 'permanent')
      writeNdmsg(w, familyOf(neigh.ip) === 4 ? AF.INET : AF.INET6, neigh.index, state, flags)
      put(w, NDA.dst, neigh.ip)
      put(w, NDA.mac, neigh.mac)
      put(w, NDA.protocol, neigh.protocol)
      if (neigh.managed === true) put(w, NDA.extendedFlags, EXT_MANAGED)
    },
  }
}

/** struct ndmsg by hand: neighbours and forwarding entries are written by the thousand. */
export function writeNdmsg(w: Writer, family: number, index: number, state: NeighState, flags: number): void {
  const at = w.reserve(NDMSG_LENGTH)
  if (!Number.isInteger(index) || index < 0 || index > 0x7fff_ffff)
    throw new CodecError('bad-value', `${index} is no interface index`)
  w.bytes[at] = family
  w.view.setInt32(at + 4, index, LITTLE)
  w.view.setUint16(at + 8, neighStates.valueOf(state), LITTLE)
  w.bytes[at + 10] = flags
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH of the families IPv4 and IPv6; undefined for forwarding entries and others. */
export function readNeigh(payload: Reader): SeenNeigh | undefined {
  const header = ndmsg.read(payload)
  if (header.family !== AF.INET && header.family !== AF.INET6) return undefined
  const a = neighAttributes.read(payload)
  if (a.dst === undefined) return undefined
  const neigh: { -readonly [K in keyof SeenNeigh]: SeenNeigh[K] } = {
    index: header.index,
    ip: a.dst,
    state: neighStates.nameOf(header.state),
    flags: header.flags,
  }
  if (a.mac !== undefined) neigh.mac = a.mac
  if ((header.flags & NTF.PROXY) !== 0) neigh.proxy = true
  if ((header.flags & NTF.ROUTER) !== 0) neigh.router = true
  if ((header.flags & NTF.EXT_LEARNED) !== 0) neigh.externallyLearned = true
  if (((a.extendedFlags ?? 0) & EXT_MANAGED) !== 0) neigh.managed = true
  if (a.protocol !== undefined) neigh.protocol = a.protocol
  return neigh
}

export interface NeighFilter {
  readonly index?: number | undefined
  readonly family?: 4 | 6 | undefined
  /** Proxy entries instead of ordinary ones. */
  readonly proxy?: boolean | undefined
}

/** Like `ip neighbour show [proxy] [dev D]`; the kernel filters. */
export function listNeighs(socket: NetlinkSocket, filter: NeighFilter = {}): SeenNeigh[] {
  const header = {
    family: filter.family === undefined ? AF.UNSPEC : filter.family === 4 ? AF.INET : AF.INET6,
    index: 0,
    state: 0,
    flags: filter.proxy === true ? NTF.PROXY : 0,
    type: 0,
  }
  const message: Message = {
    op: () => 'neighbour show',
    type: RTM.GETNEIGH,
    flags: 0,
    write(w) {
      ndmsg.write(w, header)
      neighAttributes.write(w, { via: filter.index })
    },
  }
  return socket.dump(message, (payload) => {
    const neigh = readNeigh(payload)
    return filter.index === undefined || neigh?.index === filter.index ? neigh : undefined
  })
}

/** Like `ip neighbour add`. Throws `NetlinkError` EEXIST when there is one. */
export const addNeigh = (socket: NetlinkSocket, neigh: Neigh): void => socket.request(neighMessage('add', neigh))

/** Like `ip neighbour replace`. */
export const replaceNeigh = (socket: NetlinkSocket, neigh: Neigh): void =>
  socket.request(neighMessage('replace', neigh))

/** Like `ip neighbour delete`. Throws `NetlinkError` ENOENT when there is none. */
export const deleteNeigh = (socket: NetlinkSocket, neigh: Neigh): void => socket.request(neighMessage('delete', neigh))
