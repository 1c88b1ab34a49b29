/** From the peers: order and bytes stay, nothing damaged is laundered, nothing foreign gets in. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { VNET_HEADER } from './arena.ts'
import { DESTINATION, packet, payloadOf, SOURCE, type PacketShape } from './fixture.ts'
import { bench, hop, PEER, recut, withoutId } from './test-bed.ts'

/** Mostly what can be put together. */
const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) })

const shapes = fc.array(
  fc.record({
    length: mostly(200, 0, 100),
    flow: mostly(0, 1),
    protocol: mostly<6 | 17>(6, 17),
    gap: mostly(0, 5),
    flags: mostly(0x10, 0x18, 0x11, 0x02, 0x90),
    fragment: mostly(0x4000, 0, 0x2000),
    ack: mostly(2000, 2001),
    damage: mostly(false, true),
    ttl: mostly(64, 9),
    skip: mostly(0, 1),
  }),
  { minLength: 1, maxLength: 40 },
)

test('whatever comes in is written in its order, unchanged, damaged packets by themselves', () => {
  fc.assert(
    fc.property(shapes, fc.boolean(), (list, offload) => {
      const { sys, inbound, counters } = bench({ header: offload ? VNET_HEADER : 0 })
      const next = [1000, 5000]
      let id = 0
      const packets = list.map(({ length, flow, gap, damage, skip, ...rest }, i) => {
        id += 1 + skip
        const sequence = (next[flow] ?? 0) + gap
        next[flow] = sequence + length
        const bytes = packet({
          ...rest,
          id,
          source: DESTINATION,
          destination: SOURCE,
          ports: [40_000 + flow, 80],
          sequence,
          payload: payloadOf(length, i),
        })
        if (damage) bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 0x55
        return bytes
      })
      for (const bytes of packets) sys.toReceive.push({ bytes, from: PEER })
      while (inbound.turn() > 0);
      const written = offload ? sys.written.flatMap(recut) : sys.written.map((bytes) => Uint8Array.from(bytes))
      // Those without DF are numbered one after the other here, so that only their bytes count.
      assert.deepEqual(written.map(withoutId), packets.map(hop).map(withoutId))
      assert.equal(counters.receivedPackets, packets.length)
    }),
    { numRuns: 300 },
  )
})

test('a damaged segment in a row is not made whole by those beside it', () => {
  const { sys, inbound } = bench()
  const row = [0, 1, 2, 3].map((i) =>
    packet({ source: DESTINATION, destination: SOURCE, sequence: 1000 + i * 100, id: i, payload: payloadOf(100, i) }),
  )
  const bad = row[2]
  assert.ok(bad)
  bad[80] = (bad[80] ?? 0) ^ 1
  sys.toReceive.push({ bytes: Buffer.concat(row), from: PEER, size: 140 })
  inbound.turn()
  assert.deepEqual(
    sys.written.map((bytes) => [bytes[1], bytes.length - VNET_HEADER]),
    [
      [1, 240],
      [0, 140],
      [0, 140],
    ],
  )
})

test('packets that may be fragmented keep their numbers: only a row of them is put together', () => {
  for (const [fragment, ids, pieces] of [
    [0, [7, 8, 9], 1],
    [0, [7, 9, 10], 2],
    [0x4000, [7, 9, 3], 1],
  ] as const) {
    const { sys, inbound } = bench()
    const row = ids.map((id, i) =>
      packet({
        source: DESTINATION,
        destination: SOURCE,
        sequence: 1000 + i * 100,
        id,
        fragment,
        payload: payloadOf(100, i),
      }),
    )
    sys.toReceive.push({ bytes: Buffer.concat(row), from: PEER, size: 140 })
    inbound.turn()
    assert.equal(sys.written.length, pieces)
  }
})

