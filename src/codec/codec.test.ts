import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatIp, ip4, ip6 } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { ipAddress, mac } from './address.ts'
import { attr, attributes, many, nest } from './attributes.ts'
import { CodecError, LITTLE, Reader, Writer } from './buffer.ts'
import {
  array,
  be16,
  be32,
  be64,
  bool8,
  bytes,
  cstring,
  decode,
  encode,
  flag,
  i32,
  i8,
  pad,
  rest,
  u16,
  u32,
  u64,
  u8,
  type Codec,
} from './codec.ts'
import { struct } from './struct.ts'

const anyIp = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }).map((n) => formatIp(ip4(n))),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => formatIp(ip6(n))),
)
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes)
const anyBytes = fc.uint8Array({ maxLength: 40 })

/** encode then decode is the identity, and encoding is exact. */
const roundTrips = <T>(codec: Codec<T>, values: fc.Arbitrary<T>): void =>
  fc.assert(fc.property(values, (value) => assert.deepEqual(decode(codec, encode(codec, value)), value)))

test('every field type reads what it wrote', () => {
  roundTrips(u8, fc.nat(0xff))
  roundTrips(i8, fc.integer({ min: -128, max: 127 }))
  roundTrips(u16, fc.nat(0xffff))
  roundTrips(be16, fc.nat(0xffff))
  roundTrips(u32, fc.nat(0xffff_ffff))
  roundTrips(be32, fc.nat(0xffff_ffff))
  roundTrips(i32, fc.integer())
  roundTrips(u64, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }))
  roundTrips(be64, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }))
  roundTrips(bool8, fc.boolean())
  roundTrips(bytes(5), fc.uint8Array({ minLength: 5, maxLength: 5 }))
  roundTrips(rest, anyBytes)
  roundTrips(array(u16), fc.array(fc.nat(0xffff)))
  roundTrips(ipAddress, anyIp)
  roundTrips(mac, anyMac)
  roundTrips(
    cstring(256),
    fc.string({ unit: 'binary', maxLength: 60 }).filter((text) => !text.includes('\0')),
  )
})

test('network and host order differ as they must', () => {
  assert.deepEqual([...encode(be16, 8472)], [0x21, 0x18])
  assert.deepEqual([...encode(be32, 0x0102_0304)], [1, 2, 3, 4])
  assert.deepEqual([...encode(u32, 0x0102_0304)], LITTLE ? [4, 3, 2, 1] : [1, 2, 3, 4])
})

test('values that do not fit are refused, with the field named', () => {
  const bad: [() => unknown, RegExp][] = [
    [() => encode(u8, 256), /256 does not fit u8/],
    [() => encode(u8, 1.5), /1\.5 does not fit u8/],
    [() => encode(u16, -1), /-1 does not fit u16/],
    [() => encode(u32, 2 ** 32), /does not fit u32/],
    [() => encode(u64, -1n), /does not fit u64/],
    [() => encode(cstring(16), 'sixteen-letters-'), /at most 15 bytes/],
    [() => encode(cstring(16), 'a\0b'), /at most 15 bytes/],
    [() => encode(bytes(4), new Uint8Array(3)), /3 bytes given for 4/],
  ]
  for (const [act, message] of bad) assert.throws(act, (e) => e instanceof CodecError && message.test(e.message))
})

test('a struct lays its fields out in order, padding included', () => {
  const header = struct('test', { family: u8, _pad: pad(3), index: i32, port: be16, flags: u8, type: u8 })
  const value = { family: 7, index: 3, port: 4789, flags: 2, type: 1 }
  assert.equal(encode(header, value).length, 12)
  assert.deepEqual(decode(header, encode(header, value)), value)
  assert.deepEqual([...encode(header, value).subarray(1, 4)], [0, 0, 0])
})

const inner = attributes('inner', { a: attr(1, u8), list: many(2, u16) })
const outer = attributes('outer', {
  name: attr(1, cstring(16)),
  inner: nest(2, inner),
  on: attr(3, flag),
  ip: attr(4, ipAddress),
})

const anyOuter = fc.record(
  {
    name: fc.stringMatching(/^[a-z0-9.]{1,15}$/),
    inner: fc.record(
      { a: fc.nat(255), list: fc.array(fc.nat(0xffff), { minLength: 1, maxLength: 5 }) },
      { requiredKeys: [], noNullPrototype: true },
    ),
    on: fc.constant(true),
    ip: anyIp,
    unknown: fc.array(
      fc.record({ type: fc.integer({ min: 5, max: 0x3fff }), bytes: anyBytes }, { noNullPrototype: true }),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
  },
  { requiredKeys: [], noNullPrototype: true },
)

test('attributes read what they wrote, and keep what they do not know', () => {
  fc.assert(
    fc.property(anyOuter, (value) => {
      const wire = encode(outer, value)
      assert.equal(wire.length % 4, 0)
      assert.deepEqual(decode(outer, wire), value)
      assert.deepEqual(encode(outer, decode(outer, wire)), wire)
    }),
  )
})

test('absent, undefined and false flags leave no bytes', () => {
  assert.equal(encode(outer, { name: undefined, on: false }).length, 0)
  assert.equal(encode(outer, { on: true }).length, 4)
  assert.throws(() => encode(outer, { nmae: 'typo' } as never), { code: 'unknown-field' })
})

test('hostile bytes give a typed error or a value, never anything else', () => {
  const corrupt = fc
    .tuple(anyOuter, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }), fc.nat(200))
    .map(([value, edits, cut]) => {
      const wire = encode(outer, value)
      for (const [at, byte] of edits) if (wire.length > 0) wire[at % wire.length] = byte
      return wire.subarray(0, Math.max(0, wire.length - (cut > 100 ? 0 : cut)))
    })
  fc.assert(
    fc.property(fc.oneof(corrupt, fc.uint8Array({ maxLength: 200 })), (wire) => {
      try {
        decode(outer, wire)
      } catch (error) {
        assert.ok(error instanceof CodecError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
  assert.throws(() => decode(outer, Uint8Array.of(0, 0, 1, 0)), { code: 'bad-length' })
  assert.throws(() => decode(array(pad(0)), Uint8Array.of(1)), { code: 'bad-length' })
})

test('an attribute cannot be read past its end, whatever its codec wants', () => {
  // u32 in an attribute of two bytes, followed by another attribute.
  const table = attributes('short', { n: attr(1, u32), m: attr(2, u32) })
  const wire = new Uint8Array([...encode(attributes('x', { n: attr(1, u16) }), { n: 1 }), ...encode(table, { m: 2 })])
  assert.throws(() => decode(table, wire), { code: 'truncated' })
})

test('a writer grows, aligns, and takes back', () => {
  const writer = new Writer(4)
  writer.append(Uint8Array.of(1, 2, 3, 4, 5))
  writer.align(4)
  assert.equal(writer.length, 8)
  writer.truncate(2)
  assert.equal(writer.reserve(3), 2)
  assert.deepEqual([...writer.written()], [1, 2, 0, 0, 0])
})

test('what is read from a Buffer does not change with it', () => {
  const source = Buffer.from([1, 2, 3])
  const copy = new Reader(source).copy(3)
  source[0] = 9
  assert.deepEqual([...copy], [1, 2, 3])
})
