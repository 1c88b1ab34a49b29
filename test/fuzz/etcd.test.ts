/** What an etcd server, and whoever may write below the prefix, could send. */

import { test } from 'node:test'

import fc from 'fast-check'

import { EtcdError } from '#etcd/errors.ts'
import { Deframer, frame } from '#etcd/frames.ts'
import { readRange, readWatch } from '#etcd/messages.ts'
import { encode, Message } from '#etcd/proto.ts'
import { backendOf } from '#flannel/backend/registry.ts'
import { formatAttributes, parseAttributes } from '#flannel/etcd/attributes.ts'
import { parseLeaseKey } from '#flannel/etcd/key.ts'
import { chooseSubnets, fits, isPart, leaseRanges } from '#flannel/etcd/range.ts'
import { leaseRecord, recordName, viewOf } from '#flannel/etcd/record.ts'
import { readLease } from '#flannel/lease.ts'
import { parseNetConf } from '#flannel/net-conf.ts'
import { bytes, damagedText, jsonText, survives, text } from './hostile.ts'

const header = [
  [1, 1n],
  [3, 7],
  [4, 2],
] as const
const kv = [
  [1, '/n/subnets/10.5.1.0-24'],
  [2, 5],
  [3, 6],
  [5, '{"PublicIP":"192.0.2.1"}'],
  [6, -1n],
] as const
const range = encode([
  [1, header],
  [2, kv],
  [3, true],
])
const watch = encode([
  [1, header],
  [3, true],
  [5, 3],
  [
    11,
    [
      [1, 1],
      [2, kv],
    ],
  ],
])

/** A good answer with some of its bytes other than they were, or fewer. */
const damaged = fc
  .tuple(
    fc.constantFrom(range, watch),
    fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
    fc.nat(200),
  )
  .map(([answer, changes, cut]) => {
    const copy = Buffer.from(answer)
    for (const [at, value] of changes) copy[at % copy.length] = value
    return cut < copy.length ? copy.subarray(0, cut) : copy
  })

test('answers: lists and events', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        damaged,
        bytes([range, watch]).map((it) => Buffer.from(it)),
      ),
      (it) => {
        for (const read of [readRange, readWatch]) survives(() => read(new Message(it)), EtcdError)
        survives(() => new Deframer(1000).take(it), EtcdError)
        survives(() => new Deframer(1000).take(Buffer.concat([frame(it), it])), EtcdError)
      },
    ),
    { numRuns: 2_000 },
  )
})

const conf = parseNetConf('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
const ranges = leaseRanges(conf)
const backend = backendOf(conf.backend)

test('leases: keys, values, and what follows from them', () => {
  const values = jsonText({
    PublicIP: '192.0.2.1',
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: '0e:00:00:00:00:01' },
    BackendV6Data: {},
  })
  const keys = damagedText(['10.5.52.0-24', '10.5.52.0-24&fc00:0:0:1::-64', '0.0.0.0-1'])
  fc.assert(
    fc.property(fc.oneof(keys, text), fc.oneof(values, text), (key, value) =>
      survives(() => {
        const attributes = parseAttributes(Buffer.from(value))
        if (attributes !== undefined) formatAttributes(attributes)
        const subnets = parseLeaseKey(key)
        if (subnets === undefined) return
        fits(ranges, subnets)
        if (isPart(ranges, subnets)) chooseSubnets(ranges, [subnets], () => 0.5)
        const record = leaseRecord({ key, value: Buffer.from(value), createRevision: 1, modRevision: 2, lease: 3n })
        if (record !== undefined) readLease(viewOf(record, recordName(record), 'vxlan'), backend, [4, 6])
      }),
    ),
    { numRuns: 2_000 },
  )
})
