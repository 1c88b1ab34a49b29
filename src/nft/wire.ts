/** nf_tables over netlink: the numbers and attribute tables of its messages. Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h. */

import { attr, attributes, nest, writeAttribute } from '#codec/attributes.ts'
import type { Writer } from '#codec/buffer.ts'
import { be16, be32, be64, type Codec, cstring, mapped, rest, u8 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import type { Message } from '#netlink/message.ts'
import type { HookName, TableFamily } from './table.ts'

/** Subsystems of NETLINK_NETFILTER. */
export const NFNL_SUBSYS = { ctnetlink: 1, nftables: 10 } as const
/** Multicast group of changes to the ruleset. */
export const NFNLGRP_NFTABLES = 7

export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_MSG_BATCH_END = 0x11
export const NFNL_BATCH_GENID = 1

/** Message types within the subsystem nftables. */
export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  getSet: 10,
  delSet: 11,
  newElement: 12,
  getElement: 13,
  delElement: 14,
  newGeneration: 15,
  getGeneration: 16,
  newObject: 18,
  delObject: 20,
  newFlowtable: 22,
  delFlowtable: 24,
} as const

/** A message type as it stands in the netlink header. */
export const messageType = (subsystem: number, type: number): number => (subsystem << 8) | type

/** Netfilter's numbers of the families. */
export const familyNumber: Readonly<Record<TableFamily, number>> = {
  inet: 1,
  ip: 2,
  arp: 3,
  netdev: 5,
  bridge: 7,
  ip6: 10,
}

const familyNames = new Map<number, string>(Object.entries(familyNumber).map(([name, number]) => [number, name]))

export const familyName = (number: number): TableFamily | undefined => {
  const name = familyNames.get(number)
  return name !== undefined && isFamily(name) ? name : undefined
}

const isFamily = (name: string): name is TableFamily => Object.hasOwn(familyNumber, name)

/** The hook's name in a family. Source: enum nf_inet_hooks, enum nf_dev_hooks, enum nf_arp_hooks, enum nf_br_hooks. */
export function hookName(family: TableFamily, number: number): HookName | undefined {
  if (family === 'netdev') return (['ingress', 'egress'] as const)[number]
  if (family === 'arp') return (['input', 'output', 'forward'] as const)[number]
  return (['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress'] as const)[number]
}

/** The header after the netlink header. */
export const nfgenmsg = struct('nfgenmsg', { family: u8, version: u8, resource: be16 })

const name = cstring(256)
const bi32: Codec<number> = mapped(
  'bi32',
  be32,
  (value) => value | 0,
  (value) => value >>> 0,
)

export const tableAttributes = attributes('table', {
  name: attr(1, name),
  flags: attr(2, be32),
  use: attr(3, be32),
  handle: attr(4, be64),
  userdata: attr(6, rest),
})

export const hookAttributes = attributes('hook', {
  number: attr(1, be32),
  priority: attr(2, bi32),
  device: attr(3, name),
  devices: nest(4, rest),
})

export const chainAttributes = attributes('chain', {
  table: attr(1, name),
  handle: attr(2, be64),
  name: attr(3, name),
  hook: nest(4, hookAttributes),
  policy: attr(5, be32),
  use: attr(6, be32),
  type: attr(7, name),
  flags: attr(10, be32),
  userdata: attr(12, rest),
})

export const ruleAttributes = attributes('rule', {
  table: attr(1, name),
  chain: attr(2, name),
  handle: attr(3, be64),
  expressions: nest(4, rest),
  userdata: attr(7, rest),
})

const setDescription = attributes('set description', { size: attr(1, be32), concat: nest(2, rest) })

export const setAttributes = attributes('set', {
  table: attr(1, name),
  name: attr(2, name),
  flags: attr(3, be32),
  keyType: attr(4, be32),
  keyLength: attr(5, be32),
  dataType: attr(6, be32),
  dataLength: attr(7, be32),
  policy: attr(8, be32),
  description: nest(9, setDescription),
  timeout: attr(11, be64),
  gcInterval: attr(12, be32),
  userdata: attr(13, rest),
  objectType: attr(15, be32),
  handle: attr(16, be64),
  expression: nest(17, rest),
  expressions: nest(18, rest),
})

export const generationAttributes = attributes('generation', {
  id: attr(1, be32),
  processId: attr(2, be32),
  processName: attr(3, name),
})

/** Flags of a set. Source: enum nft_set_flags. */
export const SET_FLAG = {
  anonymous: 0x1,
  constant: 0x2,
  interval: 0x4,
  map: 0x8,
  timeout: 0x10,
  dynamic: 0x20,
  object: 0x40,
  concat: 0x80,
  expression: 0x100,
} as const

/** Type number of a map's data that is a verdict. */
export const VERDICT_TYPE = 0xffff_ff00

/** Attributes of the list of elements and of one element, for the hand-written codec. */
export const ELEMENTS = { table: 1, set: 2, elements: 3 } as const
export const LIST_ELEMENT = 1
export const ELEMENT = { key: 1, data: 2, flags: 3, timeout: 4, expiration: 5, userdata: 6, keyEnd: 10 } as const
export const DATA = { value: 1, verdict: 2 } as const
export const VERDICT = { code: 1, chain: 2 } as const
export const ELEMENT_FLAG = { intervalEnd: 1, catchall: 2 } as const

export const writeText = (writer: Writer, type: number, text: string): void =>
  writeAttribute(writer, type, (w) => name.write(w, text))

/** One nf_tables request. `op` is it in the words of `nft`. */
export const nftMessage = (
  op: () => string,
  type: number,
  family: number,
  write: (writer: Writer) => void = () => undefined,
  flags = 0,
): Message => ({
  op,
  type: messageType(NFNL_SUBSYS.nftables, type),
  flags,
  write: (writer) => {
    nfgenmsg.write(writer, { family, version: 0, resource: 0 })
    write(writer)
  },
})
