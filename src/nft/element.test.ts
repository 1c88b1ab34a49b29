import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { forEachAttribute } from '#codec/attributes.ts'
import { CodecError, Reader, Writer } from '#codec/buffer.ts'
import { formatIp, ip4, ip6 } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { dataType, type DataTypeName, keyLength, type Part, typeId, typesOfId } from './datatype.ts'
import { type Element, type ElementTypes, type RawElement, readElement, type Verdict, writeElement } from './element.ts'
import { NftError } from './error.ts'
import { following, formatInterval, parseInterval, preceding } from './interval.ts'
import { joinIntervals } from './join.ts'
import { commentText } from './quote.ts'
import { decodeComment, encodeComment } from './userdata.ts'

const v4 = fc.integer({ min: 0, max: 0xffff_ffff }).map((n) => formatIp(ip4(n)))
const v6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => formatIp(ip6(n)))
const number = (max: number): fc.Arbitrary<Part> => fc.integer({ min: 0, max })
const valueOf: Record<DataTypeName, fc.Arbitrary<Part>> = {
  ipv4_addr: v4,
  ipv6_addr: v6,
  ether_addr: fc.uint8Array({ minLength: 6, maxLength: 6 }).map((bytes) => macFromBytes(bytes)),
  inet_proto: number(0xff),
  inet_service: number(0xffff),
  mark: number(0xffff_ffff),
  ifname: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 15 }),
}
const types = fc
  .array(fc.constantFrom(...(Object.keys(valueOf) as DataTypeName[])), { minLength: 1, maxLength: 4 })
  .filter((list) => keyLength(list) <= 64)
const partsOf = (list: readonly DataTypeName[]): fc.Arbitrary<Part[]> => fc.tuple(...list.map((type) => valueOf[type]))
const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  fc.constantFrom('accept' as const, 'drop' as const, 'return' as const, 'continue' as const),
  fc.record({ jump: fc.stringMatching(/^[a-z]{1,20}$/) }),
  fc.record({ goto: fc.stringMatching(/^[a-z]{1,20}$/) }),
)
const comment = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).map(commentText)

function itemsOf(bytes: Uint8Array, set: ElementTypes): RawElement[] {
  const raw: RawElement[] = []
  forEachAttribute(new Reader(bytes), (_, item) => void raw.push(readElement(item, set)))
  return raw
}

function roundTrip(set: ElementTypes, elements: readonly Element[]): Element[] {
  const writer = new Writer()
  for (const element of elements) writeElement(writer, set, element)
  return joinIntervals(set, itemsOf(writer.written(), set))
}

test('property: elements of every kind of set read back as written', () => {
  const cases = fc
    .record({ key: types, data: fc.option(fc.oneof(types, fc.constant('verdict' as const)), { nil: undefined }) })
    .chain(({ key, data }) =>
      fc.record({
        set: fc.constant<ElementTypes>({ name: 's', key, ...(data === undefined ? {} : { data }) }),
        key: partsOf(key),
        data: data === undefined ? fc.constant(undefined) : data === 'verdict' ? verdict : partsOf(data),
        comment: fc.option(comment, { nil: undefined }),
        timeout: fc.option(fc.integer({ min: 1, max: 2 ** 40 }), { nil: undefined }),
      }),
    )
  fc.assert(
    fc.property(cases, ({ set, ...given }) => {
      const element = JSON.parse(JSON.stringify(given)) as Element
      assert.deepEqual(roundTrip(set, [element]), [element])
    }),
    { numRuns: 500 },
  )
})

test('a map element byte for byte', () => {
  const writer = new Writer()
  const set: ElementTypes = { name: 'm', key: ['ipv4_addr', 'inet_service'], data: 'verdict' }
  writeElement(writer, set, { key: ['10.0.0.1', 80], data: { jump: 'c' }, comment: 'me' })
  assert.equal(
    Buffer.from(writer.written()).toString('hex'),
    // list item, key { value }, data { verdict { code -3, chain "c" } }, user data { 0, 3, "me" }
    '38000180' +
      '100001800c0001000a00000100500000' +
      '1800028014000280' +
      '08000100fffffffd' +
      '0600020063000000' +
      '0900060000036d6500000000',
  )
})

test('marks are in host order, ports in network order, protocols by name too', () => {
  const writer = new Writer()
  writeElement(writer, { name: 's', key: ['mark', 'inet_service', 'inet_proto'] }, { key: [0x4000, 443, 'sctp'] })
  const value = writer.written().subarray(12)
  assert.deepEqual(new Uint32Array(value.slice(0, 4).buffer), new Uint32Array([0x4000]))
  assert.equal(Buffer.from(value.subarray(4)).toString('hex'), '01bb000084000000')
})

test('type numbers are those of nft', () => {
  assert.equal(typeId(['ipv4_addr']), 7)
  assert.equal(typeId(['ipv4_addr', 'inet_service']), (7 << 6) | 13)
  assert.deepEqual(typesOfId((8 << 12) | (12 << 6) | 13), ['ipv6_addr', 'inet_proto', 'inet_service'])
  assert.equal(typesOfId(6), undefined)
})