test('in: only from peers, only what is behind them, only to this node’s pods', () => {
  const cases: readonly (readonly [string, Omit<PacketShape, 'payload'>, number, string | undefined])[] = [
    ['from its pod to ours', {}, PEER, undefined],
    ['from its node', { source: 0xc0a8_0002 }, PEER, undefined],
    ['from a stranger', {}, 0xc0a8_0063, 'unknown-sender'],
    ['from another peer’s pod', { source: 0x0af4_0302 }, PEER, 'wrong-source'],
    ['from a pod of ours', { source: 0x0af4_0105 }, PEER, 'wrong-source'],
    ['from a pod of nobody', { source: 0x0af4_0905 }, PEER, 'wrong-source'],
    ['from loopback', { source: 0x7f00_0001 }, PEER, 'wrong-source'],
    ['from multicast', { source: 0xe000_0001 }, PEER, 'wrong-source'],
    ['to another peer’s pod', { destination: 0x0af4_0302 }, PEER, 'wrong-destination'],
    ['to the node', { destination: 0xc0a8_0001 }, PEER, 'wrong-destination'],
    ['to everybody', { destination: 0xffff_ffff }, PEER, 'wrong-destination'],
    ['without hops', { ttl: 1 }, PEER, 'ttl'],
  ]
  for (const [what, shape, from, drop] of cases) {
    const { sys, inbound, counters } = bench()
    const bytes = packet({ source: DESTINATION, destination: SOURCE, ...shape, payload: payloadOf(9) })
    sys.toReceive.push({ bytes, from })
    inbound.turn()
    const dropped = Object.entries(counters.drops).filter(([, count]) => count > 0)
    assert.deepEqual(dropped, drop === undefined ? [] : [[drop, 1]], what)
    assert.equal(sys.written.length, drop === undefined ? 1 : 0, what)
  }
  const open = bench({ anySource: true })
  open.sys.toReceive.push({
    bytes: packet({ source: 0x0af4_0302, destination: SOURCE, payload: payloadOf(9) }),
    from: 0x0102_0304,
  })
  open.inbound.turn()
  assert.equal(open.sys.written.length, 1, 'AnySource')
  open.sys.toReceive.push({
    bytes: packet({ source: 0x0af4_0105, destination: SOURCE, payload: payloadOf(9) }),
    from: 0x0102_0304,
  })
  open.inbound.turn()
  assert.equal(open.counters.drops['wrong-source'], 1, 'but never as one of our own pods')
})

test('whatever arrives: each datagram is written or counted, and nothing is thrown', () => {
  const byte = fc.nat(255)
  const mangled = fc
    .tuple(fc.nat(300), fc.array(fc.tuple(fc.nat(70), byte), { maxLength: 4 }), fc.constantFrom<6 | 17>(6, 17))
    .map(([length, changes, protocol]) => {
      const bytes = packet({ source: DESTINATION, destination: SOURCE, protocol, payload: payloadOf(length) })
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
      return bytes
    })
  const any = fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 100 }), mangled, mangled)
  fc.assert(
    fc.property(fc.array(fc.tuple(any, fc.option(fc.nat(200)), fc.nat(64)), { maxLength: 30 }), (list) => {
      const { sys, inbound, counters } = bench()
      let expected = 0
      for (const [bytes, size, flags] of list) {
        expected += size === null || size === 0 ? 1 : Math.ceil(bytes.length / size)
        sys.toReceive.push({ bytes, from: PEER, flags: flags & 0x20, ...(size === null ? {} : { size }) })
      }
      while (inbound.turn() > 0);
      const dropped = Object.values(counters.drops).reduce((total, count) => total + count, 0)
      assert.equal(counters.receivedPackets + dropped, expected)
    }),
    { numRuns: 300 },
  )
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 20 }), (list) => {
      const { sys, outbound } = bench()
      for (const bytes of list) {
        // Past the lookup, so that what lies behind is tried.
        if (bytes.length > 40) bytes.set([0x45, 0, 0, bytes.length - 12], VNET_HEADER)
        if (bytes.length > 40) bytes.set([10, 244, 2, 2], VNET_HEADER + 16)
        sys.toRead.push(bytes)
      }
      while (outbound.turn() > 0);
    }),
    { numRuns: 300 },
  )
})
