import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { CodecError } from '#codec/buffer.ts'
import { formatIp, ip4, ip6 } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { DhcpWireError } from './error.ts'
import { identityOf, keyOf } from './identity.ts'
import { decodeMessage4, encodeMessage4, MESSAGE4, type Message4 } from './message4.ts'
import { addresses6Of, decodeMessage6, encodeMessage6, MESSAGE6, type Message6 } from './message6.ts'
import {
  addressesOf,
  hostAddressOf,
  maskLengthOf,
  optionCode,
  routerOf,
  routesOf,
  searchListOf,
  secondsOf,
  textOf,
} from './option4.ts'
import { decodePacket4, encodePacket4 } from './packet4.ts'

const anyIp4 = fc.nat(0xffff_ffff).map((value) => formatIp(ip4(value)))
const anyIp6 = fc
  .bigInt({ min: 0x2000n << 112n, max: (0x3fffn << 112n) | ((1n << 112n) - 1n) })
  .map((v) => formatIp(ip6(v)))
const bytes = (maxLength: number, minLength = 0) => fc.uint8Array({ minLength, maxLength })
/** Without the size the long ones would hardly ever come. */
const long = fc.uint8Array({ maxLength: 600, size: 'max' })
const mac = bytes(6, 6).map(macFromBytes)

const message4: fc.Arbitrary<Message4> = fc.record({
  op: fc.constantFrom(1, 2),
  type: fc.constantFrom(...(Object.keys(MESSAGE4) as (keyof typeof MESSAGE4)[])),
  xid: fc.nat(0xffff_ffff),
  secs: fc.nat(0xffff),
  broadcast: fc.boolean(),
  ciaddr: anyIp4,
  yiaddr: anyIp4,
  giaddr: anyIp4,
  mac,
  options: fc
    .array(fc.tuple(fc.integer({ min: 1, max: 254 }), long), { maxLength: 4 })
    .map((list) => new Map(list.filter(([code]) => code !== 52 && code !== 53))),
})

/** Anything but one of these is a mistake of ours: what comes from outside must never be worse. */
const tolerates = (read: () => unknown): void => {
  try {
    read()
  } catch (error) {
    assert.ok(error instanceof DhcpWireError || error instanceof CodecError, String(error))
  }
}

test('a DHCPv4 message survives its bytes, long options in pieces', () => {
  fc.assert(
    fc.property(message4, (message) => {
      const read = decodeMessage4(encodeMessage4(message))
      assert.deepEqual({ ...read, options: new Map() }, { ...message, options: new Map() })
      assert.deepEqual(
        new Map(Array.from(read.options, ([code, value]) => [code, [...value]])),
        new Map(Array.from(message.options, ([code, value]) => [code, [...value]])),
      )
    }),
    // Making a failure with kilobytes of options smaller takes minutes.
    { endOnFailure: true },
  )
})

test('options overloaded into the names of a DHCPv4 message are read too', () => {
  const raw = encodeMessage4({
    ...fc.sample(message4, 1)[0]!,
    type: 'offer',
    options: new Map([[52, Uint8Array.of(3)]]),
  })
  raw.set([12, 2, 0x68, 0x69, 255], 108)
  raw.set([15, 1, 0x78, 255], 44)
  const { options } = decodeMessage4(raw)
  assert.equal(textOf(options.get(12)), 'hi')
  assert.equal(textOf(options.get(15)), 'x')
})

test('a packet survives its bytes; a changed byte is noticed', () => {
  const packet = fc.record({
    source: anyIp4,
    destination: anyIp4,
    sourcePort: fc.nat(0xffff),
    destinationPort: fc.nat(0xffff),
    payload: bytes(80),
  })
  fc.assert(
    fc.property(packet, fc.nat(), fc.integer({ min: 1, max: 255 }), (given, at, flip) => {
      const frame = encodePacket4(given)
      const read = decodePacket4(frame)
      assert.deepEqual({ ...read, payload: [...read.payload] }, { ...given, payload: [...given.payload] })
      const damaged = Uint8Array.from(frame)
      const index = at % frame.length
      damaged[index] = (damaged[index] ?? 0) ^ flip
      // Without a checksum (two zero bytes) nothing can be noticed; sums that agree by the order of words neither.
      if (index === 26 || index === 27) return
      assert.throws(() => decodePacket4(damaged), DhcpWireError)
    }),
  )
})

test('the checksum that a sender on this machine leaves to a network card is taken', () => {
  const frame = encodePacket4({
    source: formatIp(ip4(0x0a63_0001)),
    destination: formatIp(ip4(0x0a63_0064)),
    sourcePort: 67,
    destinationPort: 68,
    payload: Uint8Array.of(1, 2, 3),
  })
  // Pseudo header alone: 0a63+0001+0a63+0064+0011+000b.
  new DataView(frame.buffer).setUint16(26, 0x0a63 + 0x0001 + 0x0a63 + 0x0064 + 17 + 11)
  assert.deepEqual([...decodePacket4(frame).payload], [1, 2, 3])
  new DataView(frame.buffer).setUint16(26, 0x1234)
  assert.throws(() => decodePacket4(frame), { code: 'checksum' })
})

