import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { backoff } from './backoff.ts'
import { parseEndpoint } from './endpoint.ts'
import { errorOfFailure, errorOfStatus, EtcdError } from './errors.ts'
import { Deframer, frame } from './frames.ts'
import { prefixEnd, readRange, readWatch } from './messages.ts'
import { encode, Message, type Field } from './proto.ts'

const onlyEtcdError = (error: unknown): void => assert.ok(error instanceof EtcdError, String(error))

test('what is written is read: numbers of 64 bits, text, bytes, messages', () => {
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.string(), fc.uint8Array(), (number, text, bytes) => {
      const message = new Message(
        encode([
          [1, number],
          [2, text],
          [3, bytes],
          [4, [[1, number]]],
          [20, true],
        ]),
      )
      assert.equal(message.long(1), number)
      assert.equal(message.text(2), text.toWellFormed())
      assert.deepEqual(Uint8Array.from(message.bytes(3)), bytes)
      assert.equal(message.message(4).long(1), number)
      assert.equal(message.flag(20), true)
      assert.deepEqual([message.long(9), message.text(9), message.messages(9)], [0n, '', []])
    }),
  )
})

test('as protoc writes it', () => {
  // PutRequest{key: "a", value: "b", lease: -1}
  const put: Field[] = [
    [1, 'a'],
    [2, 'b'],
    [3, -1n],
  ]
  assert.equal(encode(put).toString('hex'), '0a016112016218ffffffffffffffffff01')
})

test('whatever a server sends: a message or an EtcdError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      for (const read of [readRange, readWatch])
        try {
          read(new Message(Buffer.from(bytes)))
        } catch (error) {
          onlyEtcdError(error)
        }
      try {
        new Deframer().take(Buffer.from(bytes))
      } catch (error) {
        onlyEtcdError(error)
      }
    }),
    { numRuns: 3_000 },
  )
})

test('messages come out whole, however they are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.array(fc.integer({ min: 1, max: 9 })),
      (messages, cuts) => {
        const all = Buffer.concat(messages.map(frame))
        const deframer = new Deframer()
        const found: Uint8Array[] = []
        for (let at = 0, i = 0; at < all.length; i++) {
          const size = cuts[i % Math.max(cuts.length, 1)] ?? 3
          found.push(...deframer.take(all.subarray(at, at + size)).map((one) => Uint8Array.from(one)))
          at += size
        }
        assert.deepEqual(found, messages)
        assert.ok(deframer.isEmpty)
      },
    ),
  )
})

test('a message over the limit, or a compressed one, is refused before it is held', () => {
  const head = frame(new Uint8Array(100)).subarray(0, 5)
  assert.throws(() => new Deframer(99).take(head), { code: 'too-large' })
  assert.throws(() => new Deframer().take(Buffer.from([1, 0, 0, 0, 0])), { code: 'bad-answer' })
})

test('the end of a prefix', () => {
  assert.deepEqual(prefixEnd('/a/'), Buffer.from('/a0'))
  assert.deepEqual(prefixEnd(''), Buffer.from([0]))
})

test('what a status means', () => {
  const codes = [
    [14, 'etcdserver: no leader', 'unavailable'],
    [16, 'etcdserver: invalid auth token', 'unauthenticated'],
    [3, 'etcdserver: user name is empty', 'unauthenticated'],
    [3, 'etcdserver: authentication failed, invalid user ID or password', 'unauthenticated'],
    [3, 'etcdserver: key is not provided', 'invalid'],
    [7, 'etcdserver: permission denied', 'forbidden'],
    [5, 'etcdserver: requested lease not found', 'not-found'],
    [8, 'etcdserver: mvcc: database space exceeded', 'full'],
    [11, 'etcdserver: mvcc: required revision has been compacted', 'compacted'],
    [4, 'context deadline exceeded', 'timeout'],
    [13, 'x', 'server'],
  ] as const
  for (const [status, message, code] of codes) assert.equal(errorOfStatus(status, message, 'x').code, code, message)
  assert.equal(
    errorOfFailure(Object.assign(new Error('x'), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }), 'x', true).code,
    'tls',
  )
  assert.equal(errorOfFailure(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'x', true).code, 'unavailable')
})

test('endpoints', () => {
  assert.equal(parseEndpoint('127.0.0.1:2379').href, 'http://127.0.0.1:2379/')
  assert.equal(parseEndpoint('https://[2001:db8::1]:2379').host, '[2001:db8::1]:2379')
  for (const bad of ['', 'unix:///x', 'http://a/b', 'http://u:p@a', 'http://a:b', 'http://a?x'])
    assert.throws(() => parseEndpoint(bad), { code: 'config' }, bad)
})

test('waits double up to their cap, and differ', () => {
  const wait = { base: 100, cap: 5_000 }
  assert.deepEqual(
    [1, 2, 3, 20].map((n) => backoff(n, wait, () => 0.5)),
    [100, 200, 400, 5_000],
  )
  assert.deepEqual(
    [0, 0.99].map((x) => backoff(1, wait, () => x)),
    [50, 149],
  )
})
