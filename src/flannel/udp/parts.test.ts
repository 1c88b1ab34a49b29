/** Checksums, peers, ICMP errors. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { newArena, zones } from './arena.ts'
import { fold, isIntact, sum } from './checksum.ts'
import { packet, payloadOf, place, SOURCE } from './fixture.ts'
import { ICMP, IcmpBudget, mayAnswer, writeError } from './icmp.ts'
import { IP, packetLength } from './ipv4.ts'
import { PeerIndex } from './peers.ts'
import { viewOf } from './test-bed.ts'

test('the sum is that of RFC 1071, wherever it begins and ends', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (bytes, skip) => {
      const at = Math.min(skip, bytes.length)
      let naive = 0
      for (let i = at; i < bytes.length; i += 2) naive += ((bytes[i] ?? 0) << 8) + (bytes[i + 1] ?? 0)
      while (naive > 0xffff) naive = (naive & 0xffff) + (naive >>> 16)
      assert.equal(fold(sum(viewOf(bytes), at, bytes.length)), naive)
    }),
  )
  assert.equal(fold(0xffff), 0xffff)
  assert.equal(fold(2 ** 52 - 1), Number((2n ** 52n - 1n) % 65535n))
})

test('a peer is found by the longest subnet that holds the address', () => {
  const peers = new PeerIndex()
  const find = (ip: number): string | undefined => peers.find(ip)?.address
  peers.set(cidrText('10.244.0.0/16'), ipText('192.168.0.1'))
  peers.set(cidrText('10.244.2.0/24'), ipText('192.168.0.2'))
  peers.set(cidrText('10.244.2.7/32'), ipText('192.168.0.3'))
  peers.set(cidrText('200.1.2.0/24'), ipText('200.168.0.4'))
  assert.deepEqual([0x0af4_0207, 0x0af4_0207, 0x0af4_0208, 0x0af4_0308, 0x0af5_0308, 0xc801_0203].map(find), [
    '192.168.0.3',
    '192.168.0.3',
    '192.168.0.2',
    '192.168.0.1',
    undefined,
    '200.168.0.4',
  ])
  peers.set(cidrText('10.244.2.0/24'), ipText('192.168.0.9'))
  assert.equal(find(0x0af4_0208), '192.168.0.9', 'not what was found before')
  assert.ok(peers.isPeer(0xc0a8_0009) && !peers.isPeer(0xc0a8_0002) && peers.isPeer(0xc8a8_0004 | 0))
  assert.ok(peers.delete(cidrText('10.244.2.0/24')) && !peers.delete(cidrText('10.244.2.0/24')))
  assert.equal(find(0x0af4_0208), '192.168.0.1')
  assert.equal(peers.size, 3)
  assert.throws(() => peers.set(cidrText('fd00::/64'), ipText('192.168.0.1')), RangeError)
})

test('ICMP errors: whole, with the packet quoted, to its source; none about errors, fragments, multicast', () => {
  const arena = newArena()
  const { view } = arena
  const bytes = packet({ payload: payloadOf(1000) })
  const ip = place(arena, 0, bytes)
  const at = zones.scratch
  const length = writeError(arena, at, ICMP.NET_UNREACHABLE, 0x0af4_0100, ip, bytes.length)
  assert.equal(length, 576)
  assert.equal(packetLength(view, at, length), length)
  assert.ok(isIntact(sum(view, at, at + 20)) && isIntact(sum(view, at + 20, at + length)))
  assert.deepEqual([view.getUint8(at + 20), view.getUint32(at + 16)], [3, SOURCE])
  assert.deepEqual(arena.bytes.slice(at + 28, at + length), bytes.slice(0, 548))

  const may = (change: (view: DataView) => void): boolean => {
    place(arena, 0, bytes)
    change(view)
    return mayAnswer(view, 0, bytes.length)
  }
  assert.ok(may(() => undefined))
  assert.ok(!may((v) => v.setUint16(IP.FRAGMENT, 5)))
  assert.ok(!may((v) => v.setUint32(IP.DESTINATION, 0xe000_0001)))
  assert.ok(!may((v) => v.setUint32(IP.SOURCE, 0)))
  for (const [type, is] of [
    [8, true],
    [0, true],
    [3, false],
    [11, false],
  ] as const)
    assert.equal(
      may((v) => {
        v.setUint8(IP.PROTOCOL, 1)
        v.setUint8(20, type)
      }),
      is,
    )
})

test('answers have a budget', () => {
  let now = 0
  const budget = new IcmpBudget(() => now)
  const taken = (): number => Array.from({ length: 200 }, () => budget.take()).filter(Boolean).length
  assert.equal(taken(), 50)
  now += 10
  assert.equal(taken(), 10)
})