const message6: fc.Arbitrary<Message6> = fc.record(
  {
    type: fc.constantFrom(...(Object.keys(MESSAGE6) as (keyof typeof MESSAGE6)[])),
    xid: fc.nat(0xff_ffff),
    clientId: bytes(130, 3),
    serverId: bytes(130, 3),
    ias: fc.array(
      fc.record({
        iaid: fc.nat(0xffff_ffff),
        t1: fc.nat(100),
        t2: fc.integer({ min: 100, max: 0xffff_ffff }),
        addresses: fc.array(
          fc.record({
            address: anyIp6,
            preferred: fc.nat(1000),
            valid: fc.integer({ min: 1000, max: 0xffff_ffff }),
          }),
          { maxLength: 3 },
        ),
      }),
      { maxLength: 3 },
    ),
    preference: fc.nat(255),
    rapidCommit: fc.constant(true),
    elapsed: fc.nat(0xffff),
    requested: fc.array(fc.nat(0xffff), { minLength: 1, maxLength: 5 }),
    options: fc.constant(new Map([[23, new Uint8Array(16)]])),
  },
  { requiredKeys: ['type', 'xid', 'ias', 'options'] },
)

test('a DHCPv6 message survives its bytes', () => {
  fc.assert(
    fc.property(message6, (message) => {
      const plain = (m: Message6): unknown =>
        JSON.parse(
          JSON.stringify({
            ...m,
            clientId: [...(m.clientId ?? [])],
            serverId: [...(m.serverId ?? [])],
            options: m.options.size,
          }),
        )
      assert.deepEqual(plain(decodeMessage6(encodeMessage6(message))), plain(message))
    }),
  )
})

test('whatever bytes come: a message or an error of the wire, for every reader', () => {
  fc.assert(
    fc.property(
      bytes(600),
      message4,
      message6,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }),
      (noise, m4, m6, edits) => {
        const mutated = [encodeMessage4(m4), encodeMessage6(m6)].map((whole) => {
          const copy = Uint8Array.from(whole)
          for (const [at, value] of edits) copy[at % copy.length] = value
          return copy.subarray(0, copy.length - ((edits[0]?.[0] ?? 0) % 20))
        })
        for (const raw of [noise, ...mutated]) {
          tolerates(() => decodePacket4(raw))
          tolerates(() => decodeMessage4(raw))
          tolerates(() => decodeMessage6(raw))
          tolerates(() =>
            routesOf(
              new Map([
                [121, raw],
                [33, raw],
                [3, raw],
              ]),
            ),
          )
          searchListOf(raw)
          addressesOf(raw)
          addresses6Of(raw)
          hostAddressOf(raw)
          textOf(raw)
          secondsOf(raw)
          maskLengthOf(raw)
        }
      },
    ),
    { numRuns: 500 },
  )
})

const at = (...list: number[]): Uint8Array => Uint8Array.from(list)

test('routes: option 121 wins over 33 and 3; a static route has its class; 0.0.0.0 is on the link', () => {
  const classless = at(24, 192, 0, 2, 10, 0, 0, 9, 0, 10, 0, 0, 8, 32, 1, 2, 3, 4, 0, 0, 0, 0)
  const router = at(10, 0, 0, 1, 10, 0, 0, 2)
  const fixed = at(172, 16, 5, 5, 10, 0, 0, 3, 0, 0, 0, 0, 10, 0, 0, 4)
  assert.deepEqual(
    routesOf(
      new Map([
        [121, classless],
        [33, fixed],
        [3, router],
      ]),
    ),
    [{ dst: '192.0.2.0/24', gw: '10.0.0.9' }, { dst: '0.0.0.0/0', gw: '10.0.0.8' }, { dst: '1.2.3.4/32' }],
  )
  assert.deepEqual(
    routesOf(
      new Map([
        [33, fixed],
        [3, router],
      ]),
    ),
    [
      { dst: '172.16.0.0/16', gw: '10.0.0.3' },
      { dst: '0.0.0.0/0', gw: '10.0.0.1' },
    ],
  )
  assert.equal(routerOf(new Map([[3, at(0, 0, 0, 0)]])), undefined)
  assert.throws(() => routesOf(new Map([[121, at(33, 1, 2)]])), { code: 'malformed' })
})

test('masks with holes are none; names are compressed as in DNS, and no name leads in circles', () => {
  assert.deepEqual(
    [at(255, 255, 255, 0), at(255, 255, 255, 255), at(128, 0, 0, 0), at(255, 0, 255, 0), at(0, 0, 0, 0), at(255)].map(
      maskLengthOf,
    ),
    [24, 32, 1, undefined, undefined, undefined],
  )
  const list = Buffer.from('\x01a\x07example\x00\x01b\xc0\x02', 'latin1')
  assert.deepEqual(searchListOf(list), ['a.example', 'b.example'])
  assert.deepEqual(searchListOf(at(1, 0x61, 0xc0, 0)), [])
  assert.deepEqual(searchListOf(Buffer.from('\x03a b\x00', 'latin1')), [])
})

test("options by the reference's names and by number", () => {
  const table: Record<string, number | undefined> = {
    'dhcp-client-identifier': 61,
    'subnet-mask': 1,
    routers: 3,
    'host-name': 12,
    'user-class': 77,
    'vendor-class-identifier': 60,
    '121': 121,
    '0': undefined,
    '255': undefined,
    '1e1': undefined,
    router: undefined,
  }
  for (const [name, code] of Object.entries(table)) assert.equal(optionCode(name), code, name)
})

test('identities: the same for the same attachment; cut at 254 bytes; one DUID for both protocols where asked', () => {
  const key = keyOf('c1', 'net1', 'eth0')
  const { clientId, duid, iaid } = identityOf(key)
  assert.equal(Buffer.from(clientId).toString('latin1'), '\0c1/net1/eth0')
  assert.deepEqual(identityOf(key), identityOf(key))
  assert.equal(identityOf('x'.repeat(300)).clientId.length, 255)
  assert.equal(duid.length, 18)
  const both = identityOf(key, 'rfc4361')
  assert.equal(both.clientId[0], 255)
  assert.equal(Buffer.from(both.clientId).readUInt32BE(1), iaid)
  assert.deepEqual(Buffer.from(both.clientId.subarray(5)), Buffer.from(duid))
})
