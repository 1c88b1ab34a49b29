import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import {
  addToIp,
  compareIp,
  formatIp,
  ip4,
  ip6,
  ipFromBytes,
  ipText,
  ipToBytes,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  parseIp,
  tryParseIp,
  type Ip,
} from './address.ts'
import { isGroupMac, localMac, macFromBytes, macToBytes, parseMac, tryParseMac } from './mac.ts'
import {
  cidrOf,
  cidrText,
  contains,
  containsCidr,
  equalCidr,
  formatCidr,
  ipNetText,
  lastOf,
  nthOf,
  overlaps,
  parseCidr,
  sizeOf,
  tryParseCidr,
  tryParseIpNet,
  type Cidr,
} from './prefix.ts'

const anyIp4 = fc.integer({ min: 0, max: 0xffff_ffff }).map(ip4)
const anyIp6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map(ip6)
// Sparse addresses exercise the zero-run rules of RFC 5952, which uniform 128-bit numbers almost never do.
const sparseIp6 = fc
  .array(fc.constantFrom(0, 0, 0, 1, 0xffff, 0xab), { minLength: 8, maxLength: 8 })
  .map((groups) => ip6(groups.reduce((v, g) => (v << 16n) | BigInt(g), 0n)))
const anyIp: fc.Arbitrary<Ip> = fc.oneof(anyIp4, anyIp6, sparseIp6)
const anyCidr: fc.Arbitrary<Cidr> = fc
  .tuple(anyIp, fc.nat(128))
  .map(([ip, n]) => cidrOf(ip, ip.family === 4 ? n % 33 : n))

test('text, value and bytes of an address are the same thing', () => {
  fc.assert(
    fc.property(anyIp, (ip) => {
      assert.deepEqual(parseIp(formatIp(ip)), ip)
      assert.deepEqual(ipFromBytes(ipToBytes(ip)), ip)
    }),
  )
})

test('IPv6 text agrees with an independent implementation', () => {
  fc.assert(
    fc.property(fc.oneof(anyIp6, sparseIp6), (ip) => {
      const theirs = new ipaddr.IPv6([...ipToBytes(ip)])
      if (theirs.isIPv4MappedAddress()) return
      assert.equal(formatIp(ip), theirs.toRFC5952String())
    }),
  )
})

test('canonical text (RFC 5952 §4)', () => {
  const table: Record<string, string> = {
    '2001:0DB8::0001': '2001:db8::1',
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1',
    '::ffff:10.0.0.1': '::ffff:10.0.0.1',
    '::': '::',
    'fe80:0:0:0:0:0:0:0': 'fe80::',
    '1:2:3:4:5:6:7::': '1:2:3:4:5:6:7:0',
    '10.244.0.1': '10.244.0.1',
  }
  for (const [given, canonical] of Object.entries(table)) assert.equal(ipText(given), canonical)
})

test('what is no address is refused', () => {
  const bad = [
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '01.2.3.4',
    '1.2.3.4 ',
    '-1.2.3.4',
    '1..2.3',
    ':',
    ':::',
    '1::2::3',
    '12345::',
    'g::',
    '1:2:3:4:5:6:7:8:9',
    '::1%eth0',
    '1:2:3:4:5:6:7:8::',
    '1.2.3.4::',
  ]
  for (const text of bad) assert.equal(tryParseIp(text), undefined, text)
  fc.assert(fc.property(fc.string(), (text) => void tryParseIp(text)))
})

test('arithmetic stays inside the address space', () => {
  assert.equal(formatIp(addToIp(parseIp('10.0.0.255'), 1)), '10.0.1.0')
  assert.equal(formatIp(addToIp(parseIp('fd00::ffff'), 1)), 'fd00::1:0')
  assert.throws(() => addToIp(parseIp('255.255.255.255'), 1), { code: 'out-of-space' })
  assert.throws(() => addToIp(parseIp('::'), -1), { code: 'out-of-space' })
  assert.ok(compareIp(parseIp('10.0.0.2'), parseIp('10.0.0.10')) < 0)
  assert.ok(compareIp(parseIp('255.0.0.0'), parseIp('::')) < 0)
})

test('classes of addresses', () => {
  assert.ok(
    isMulticast(parseIp('224.0.0.1')) && isMulticast(parseIp('239.255.255.255')) && isMulticast(parseIp('ff02::1')),
  )
  assert.ok(!isMulticast(parseIp('223.255.255.255')) && !isMulticast(parseIp('fe80::1')))
  assert.ok(isLoopback(parseIp('127.9.9.9')) && isLoopback(parseIp('::1')) && !isLoopback(parseIp('::2')))
  assert.ok(isLinkLocal(parseIp('169.254.1.1')) && isLinkLocal(parseIp('fe80::1')) && !isLinkLocal(parseIp('fec0::1')))
  assert.ok(isUnspecified(parseIp('0.0.0.0')) && isUnspecified(parseIp('::')))
})

test('a prefix holds exactly its addresses', () => {
  fc.assert(
    fc.property(anyCidr, anyIp, (cidr, ip) => {
      const inside = cidr.ip.family === ip.family && compareIp(cidr.ip, ip) <= 0 && compareIp(ip, lastOf(cidr)) <= 0
      assert.equal(contains(cidr, ip), inside)
      assert.ok(equalCidr(parseCidr(formatCidr(cidr)), cidr))
    }),
  )
})

test('overlap is symmetric and means a shared address', () => {
  fc.assert(
    fc.property(anyCidr, anyCidr, (a, b) => {
      assert.equal(overlaps(a, b), overlaps(b, a))
      assert.equal(overlaps(a, b), contains(a, b.ip) || contains(b, a.ip))
      if (containsCidr(a, b)) assert.ok(sizeOf(a) >= sizeOf(b))
    }),
  )
})

test('prefix text: host bits cleared in a network, kept in an address', () => {
  assert.equal(cidrText('10.244.1.5/24'), '10.244.1.0/24')
  assert.equal(ipNetText('10.244.1.5/24'), '10.244.1.5/24')
  assert.equal(cidrText('FD00:10::5/64'), 'fd00:10::/64')
  assert.equal(formatIp(nthOf(parseCidr('10.0.0.0/30'), 3)), '10.0.0.3')
  assert.throws(() => nthOf(parseCidr('10.0.0.0/30'), 4), { code: 'out-of-space' })
  for (const bad of [
    '',
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/-1',
    '10.0.0.0/024',
    '10.0.0.0/2 4',
    '/24',
  ]) {
    assert.equal(tryParseCidr(bad), undefined, bad)
    assert.equal(tryParseIpNet(bad), undefined, bad)
  }
})

test('MAC addresses', () => {
  assert.equal(parseMac('0A-1b-2C-3d-4e-5F'), '0a:1b:2c:3d:4e:5f')
  for (const bad of ['', '0a:1b:2c:3d:4e', '0a:1b:2c:3d:4e:5f:60', '0g:1b:2c:3d:4e:5f', '0a1b2c3d4e5f'])
    assert.equal(tryParseMac(bad), undefined, bad)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      assert.deepEqual(macToBytes(macFromBytes(bytes)), bytes)
      assert.ok(!isGroupMac(localMac(bytes)))
      assert.ok((macToBytes(localMac(bytes))[0]! & 2) === 2)
    }),
  )
})
