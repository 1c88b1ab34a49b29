import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { fromCaller } from './caller-path.ts'
import {
  decodeAnswer,
  decodeCall,
  encodeAnswer,
  encodeCall,
  encodeElsewhere,
  frameLength,
  MAX_CALL_BYTES,
  ProtocolError,
} from './protocol.ts'

const text = fc.string({ unit: 'grapheme' }).map((value) => value.replaceAll('\0', ''))
const name = text.filter((value) => value !== '' && !value.includes('=') && value !== '__proto__')

test('a call survives its frame', () => {
  fc.assert(
    fc.property(fc.dictionary(name, text, { noNullPrototype: true }), fc.string({ unit: 'grapheme' }), (env, stdin) => {
      const frame = encodeCall({ env, stdin })
      assert.equal(frameLength(frame), frame.length)
      assert.deepEqual(decodeCall(frame), { env, stdin })
    }),
  )
})

test('an answer survives its frame', () => {
  fc.assert(
    fc.property(fc.nat(255), text, text, (exitCode, stdout, stderr) => {
      assert.deepEqual(decodeAnswer(encodeAnswer({ exitCode, stdout, stderr })), { exitCode, stdout, stderr })
    }),
  )
  assert.equal(decodeAnswer(encodeElsewhere()), undefined)
})

test('whatever arrives: a frame or a ProtocolError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, fix) => {
      const frame = Buffer.from(bytes)
      if (fix && frame.length > 4) {
        frame.writeUInt32BE(frame.length - 4, 0)
        frame[4] = 1
      }
      for (const read of [frameLength, decodeCall, decodeAnswer]) {
        try {
          read(frame)
        } catch (error) {
          assert.ok(error instanceof ProtocolError, String(error))
        }
      }
    }),
  )
})

test('too long a call is refused at its first four bytes', () => {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(MAX_CALL_BYTES + 1)
  assert.throws(() => frameLength(head), { code: 'too-large' })
  assert.equal(frameLength(head.subarray(0, 3)), undefined)
})

test('a hostile environment stays data', () => {
  const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, 1]), Buffer.from('__proto__=x\0constructor=y\0\0')])
  frame.writeUInt32BE(frame.length - 4)
  const { env } = decodeCall(frame)
  assert.ok(Object.hasOwn(env, '__proto__'))
  assert.equal(Reflect.get({}, 'x'), undefined)
})

const caller = { pid: 77, cwd: '/work' }
const paths: readonly [given: string, meant: string][] = [
  ['', ''],
  ['/var/run/netns/a', '/var/run/netns/a'],
  ['/proc/self/ns/net', '/proc/77/ns/net'],
  ['/proc/thread-self/ns/net', '/proc/77/task/77/ns/net'],
  ['/dev/fd/3', '/proc/77/fd/3'],
  ['/proc/12/ns/net', '/proc/12/ns/net'],
  ['/proc/selfish', '/proc/selfish'],
  ['ns/a', '/work/ns/a'],
  ['../proc/self/ns/net', '/proc/77/ns/net'],
]
for (const [given, meant] of paths) {
  test(`${JSON.stringify(given)} of a caller is ${JSON.stringify(meant)} here`, () =>
    assert.equal(fromCaller(given, caller), meant))
}
