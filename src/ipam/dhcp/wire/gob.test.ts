import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { CniError } from '#cni/errors.ts'
import { emptyResult } from '#cni/result.ts'
import { ipNetText, cidrText } from '#ip/prefix.ts'
import { ipText } from '#ip/address.ts'
import { GobDecoder, GobEncoder, GobError, gobMessageLength, type GobType, type GobValue } from './gob.ts'
import {
  answerType,
  callType,
  callValue,
  errorValue,
  readAnswer,
  readCall,
  readResult,
  resultType,
  resultValue,
} from './rpc.ts'

function decodeAll(bytes: Uint8Array, decoder = new GobDecoder()): GobValue[] {
  const found: GobValue[] = []
  let rest = bytes
  for (;;) {
    const frame = gobMessageLength(rest)
    if (frame === undefined || rest.length < frame.end) return found
    const value = decoder.decode(rest.subarray(frame.start, frame.end))
    if (value !== undefined) found.push(value)
    rest = rest.subarray(frame.end)
  }
}

const type: GobType = {
  struct: 'T',
  fields: {
    A: 'int',
    B: 'uint',
    C: 'string',
    D: 'bytes',
    E: { slice: { struct: 'U', fields: { N: 'int' } } },
    F: 'bool',
  },
}

const value = fc
  .record({
    A: fc.maxSafeInteger().map((n) => Math.trunc(n / 4)),
    B: fc.maxSafeNat(),
    C: fc.string({ unit: 'grapheme' }),
    D: fc.uint8Array(),
    E: fc.array(fc.integer().map((N) => new Map(N === 0 ? [] : [['N', N]]))),
    F: fc.boolean(),
  })
  .map((record) => new Map<string, GobValue>(Object.entries(record)))

const isZero = (part: GobValue): boolean =>
  part === 0 ||
  part === '' ||
  part === false ||
  ((part instanceof Uint8Array || Array.isArray(part)) && part.length === 0)

test('values survive; types are told once; what is zero is left out', () => {
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 4 }), (values) => {
      const encoder = new GobEncoder()
      const bytes = Buffer.concat(values.map((one) => encoder.encode(type, one)))
      const expected = values.map((one) => new Map([...one].filter(([, part]) => !isZero(part))))
      assert.deepEqual(decodeAll(bytes), expected)
    }),
  )
})

test("the documentation's example: type struct { X, Y int } holding 22 and 33", () => {
  const bytes = new GobEncoder().encode(
    { struct: 'Point', fields: { X: 'int', Y: 'int' } },
    new Map([
      ['X', 22],
      ['Y', 33],
    ]),
  )
  // Go's own bytes, with the first number that a stream of ours gives.
  const go =
    '1fff81030101 05506f696e74 01ff8200 0102 01 0158 010400 01 0159 010400 0000 07ff82 012c 0142 00'.replaceAll(' ', '')
  assert.deepEqual(decodeAll(Buffer.from(go, 'hex')), [
    new Map([
      ['X', 22],
      ['Y', 33],
    ]),
  ])
  assert.equal(bytes.toString('hex'), go)
})

test('whatever bytes come: values or a GobError, in bounded memory', () => {
  const whole = new GobEncoder().encode(
    callType,
    callValue({ containerId: 'c', netns: '/n', ifname: 'e', args: '', path: '', stdin: '{}' }),
  )
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      (noise, edits) => {
        const mutated = Uint8Array.from(whole)
        for (const [at, byte] of edits) mutated[at % mutated.length] = byte
        for (const bytes of [noise, mutated]) {
          try {
            decodeAll(bytes)
          } catch (error) {
            assert.ok(error instanceof GobError, String(error))
          }
        }
      },
    ),
    { numRuns: 1000 },
  )
  assert.throws(() => gobMessageLength(Uint8Array.of(0xfc, 0x7f, 0xff, 0xff, 0xff)), { code: 'too-long' })
})

test('a call, a result and an error cross the wire', () => {
  const over = (t: GobType, v: GobValue): GobValue => decodeAll(new GobEncoder().encode(t, v))[0] ?? 0
  const call = { containerId: 'c', netns: '/n', ifname: 'e', args: 'A=B', path: '/x', stdin: '{"name":"ü"}' }
  assert.deepEqual(readCall(over(callType, callValue(call))), call)
  const result = {
    ...emptyResult,
    ips: [{ address: ipNetText('10.0.0.5/24'), gateway: ipText('10.0.0.1') }, { address: ipNetText('fd00::5/128') }],
    routes: [{ dst: cidrText('0.0.0.0/0'), gw: ipText('10.0.0.1'), priority: 7 }, { dst: cidrText('192.0.2.0/24') }],
  }
  assert.deepEqual(readResult(over(resultType, resultValue(result))), result)
  assert.throws(() => readAnswer(over(answerType, errorValue(new CniError(11, 'm', 'd')))), {
    code: 11,
    msg: 'm',
    details: 'd',
  })
  assert.throws(() => readResult(new Map([['IPs', [new Map([['Address', 5]])]]])), { code: 6 })
})
