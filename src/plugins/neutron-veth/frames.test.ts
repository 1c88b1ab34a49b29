import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { formatIp, ip6, ipText } from '#ip/address.ts'
import { macFromBytes, parseMac } from '#ip/mac.ts'
import { announcement } from './frames.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('gratuitous ARP: a request of the address for itself, to everybody', () => {
  const { protocol, to, bytes } = announcement(ipText('10.30.0.5'), parseMac('fa:16:3e:01:02:03'))
  assert.equal(protocol, 0x0806)
  assert.equal(to, 'ff:ff:ff:ff:ff:ff')
  assert.equal(hex(bytes), '0001080006040001 fa163e010203 0a1e0005 000000000000 0a1e0005'.replaceAll(' ', ''))
})

test('unsolicited neighbour advertisement: override, not solicited, with the link-layer address', () => {
  const { protocol, to, bytes } = announcement(ipText('fd30::5'), parseMac('fa:16:3e:01:02:03'))
  assert.equal(protocol, 0x86dd)
  assert.equal(to, '33:33:00:00:00:01')
  const target = 'fd300000000000000000000000000005'
  const header = `6000000000203aff${target}ff020000000000000000000000000001`
  assert.equal(hex(bytes.subarray(0, 40)), header)
  assert.equal(hex(bytes.subarray(40)).replace(/^8800..../, '8800'), `880020000000${target}0201fa163e010203`)
})

/** RFC 8200 §8.1: all of it, the checksum included, sums up to nothing but ones. */
function sumOf(packet: Uint8Array): number {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  let sum = 58 + (packet.length - 40)
  for (let at = 8; at < packet.length; at += 2) sum += view.getUint16(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

test('its checksum is right for every address', () => {
  const address = fc.bigInt({ min: 1n, max: (1n << 128n) - 1n }).map((value) => formatIp(ip6(value)))
  const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes)
  fc.assert(fc.property(address, mac, (ip, at) => assert.equal(sumOf(announcement(ip, at).bytes), 0xffff)))
})
