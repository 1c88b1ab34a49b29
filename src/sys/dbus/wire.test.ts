import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DbusFormatError, MAX_MESSAGE, messageLength, readReply, writeCall } from './wire.ts'

const call = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
  member: 'Hello',
  args: [],
}

test('a call is written as the specification lays it out', () => {
  const bytes = writeCall(1, call)
  assert.equal(bytes.length % 8, 0)
  // Little-endian, a call, no flags, version 1; no body; serial 1.
  assert.equal(bytes.subarray(0, 12).toString('hex'), '6c0100010000000001000000')
  assert.equal(Math.ceil((16 + bytes.readUInt32LE(12)) / 8) * 8, bytes.length)
  assert.equal(bytes.subarray(16, 48).toString('latin1'), '\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0')
  assert.equal(messageLength(bytes), bytes.length)
  assert.equal(messageLength(bytes.subarray(0, 15)), undefined)
  assert.equal(readReply(bytes), undefined)
})

/** An answer as a service writes it, in either byte order. */
function reply(big: boolean, type: number, to: number, error: string, body: readonly [string, Buffer]): Buffer {
  const u32 = (value: number): Buffer => {
    const out = Buffer.alloc(4)
    if (big) out.writeUInt32BE(value)
    else out.writeUInt32LE(value)
    return out
  }
  const pad = (bytes: Buffer, to: number): Buffer =>
    Buffer.concat([bytes, Buffer.alloc((to - (bytes.length % to)) % to)])
  const string = (text: string): Buffer => Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(`${text}\0`)])
  let fields = Buffer.concat([Buffer.from([5, 1]), Buffer.from('u\0'), u32(to)])
  if (error !== '') fields = Buffer.concat([pad(fields, 8), Buffer.from([4, 1]), Buffer.from('s\0'), string(error)])
  fields = Buffer.concat([
    pad(fields, 8),
    Buffer.from([8, 1]),
    Buffer.from('g\0'),
    Buffer.from([body[0].length]),
    Buffer.from(`${body[0]}\0`),
  ])
  const head = Buffer.concat([
    Buffer.from([big ? 0x42 : 0x6c, type, 1, 1]),
    u32(body[1].length),
    u32(9),
    u32(fields.length),
  ])
  return Buffer.concat([pad(Buffer.concat([head, fields]), 8), body[1]])
}

test('answers are read in both byte orders', () => {
  for (const big of [false, true]) {
    const text = Buffer.concat([Buffer.from(big ? [0, 0, 0, 2] : [2, 0, 0, 0]), Buffer.from('hi\0\0')])
    const yes = Buffer.from(big ? [0, 0, 0, 1] : [1, 0, 0, 0])
    assert.deepEqual(readReply(reply(big, 2, 7, '', ['sb', Buffer.concat([text, yes])])), {
      type: 'return',
      to: 7,
      error: '',
      body: ['hi', true],
    })
    assert.deepEqual(readReply(reply(big, 3, 7, 'a.B', ['s', text.subarray(0, 7)])), {
      type: 'error',
      to: 7,
      error: 'a.B',
      body: ['hi'],
    })
    // A type that is not read ends what is read.
    assert.deepEqual(readReply(reply(big, 2, 7, '', ['sv', text]))?.body, ['hi'])
  }
})

test('whatever a peer sends is read or refused, never more', () => {
  const good = reply(false, 2, 7, '', ['s', Buffer.from('\x02\0\0\0hi\0', 'latin1')])
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, value, end) => {
      const bytes = Buffer.from(good.subarray(0, end))
      if (at < bytes.length) bytes[at] = value
      try {
        messageLength(bytes)
        readReply(bytes)
      } catch (error) {
        assert.ok(error instanceof DbusFormatError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
  const long = Buffer.from(good)
  long.writeUInt32LE(MAX_MESSAGE, 4)
  assert.throws(() => messageLength(long), DbusFormatError)
})
