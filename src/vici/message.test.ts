import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { decodeMessage, encodeMessage, ViciFormatError, type ViciSection, type ViciValue } from './message.ts'
import { encodePacket, MAX_PACKET, PacketStream, type Packet } from './packet.ts'

test('the example of the protocol description, byte for byte', () => {
  const message: ViciSection = new Map<string, ViciValue>([
    ['key1', 'value1'],
    [
      'section1',
      new Map<string, ViciValue>([
        ['sub-section', new Map([['key2', 'value2']])],
        ['list1', ['item1', 'item2']],
      ]),
    ],
  ])
  const bytes = Buffer.concat([
    Buffer.of(3, 4),
    Buffer.from('key1'),
    Buffer.of(0, 6),
    Buffer.from('value1'),
    Buffer.of(1, 8),
    Buffer.from('section1'),
    Buffer.of(1, 11),
    Buffer.from('sub-section'),
    Buffer.of(3, 4),
    Buffer.from('key2'),
    Buffer.of(0, 6),
    Buffer.from('value2'),
    Buffer.of(2),
    Buffer.of(4, 5),
    Buffer.from('list1'),
    Buffer.of(5, 0, 5),
    Buffer.from('item1'),
    Buffer.of(5, 0, 5),
    Buffer.from('item2'),
    Buffer.of(6, 2),
  ])
  assert.deepEqual(encodeMessage(message), bytes)
  assert.deepEqual(decodeMessage(bytes), message)
})

const key = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((text) => text.isWellFormed())
const text = fc.string({ unit: 'grapheme', maxLength: 300 }).filter((one) => one.isWellFormed())
const { section } = fc.letrec<{ section: ViciSection; value: ViciValue }>((tie) => ({
  section: fc.array(fc.tuple(key, tie('value')), { maxLength: 4 }).map((entries): ViciSection => new Map(entries)),
  value: fc.oneof({ maxDepth: 3 }, text, fc.array(text, { maxLength: 3 }), tie('section')),
}))

test('whatever is encoded is decoded the same, in whatever pieces it arrives', () => {
  fc.assert(
    fc.property(
      fc.array(section, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 40 }),
      (sections, step) => {
        const bytes = Buffer.concat(sections.map((one) => encodePacket('event', 'x', one)))
        const stream = new PacketStream()
        const found: Packet[] = []
        for (let at = 0; at < bytes.length; at += step) found.push(...stream.feed(bytes.subarray(at, at + step)))
        assert.deepEqual(
          found,
          sections.map((message) => ({ type: 'event', name: 'x', message })),
        )
      },
    ),
  )
})

test('any bytes: a message, or our own error', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 60 }).map((list) => Uint8Array.from(list)),
    section.chain((one) => {
      const whole = encodeMessage(one)
      return fc.nat(whole.length).map((length) => Uint8Array.from(whole.subarray(0, length)))
    }),
  )
  fc.assert(
    fc.property(bytes, (input) => {
      for (const decode of [
        (): unknown => decodeMessage(input),
        (): unknown => new PacketStream().feed(Buffer.from(input)),
      ])
        try {
          decode()
        } catch (error) {
          assert.ok(error instanceof ViciFormatError, String(error))
        }
    }),
    { numRuns: 2000 },
  )
})

test('bounds: names, values, depth, packets', () => {
  assert.throws(() => encodeMessage(new Map([['x'.repeat(256), '']])), { code: 'too-long' })
  assert.throws(() => encodeMessage(new Map([['x', 'y'.repeat(65_536)]])), { code: 'too-long' })
  const deep = Buffer.concat([
    ...Array.from({ length: 40 }, () => Buffer.of(1, 1, 120)),
    ...Array.from({ length: 40 }, () => Buffer.of(2)),
  ])
  assert.throws(() => decodeMessage(deep), /deep/)
  const long = Buffer.alloc(4)
  long.writeUInt32BE(MAX_PACKET + 1)
  assert.throws(() => new PacketStream().feed(long), { code: 'malformed' })
})
