/** etcd's messages, as far as a pod network needs them. Source: etcd's api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto. */

import { encode, type Field, type Message } from './proto.ts'

/** Ids of etcd leases are 63 bits. */
export type LeaseId = bigint
export const NO_LEASE: LeaseId = 0n

export interface KeyValue {
  readonly key: string
  readonly value: Buffer
  readonly createRevision: number
  readonly modRevision: number
  /** The lease that the key ends with; NO_LEASE for a key that stays. */
  readonly lease: LeaseId
}

export interface Header {
  readonly cluster: bigint
  /** Of the whole datastore: counts its changes. */
  readonly revision: number
  /** Of raft: counts its elections. */
  readonly term: number
}

export interface RangeResult {
  readonly header: Header
  readonly kvs: readonly KeyValue[]
  readonly more: boolean
}

export type WatchEvent =
  | { readonly type: 'put'; readonly kv: KeyValue }
  | { readonly type: 'delete'; readonly key: string; readonly revision: number }

export interface WatchAnswer {
  readonly header: Header
  readonly created: boolean
  readonly canceled: boolean
  readonly compactRevision: number
  readonly reason: string
  /** More of the same revision follows. */
  readonly isFragment: boolean
  readonly events: readonly WatchEvent[]
}

/** What a key must be for a transaction to happen: not there (`version` 0), or as it was read. */
export type Condition =
  | { readonly key: string; readonly absent: true }
  | { readonly key: string; readonly modRevision: number }

/** The end of the range of all keys with a prefix, as etcdctl's --prefix makes it. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix)
  for (let i = end.length - 1; i >= 0; i--) {
    const byte = end[i] ?? 255
    if (byte === 255) continue
    end[i] = byte + 1
    return end.subarray(0, i + 1)
  }
  return Buffer.from([0])
}

export interface RangeRequest {
  readonly key: string
  readonly end?: Uint8Array
  readonly limit?: number
  readonly revision?: number
}

export const rangeRequest = ({ key, end, limit = 0, revision = 0 }: RangeRequest): Field[] => [
  [1, key],
  ...(end === undefined ? [] : [[2, end] as const]),
  [3, limit],
  [4, revision],
]

export const putRequest = (key: string, value: string, lease: LeaseId): Field[] => [
  [1, key],
  [2, value],
  [3, lease],
]

const VERSION = 0
const MOD = 2

const compare = (condition: Condition): Field[] =>
  'absent' in condition
    ? [
        [2, VERSION],
        [3, condition.key],
        [4, 0],
      ]
    : [
        [2, MOD],
        [3, condition.key],
        [6, condition.modRevision],
      ]

/** A transaction of one operation: `put` or `delete`. */
export const txnRequest = (condition: Condition, operation: readonly ['put' | 'delete', readonly Field[]]): Buffer =>
  encode([
    [1, compare(condition)],
    [2, [[operation[0] === 'put' ? 2 : 3, operation[1]]]],
  ])

export const watchCreateRequest = (key: string, end: Uint8Array, revision: number): Buffer =>
  encode([
    [
      1,
      [
        [1, key],
        [2, end],
        [3, revision],
        // Progress is told now and then, so that a watch without events does not fall behind compaction.
        [4, true],
        // Many events come in several answers, so that none is larger than what a client takes.
        [8, true],
      ],
    ],
  ])

export function readHeader(message: Message): Header {
  const header = message.message(1)
  return { cluster: header.long(1), revision: header.number(3), term: header.number(4) }
}

export const readKeyValue = (kv: Message): KeyValue => ({
  key: kv.text(1),
  createRevision: kv.number(2),
  modRevision: kv.number(3),
  // A copy: the piece of memory that the whole answer came in is not held for one small value.
  value: Buffer.from(kv.bytes(5)),
  lease: kv.long(6),
})

export const readRange = (message: Message): RangeResult => ({
  header: readHeader(message),
  kvs: message.messages(2).map(readKeyValue),
  more: message.flag(3),
})

export const readWatch = (message: Message): WatchAnswer => ({
  header: readHeader(message),
  created: message.flag(3),
  canceled: message.flag(4),
  compactRevision: message.number(5),
  reason: message.text(6).slice(0, 300),
  isFragment: message.flag(7),
  events: message.messages(11).map((event) => {
    const kv = readKeyValue(event.message(2))
    return event.number(1) === 1 ? { type: 'delete', key: kv.key, revision: kv.modRevision } : { type: 'put', kv }
  }),
})
