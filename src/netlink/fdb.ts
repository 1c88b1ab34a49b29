/** Forwarding entries: behind which port, or which tunnel end, a MAC address is (bridge and VXLAN devices). */

import type { Reader } from '#codec/buffer.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { RTM } from './constants.ts'
import type { Message } from './message.ts'
import { put } from '#codec/attributes.ts'
import { NDA, ndmsg, neighAttributes, neighStates, NEW_FLAGS, NTF, writeNdmsg, type NeighState } from './neigh.ts'
import type { NetlinkSocket } from './socket.ts'

/** A forwarding entry. Its identity: link, MAC, VLAN (and with `append`, destination). */
export interface Fdb {
  readonly index: number
  readonly mac: MacText
  /** `self`: of the device itself (VXLAN), the default. `master`: of the bridge that the device is a port of. */
  readonly of?: 'self' | 'master' | undefined
  /** The tunnel end (VXLAN). */
  readonly dst?: IpText | undefined
  /** UDP port of the tunnel end, where it is not the device's. */
  readonly port?: number | undefined
  /** VNI to send with, where it is not the device's. */
  readonly vni?: number | undefined
  /** VNI received with, for devices that carry many. */
  readonly sourceVni?: number | undefined
  /** Index of the link to send through. */
  readonly via?: number | undefined
  readonly vlan?: number | undefined
  readonly nexthopId?: number | undefined
  /** Permanent unless given; `noarp` is what `bridge` calls static, `reachable` dynamic. */
  readonly state?: NeighState | undefined
  readonly externallyLearned?: boolean | undefined
  readonly sticky?: boolean | undefined
}

export interface SeenFdb extends Fdb {
  readonly state: NeighState
  readonly of: 'self' | 'master'
  readonly flags: number
  /** Index of the bridge, for entries of a port. */
  readonly master?: number | undefined
}

/** Like `bridge fdb add`, `replace`, `append` and `delete`. */
export function fdbMessage(verb: 'add' | 'replace' | 'append' | 'delete', fdb: Fdb): Message {
  return {
    op: () => `fdb ${verb} ${fdb.mac} dev ${fdb.index}${fdb.dst === undefined ? '' : ` dst ${fdb.dst}`}`,
    type: verb === 'delete' ? RTM.DELNEIGH : RTM.NEWNEIGH,
    flags: NEW_FLAGS[verb],
    write(w) {
      const flags =
        (fdb.of === 'master' ? NTF.MASTER : NTF.SELF) |
        (fdb.externallyLearned === true ? NTF.EXT_LEARNED : 0) |
        (fdb.sticky === true ? NTF.STICKY : 0)
      writeNdmsg(w, AF.BRIDGE, fdb.index, fdb.state ?? 'permanent', flags)
      put(w, NDA.mac, fdb.mac)
      put(w, NDA.dst, fdb.dst)
      put(w, NDA.vlan, fdb.vlan)
      put(w, NDA.port, fdb.port)
      put(w, NDA.vni, fdb.vni)
      put(w, NDA.sourceVni, fdb.sourceVni)
      put(w, NDA.via, fdb.via)
      put(w, NDA.nexthopId, fdb.nexthopId)
    },
  }
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH of family AF_BRIDGE; undefined for others. */
export function readFdb(payload: Reader): SeenFdb | undefined {
  const header = ndmsg.read(payload)
  if (header.family !== AF.BRIDGE) return undefined
  const a = neighAttributes.read(payload)
  if (a.mac === undefined) return undefined
  const fdb: { -readonly [K in keyof SeenFdb]: SeenFdb[K] } = {
    index: header.index,
    mac: a.mac,
    // Entries of a bridge carry no flag in a listing of the bridge; a VXLAN device marks its own.
    of: (header.flags & NTF.SELF) !== 0 ? 'self' : 'master',
    // The kernel's own default entry of a VXLAN device is permanent and reachable at once.
    state: neighStates.nameOf((header.state & 0x80) === 0 ? header.state : 0x80),
    flags: header.flags,
  }
  if (a.dst !== undefined) fdb.dst = a.dst
  if (a.port !== undefined) fdb.port = a.port
  if (a.vni !== undefined) fdb.vni = a.vni
  if (a.sourceVni !== undefined) fdb.sourceVni = a.sourceVni
  if (a.via !== undefined) fdb.via = a.via
  if (a.vlan !== undefined) fdb.vlan = a.vlan
  if (a.nexthopId !== undefined) fdb.nexthopId = a.nexthopId
  if (a.master !== undefined) fdb.master = a.master
  if ((header.flags & NTF.EXT_LEARNED) !== 0) fdb.externallyLearned = true
  if ((header.flags & NTF.STICKY) !== 0) fdb.sticky = true
  return fdb
}

export interface FdbFilter {
  /** Entries of one device (its own, and those that its bridge has for it). */
  readonly index?: number | undefined
  /** Entries of one bridge. */
  readonly master?: number | undefined
}

/** Like `bridge fdb show [dev D] [br B]`; the kernel filters. */
export function listFdb(socket: NetlinkSocket, filter: FdbFilter = {}): SeenFdb[] {
  const message: Message = {
    op: () => 'fdb show',
    type: RTM.GETNEIGH,
    flags: 0,
    write(w) {
      ndmsg.write(w, { family: AF.BRIDGE, index: filter.index ?? 0, state: 0, flags: 0, type: 0 })
      neighAttributes.write(w, { master: filter.master })
    },
  }
  return socket.dump(message, (payload) => {
    const fdb = readFdb(payload)
    return filter.index === undefined || fdb?.index === filter.index ? fdb : undefined
  })
}

/** Like `bridge fdb add`. Throws `NetlinkError` EEXIST when there is one. */
export const addFdb = (socket: NetlinkSocket, fdb: Fdb): void => socket.request(fdbMessage('add', fdb))

/** Like `bridge fdb replace`. */
export const replaceFdb = (socket: NetlinkSocket, fdb: Fdb): void => socket.request(fdbMessage('replace', fdb))

/** Like `bridge fdb append`: another destination for the same MAC (flooding by 00:00:00:00:00:00). */
export const appendFdb = (socket: NetlinkSocket, fdb: Fdb): void => socket.request(fdbMessage('append', fdb))

/** Like `bridge fdb delete`. Throws `NetlinkError` ENOENT when there is none. */
export const deleteFdb = (socket: NetlinkSocket, fdb: Fdb): void => socket.request(fdbMessage('delete', fdb))
