/** To the peers: what is cut is whole and can be put together again, and what the kernel refuses is sent otherwise or counted. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ERRNO } from '#sys/errno.ts'
import { VNET_HEADER } from './arena.ts'
import { datagrams } from './fake-wire.ts'
import { DESTINATION, largePacket, packet, payloadOf, type PacketShape } from './fixture.ts'
import { bench, hop, isWhole, PEER, recut, redirect, withoutId } from './test-bed.ts'

const tcpOptions = fc.constantFrom(new Uint8Array(0), Uint8Array.from([1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9]))

test('a large segment is cut into packets that are whole, and put together at the other end into what it was', () => {
  fc.assert(
    fc.property(
      fc.record({
        length: fc.integer({ min: 1, max: 65_000 }),
        size: fc.integer({ min: 500, max: 9000 }),
        options: tcpOptions,
        sequence: fc.nat(0xffff_ffff),
        id: fc.nat(0xffff),
        fragment: fc.constantFrom(0, 0x4000),
        push: fc.boolean(),
      }),
      ({ length, size, options, sequence, id, fragment, push }) => {
        const from = bench()
        const shape: PacketShape = {
          payload: payloadOf(length),
          options,
          sequence,
          id,
          fragment,
          flags: push ? 0x18 : 0x10,
        }
        from.sys.toRead.push(largePacket(shape, size))
        from.outbound.turn()
        const wire = from.sys.sent.flatMap(datagrams)
        assert.equal(wire.length, Math.ceil(length / size))
        for (const one of wire) assert.ok(isWhole(one))
        for (const message of from.sys.sent) {
          assert.deepEqual(message.to, [PEER, 8285])
          assert.ok(message.bytes.length <= 65_507 && datagrams(message).length <= 64)
        }
        assert.equal(from.counters.sentPackets, wire.length)

        // The other node has the same subnets the other way round.
        const to = bench({ anySource: true })
        const there = wire.map((one) => redirect(one))
        for (const one of there) to.sys.toReceive.push({ bytes: one, from: PEER })
        while (to.inbound.turn() > 0);
        const back = to.sys.written.flatMap(recut)
        assert.deepEqual(back, there.map(hop))
        const segments = Math.ceil(length / size)
        // One piece for each batch of datagrams, and for what does not fit into 64 KiB.
        if (segments > 1) assert.ok(to.sys.written.length <= Math.ceil(segments / 16) + 1)
      },
    ),
    { numRuns: 60 },
  )
})

test('a thousand small packets in one, and several large ones at once: none overwrites another', () => {
  const { sys, outbound, counters } = bench()
  const small = { payload: payloadOf(65_000, 1), sequence: 5 }
  const shapes: readonly PacketShape[] = [0, 1, 2].map((i) => ({ payload: payloadOf(60_000, i), sequence: i * 60_000 }))
  sys.toRead.push(largePacket(small, 64), ...shapes.map((shape) => largePacket(shape, 200)))
  while (outbound.turn() > 0);
  const wire = sys.sent.flatMap(datagrams)
  assert.equal(wire.length, Math.ceil(65_000 / 64) + 3 * 300)
  for (const one of wire) assert.ok(isWhole(one))
  const payload = (from: number, to: number): Buffer =>
    Buffer.concat(wire.slice(from, to).map((one) => one.subarray(40)))
  assert.deepEqual(Uint8Array.from(payload(0, 1016)), small.payload)
  for (const [i, shape] of shapes.entries())
    assert.deepEqual(Uint8Array.from(payload(1016 + i * 300, 1316 + i * 300)), shape.payload)
  assert.equal(counters.drops.malformed, 0)
})

test('trains: equal sizes to one peer in one request, a shorter one ends it, another peer begins another', () => {
  const { sys, outbound, counters } = bench()
  const udp = (destination: number, length: number): Uint8Array =>
    Buffer.concat([new Uint8Array(VNET_HEADER), packet({ protocol: 17, destination, payload: payloadOf(length) })])
  const third = 0x0af4_0302
  sys.toRead.push(...[500, 500, 300, 500].map((length) => udp(DESTINATION, length)), udp(third, 500), udp(third, 600))
  outbound.turn()
  assert.deepEqual(
    sys.sent.map((message) => [message.to[0] & 0xff, datagrams(message).map(({ length }) => length - 28)]),
    [
      [2, [500, 500, 300]],
      [2, [500]],
      [3, [500]],
      [3, [600]],
    ],
  )
  assert.equal(counters.sentPackets, 6)
  assert.equal(counters.sendCalls, 1)
})

test('a kernel that cuts no trains gets datagrams one by one, for good; one whose way is narrow, for once', () => {
  for (const [errno, lasts] of [
    [ERRNO.EIO, true],
    [ERRNO.EMSGSIZE, false],
    [ERRNO.EINVAL, false],
  ] as const) {
    const { sys, outbound, counters, sender, notes } = bench()
    sys.refuse = ({ size }) => (size === undefined ? 0 : errno)
    sys.toRead.push(largePacket({ payload: payloadOf(10_000) }, 1400))
    outbound.turn()
    assert.equal(sys.sent.length, 8)
    for (const { bytes } of sys.sent) assert.ok(isWhole(bytes))
    assert.equal(counters.sentPackets, 8)
    assert.equal(sender.segments, !lasts)
    assert.deepEqual(notes, lasts ? [errno] : [])
    sys.toRead.push(largePacket({ payload: payloadOf(3000) }, 1400))
    outbound.turn()
    assert.equal(sys.sent.length, 11)
  }
})

test('what the kernel does not take is counted, and the rest goes on; a full queue drops the batch', () => {
  const { sys, outbound, counters } = bench({ segment: false })
  sys.refuse = ({ bytes }) => (bytes.length === 52 ? ERRNO.ENETUNREACH : 0)
  const read = (...sizes: number[]): void => {
    for (const size of sizes)
      sys.toRead.push(Buffer.concat([new Uint8Array(VNET_HEADER), packet({ payload: payloadOf(size) })]))
    outbound.turn()
  }
  read(11, 12, 13)
  assert.deepEqual([sys.sent.length, counters.drops['send-failed'], counters.sentPackets], [2, 1, 2])
  sys.refuse = () => ERRNO.EAGAIN
  read(1, 2, 3)
  assert.deepEqual([counters.drops['queue-full'], counters.sentPackets], [3, 2])
})

test('out: no peer, no hop left, no IPv4, nonsense: counted, and answered where that is due', () => {
  const { sys, outbound, counters, refused } = bench({ header: 0 })
  const ipv6 = Uint8Array.from({ length: 60 }, (_, i) => (i === 0 ? 0x60 : 0))
  sys.toRead.push(
    packet({ destination: 0x0af4_6302, payload: payloadOf(1) }),
    packet({ ttl: 1, payload: payloadOf(1) }),
    ipv6,
    new Uint8Array([0x45, 0]),
    packet({ payload: payloadOf(100) }).subarray(0, 60),
  )
  outbound.turn()
  assert.deepEqual(refused, ['3 af46302', '11 af40202'])
  const { drops } = counters
  assert.deepEqual([drops['no-peer'], drops.ttl, drops['not-ipv4'], drops.malformed], [1, 1, 1, 2])
  assert.equal(sys.sent.length, 0)
})

test('the device’s unfinished checksums are finished', () => {
  const { sys, outbound } = bench()
  sys.toRead.push(largePacket({ payload: payloadOf(99) }, 0), largePacket({ protocol: 17, payload: payloadOf(98) }, 0))
  outbound.turn()
  for (const one of sys.sent.flatMap(datagrams)) assert.ok(isWhole(one))
  assert.equal(sys.sent.flatMap(datagrams).length, 2)
})

test('trains of UDP datagrams are cut, and put together where the kernel takes them', () => {
  const from = bench()
  from.sys.toRead.push(largePacket({ protocol: 17, payload: payloadOf(5000) }, 1200))
  from.outbound.turn()
  const wire = from.sys.sent.flatMap(datagrams)
  assert.deepEqual(
    wire.map(({ length }) => length - 28),
    [1200, 1200, 1200, 1200, 200],
  )
  for (const one of wire) assert.ok(isWhole(one))
  for (const [udp, pieces] of [
    [true, 1],
    [false, 5],
  ] as const) {
    const to = bench({ udp })
    const there = wire.map(redirect)
    for (const bytes of there) to.sys.toReceive.push({ bytes, from: PEER })
    to.inbound.turn()
    assert.equal(to.sys.written.length, pieces)
    assert.deepEqual(to.sys.written.flatMap(recut).map(withoutId), there.map(hop).map(withoutId))
  }
})
