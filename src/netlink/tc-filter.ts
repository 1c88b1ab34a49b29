/** Filters of the kind u32: they compare words of a packet, and give it to a class or to another device (include/uapi/linux/pkt_cls.h, tc_act/tc_mirred.h). */

import { attr, attributes, type AttributesValue } from '#codec/attributes.ts'
import type { Reader } from '#codec/buffer.ts'
import { be16, be32, cstring, decode, i32, pad, u16, u32, u8, type Codec, type Of } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { ipFromBytes, ipToBytes } from '#ip/address.ts'
import { formatCidr, parseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'
import { formatHandle, readTc, writeTc } from './tc.ts'

const u32Key = struct('tc_u32_key', { mask: be32, value: be32, offset: i32, offsetMask: i32 })

const selectorHead = struct('tc_u32_sel', {
  flags: u8,
  offsetShift: u8,
  keys: u8,
  _pad: pad(1),
  offsetMask: be16,
  offset: u16,
  offsetOffset: u16,
  hashOffset: u16,
  hashMask: be32,
})

type Key = Of<typeof u32Key>

/** TC_U32_TERMINAL: what matches is not compared further. */
const TERMINAL = 1

const selector: Codec<readonly Key[]> = {
  name: 'tc_u32_sel',
  write(w, keys) {
    selectorHead.write(w, {
      flags: TERMINAL,
      offsetShift: 0,
      keys: keys.length,
      offsetMask: 0,
      offset: 0,
      offsetOffset: 0,
      hashOffset: 0,
      hashMask: 0,
    })
    for (const key of keys) u32Key.write(w, key)
  },
  read(r) {
    const { keys } = selectorHead.read(r)
    // Counters of each key may follow.
    return Array.from({ length: keys }, () => u32Key.read(r))
  },
}

/** TCA_MIRRED_PARMS: struct tc_mirred. */
const mirredAttributes = attributes('mirred', {
  parms: attr(
    2,
    struct('tc_mirred', {
      action: u32,
      capabilities: u32,
      verdict: i32,
      references: i32,
      bindings: i32,
      what: i32,
      index: u32,
    }),
  ),
})

const actionAttributes = attributes('action', { kind: attr(1, cstring(16)), options: attr(2, mirredAttributes) })

/** TCA_U32_*. Actions are numbered from 1 by the type of their attribute; here there is never more than one. */
const u32Attributes = attributes('u32', {
  class: attr(1, u32),
  selector: attr(5, selector),
  actions: attr(7, attributes('actions', { first: attr(1, actionAttributes) })),
})

/** TCA_EGRESS_REDIR, TC_ACT_STOLEN: the packet leaves by that device, and is none of ours any more. */
const EGRESS_REDIRECT = 1
const STOLEN = 4

/** Ethernet protocols (include/uapi/linux/if_ether.h). */
const ETH_P = { all: 3, 4: 0x0800, 6: 0x86dd } as const

/** What a filter does with packets. */
export type Filter =
  /** All of them, to another device. */
  | { readonly redirect: number }
  /** Those whose source or destination is in a network, to the class of that handle. */
  | { readonly class: number; readonly end: 'source' | 'destination'; readonly network: CidrText }

export type SeenFilter = Filter | 'other'

/** Where the addresses are in their headers. */
const OFFSET = { 4: { source: 12, destination: 16 }, 6: { source: 8, destination: 24 } } as const

/** One priority holds filters of one protocol. */
const PRIORITY = { redirect: 1, 4: 16, 6: 15 } as const

const placeOf = (filter: Filter): number => {
  if ('redirect' in filter) return infoOf(PRIORITY.redirect, ETH_P.all)
  const { family } = parseCidr(filter.network).ip
  return infoOf(PRIORITY[family], ETH_P[family])
}

/** Priority in the upper half, the protocol in network order in the lower. */
const infoOf = (priority: number, protocol: number): number =>
  ((priority << 16) | ((protocol & 0xff) << 8) | (protocol >> 8)) >>> 0

/**
 * Like `tc filter add dev D parent P protocol ip prio 16 u32 match ip dst NET flowid CLASS`, or
 * `tc filter add dev D parent P protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev OTHER`.
 */
export function addFilterMessage(index: number, parent: number, filter: Filter): Message {
  return {
    op: () => `filter add dev ${index} parent ${formatHandle(parent)} ${describe(filter)}`,
    type: RTM.NEWTFILTER,
    flags: NLM_F.CREATE | NLM_F.EXCL,
    write: (w) =>
      writeTc(w, { index, parent, info: placeOf(filter) }, 'u32', (options) =>
        u32Attributes.write(options, optionsOf(filter)),
      ),
  }
}

const describe = (filter: Filter): string =>
  'redirect' in filter ? `redirect to ${filter.redirect}` : `${filter.end} ${filter.network}`

const EVERYTHING: Key = { mask: 0, value: 0, offset: 0, offsetMask: 0 }

function optionsOf(filter: Filter): AttributesValue<typeof u32Attributes.table> {
  if (!('redirect' in filter)) return { class: filter.class, selector: keysOf(filter) }
  const parms = {
    action: 0,
    capabilities: 0,
    verdict: STOLEN,
    references: 0,
    bindings: 0,
    what: EGRESS_REDIRECT,
    index: filter.redirect,
  }
  return { selector: [EVERYTHING], actions: { first: { kind: 'mirred', options: { parms } } } }
}

/** A word for every 32 bits that the prefix says something about; for the whole world one that everything matches. */
function keysOf({ network, end }: Extract<Filter, { class: number }>): readonly Key[] {
  const { ip, length } = parseCidr(network)
  const bytes = ipToBytes(ip)
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const keys: Key[] = []
  for (let at = 0; at * 8 < length; at += 4) {
    const bits = Math.min(32, length - at * 8)
    const mask = bits === 32 ? 0xffff_ffff : (0xffff_ffff << (32 - bits)) >>> 0
    keys.push({ mask, value: view.getUint32(at), offset: OFFSET[ip.family][end] + at, offsetMask: 0 })
  }
  return keys.length === 0 ? [{ ...EVERYTHING, offset: OFFSET[ip.family][end] }] : keys
}

/** Reads RTM_NEWTFILTER, contiguous masks only; undefined for the tables that u32 keeps its filters in. */
export function readFilter(payload: Reader): SeenFilter | undefined {
  const { info, kind, options } = readTc(payload)
  if (kind !== 'u32') return 'other'
  const { selector: keys, actions, class: handle } = decode(u32Attributes, options)
  if (keys === undefined) return undefined
  const redirect = actions?.first?.options?.parms
  if (redirect !== undefined) return redirect.what === EGRESS_REDIRECT ? { redirect: redirect.index } : 'other'
  return handle === undefined ? 'other' : (readMatch(handle, keys, info) ?? 'other')
}

function readMatch(handle: number, keys: readonly Key[], info: number): Filter | undefined {
  const family = info === placeOf4 ? 4 : info === placeOf6 ? 6 : undefined
  if (family === undefined) return undefined
  const [first] = keys
  const end = first?.offset === OFFSET[family].source ? 'source' : 'destination'
  const bytes = new Uint8Array(family === 4 ? 4 : 16)
  const view = new DataView(bytes.buffer)
  let length = 0
  for (const { mask, value, offset } of keys.filter((key) => key.mask !== 0)) {
    const at = offset - OFFSET[family][end]
    if (at < 0 || at + 4 > bytes.length) return undefined
    view.setUint32(at, value)
    length += Math.clz32(~mask)
  }
  return { class: handle, end, network: formatCidr({ ip: ipFromBytes(bytes), length }) }
}

const placeOf4 = infoOf(PRIORITY[4], ETH_P[4])
const placeOf6 = infoOf(PRIORITY[6], ETH_P[6])

/** Like `tc filter show dev D parent P`. */
export function listFilters(socket: NetlinkSocket, index: number, parent: number): SeenFilter[] {
  const message: Message = {
    op: () => `filter show dev ${index}`,
    type: RTM.GETTFILTER,
    flags: 0,
    write: (w) => writeTc(w, { index, parent }),
  }
  return socket.dump(message, readFilter)
}
