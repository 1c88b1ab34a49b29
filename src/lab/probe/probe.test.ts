import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ipText } from '#ip/address.ts'
import { checksum, decodeAnswer, encodeEcho, minimalPacket } from './echo.ts'
import { decodeSockaddr, encodeSockaddr } from './sockaddr.ts'

const u16 = fc.integer({ min: 0, max: 0xffff })

test('socket addresses: exact bytes, and back', () => {
  assert.deepEqual(
    Buffer.from(encodeSockaddr({ ip: ipText('172.30.1.11'), port: 8080 })).toString('hex'),
    '02001f90ac1e010b0000000000000000',
  )
  assert.deepEqual(
    Buffer.from(encodeSockaddr({ ip: ipText('fd00:30:1::11'), port: 80 })).toString('hex'),
    '0a00005000000000fd00003000010000000000000000001100000000',
  )
  for (const ip of ['10.244.1.2', 'fd00:10:244:1::2'].map(ipText))
    assert.deepEqual(decodeSockaddr(encodeSockaddr({ ip, port: 443 })), { ip, port: 443 })
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => void decodeSockaddr(bytes)))
})

test('an echo request has the wished packet length and a checksum that verifies', () => {
  fc.assert(
    fc.property(u16, u16, fc.integer({ min: 28, max: 1500 }), (id, seq, packetLength) => {
      const bytes = encodeEcho({ family: 4, id, seq, packetLength })
      assert.equal(bytes.length + 20, packetLength)
      assert.equal(checksum(bytes), 0)
    }),
  )
  assert.equal(encodeEcho({ family: 6, id: 1, seq: 1, packetLength: minimalPacket(6) }).length, 8)
})

const ipv4Header = (): number[] => [0x45, ...Array<number>(19).fill(0)]

test('replies and error messages are matched to their request by the quoted header', () => {
  const request = [...encodeEcho({ family: 4, id: 7, seq: 9, packetLength: 28 })]
  const reply = Uint8Array.from([...ipv4Header(), 0, 0, 0, 0, 0, 7, 0, 9])
  assert.deepEqual(decodeAnswer(4, reply), { id: 7, seq: 9, answer: { kind: 'reply' } })
  const tooBig = Uint8Array.from([...ipv4Header(), 3, 4, 0, 0, 0, 0, 0x05, 0xaa, ...ipv4Header(), ...request])
  assert.deepEqual(decodeAnswer(4, tooBig), { id: 7, seq: 9, answer: { kind: 'too-big', mtu: 1450 } })
  const unreachable = Uint8Array.from([...ipv4Header(), 3, 1, 0, 0, 0, 0, 0, 0, ...ipv4Header(), ...request])
  assert.deepEqual(decodeAnswer(4, unreachable)?.answer, { kind: 'unreachable', type: 3, code: 1 })
  const request6 = [...encodeEcho({ family: 6, id: 3, seq: 4, packetLength: 48 })]
  const tooBig6 = Uint8Array.from([2, 0, 0, 0, 0, 0, 5, 0x96, ...Array<number>(40).fill(0), ...request6])
  assert.deepEqual(decodeAnswer(6, tooBig6), { id: 3, seq: 4, answer: { kind: 'too-big', mtu: 1430 } })
  assert.equal(decodeAnswer(4, Uint8Array.from([...ipv4Header(), ...request])), undefined, 'a request is no answer')
})

test('any bytes decode to an answer or to nothing', () => {
  fc.assert(
    fc.property(fc.constantFrom(4 as const, 6 as const), fc.uint8Array({ maxLength: 120 }), (family, bytes) => {
      decodeAnswer(family, bytes)
    }),
  )
})