test('property: disjoint intervals of one type join again, whatever the order', () => {
  const cases = fc.uniqueArray(fc.integer({ min: 0, max: 0xffff }), { minLength: 2, maxLength: 20 })
  const set: ElementTypes = { name: 's', key: ['inet_service'], flags: ['interval'] }
  fc.assert(
    fc.property(cases, (ports) => {
      const sorted = [...ports].sort((a, b) => a - b)
      const wanted: Element[] = []
      for (let i = 0; i + 1 < sorted.length; i += 2)
        wanted.push({ key: [formatInterval('inet_service', { from: sorted[i]!, to: sorted[i + 1]! })] })
      assert.deepEqual(roundTrip(set, wanted.toReversed()), wanted)
    }),
  )
})

test('prefixes, ranges and single addresses', () => {
  const set: ElementTypes = { name: 's', key: ['ipv4_addr'], flags: ['interval'] }
  const keys = ['0.0.0.0/1', '128.0.0.0/9', '128.128.0.0', '128.128.0.1', '200.0.0.1-200.0.0.5', '255.255.255.0/24']
  const elements = keys.map((key) => ({ key: [key] }))
  assert.deepEqual(roundTrip(set, elements), elements)
  const concatenated: ElementTypes = { name: 's', key: ['ipv6_addr', 'inet_service'], flags: ['interval'] }
  const element = { key: ['fd00::/8', '80-90'] }
  assert.deepEqual(roundTrip(concatenated, [element]), [element])
  assert.deepEqual(parseInterval('ipv6_addr', '::/0'), { from: '::', to: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' })
  assert.equal(following('ipv4_addr', '255.255.255.255'), undefined)
  assert.equal(following('ipv4_addr', '10.0.0.255'), '10.0.1.0')
  assert.equal(preceding('ipv4_addr', '10.0.1.0'), '10.0.0.255')
})

test('bad values are refused with a reason', () => {
  const map: ElementTypes = { name: 'm', key: ['ipv4_addr', 'inet_service'], data: ['ipv4_addr'] }
  const verdicts: ElementTypes = { name: 'v', key: ['ipv4_addr'], data: 'verdict' }
  const ports: ElementTypes = { name: 'p', key: ['inet_service'], flags: ['interval'] }
  const cases: [ElementTypes, Element][] = [
    [map, { key: ['10.0.0.1'], data: ['10.0.0.2'] }],
    [map, { key: ['10.0.0.1', 65_536], data: ['10.0.0.2'] }],
    [map, { key: ['10.0.0.1', 1.5], data: ['10.0.0.2'] }],
    [map, { key: ['fd00::1', 80], data: ['10.0.0.2'] }],
    [map, { key: ['10.0.0.1', 80] }],
    [map, { key: ['10.0.0.1', 80], data: 'drop' }],
    [map, { key: ['10.0.0.1', 80], data: ['10.0.0.2'], comment: 'x"; flush ruleset' }],
    [map, { key: ['10.0.0.1', 80], data: ['10.0.0.2'], timeout: 0 }],
    [verdicts, { key: ['10.0.0.1'], data: ['10.0.0.2'] }],
    [{ name: 's', key: ['ifname'] }, { key: ['a'.repeat(16)] }],
    [{ name: 's', key: ['inet_proto'] }, { key: ['constructor'] }],
    [
      { name: 's', key: ['mark'] },
      { key: [1], data: 'drop' },
    ],
    [ports, { key: ['90-80'] }],
    [ports, { key: ['80-'] }],
  ]
  for (const [set, element] of cases)
    assert.throws(() => writeElement(new Writer(), set, element), NftError, JSON.stringify(element))
  assert.throws(() => writeElement(new Writer(), verdicts, { key: ['10.0.0.1/8'], data: 'drop' }))
})

test('property: hostile bytes give a typed error or elements, never a crash', () => {
  const set: ElementTypes = { name: 'm', key: ['ipv4_addr', 'inet_service'], data: 'verdict' }
  const valid = new Writer()
  writeElement(valid, set, { key: ['10.0.0.1', 80], data: { jump: 'c' }, comment: 'me' })
  const flips = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(flips, (changes) => {
      const bytes = valid.copy()
      for (const [at, value] of changes) bytes[at] = value
      try {
        joinIntervals(set, itemsOf(bytes, set))
      } catch (error) {
        assert.ok(error instanceof CodecError || error instanceof NftError, String(error))
      }
    }),
    { numRuns: 1000 },
  )
})

test('property: comments survive as user data, and hostile user data is no comment', () => {
  fc.assert(fc.property(comment, (text) => assert.equal(decodeComment('set', encodeComment('set', text)), text)))
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void decodeComment('element', bytes)))
})

test('every type knows its length', () => {
  for (const name of Object.keys(valueOf) as DataTypeName[]) assert.equal(keyLength([name]), dataType(name).length)
  assert.equal(keyLength(['inet_proto', 'ether_addr']), 12)
})
