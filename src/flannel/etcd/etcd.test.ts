import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { cidrText } from '#ip/prefix.ts'
import { backendOf } from '../backend/registry.ts'
import { FlannelError } from '../errors.ts'
import { localNode } from '../fixture.ts'
import { readLease } from '../lease.ts'
import { parseNetConf } from '../net-conf.ts'
import { attributesOf, formatAttributes, parseAttributes, sameNode } from './attributes.ts'
import { leaseName, overlap, parseLeaseKey } from './key.ts'
import { chooseSubnets, fits, leaseRanges } from './range.ts'
import { leaseRecord, viewOf } from './record.ts'

const backend = backendOf({ type: 'vxlan', vni: 1, port: 8472, gbp: false, learning: false, directRouting: false })

test('keys as flannel writes them, found at the end whatever is before', () => {
  assert.deepEqual(parseLeaseKey('/coreos.com/network/subnets/10.5.52.0-24'), { 4: '10.5.52.0/24' })
  assert.deepEqual(parseLeaseKey('/x/10.1.0.0-16/10.5.52.0-24&fc00:0:0:1::-64'), {
    4: '10.5.52.0/24',
    6: 'fc00:0:0:1::/64',
  })
  for (const bad of [
    '/config',
    '10.5.52.0',
    '10.5.52.300-24',
    '10.5.52.0-33',
    '0.0.0.0-0',
    '10.5.52.0-24&',
    '10.5.52.0-24&10.0.0.0-8',
    '10.5.52.0-24/x',
  ])
    assert.equal(parseLeaseKey(bad), undefined, bad)
  for (const name of ['10.5.52.0-24', '10.5.52.0-24&fc00:0:0:1::-64', '10.5.52.128-26'])
    assert.equal(leaseName(parseLeaseKey(name) ?? { 4: cidrText('0.0.0.0/0') }), name)
})

test('values as flannel writes them, byte for byte', () => {
  const four = attributesOf(localNode(), backend)
  assert.ok(four !== undefined)
  assert.equal(
    formatAttributes(four),
    '{"PublicIP":"192.168.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:00"}}',
  )
  const both = attributesOf(localNode({ ipv6: true }), backend)
  assert.ok(both !== undefined)
  assert.equal(
    formatAttributes(both),
    '{"PublicIP":"192.168.0.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:00"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:06:00:00:00:00"}}',
  )
  const plain = attributesOf(localNode({ conf: { type: 'host-gw' } }), backendOf({ type: 'host-gw' }))
  assert.ok(plain !== undefined)
  assert.equal(formatAttributes(plain), '{"PublicIP":"192.168.0.1","PublicIPv6":null,"BackendType":"host-gw"}')
  for (const one of [four, both, plain]) assert.deepEqual(parseAttributes(Buffer.from(formatAttributes(one))), one)
})

test("a peer's lease is read as its annotations would be; a reservation is nobody's", () => {
  const view = (value: string, key = '10.5.52.0-24') => {
    const record = leaseRecord({ key, value: Buffer.from(value), createRevision: 7, modRevision: 9, lease: 1n })
    assert.ok(record !== undefined)
    return viewOf(record, key, 'vxlan')
  }
  const reading = readLease(
    view(
      '{"publicip":"192.0.2.9","PublicIPv6":null,"BackendType":"vxlan","BackendData": {"VtepMAC" : "0e:00:00:00:00:01"}}',
    ),
    backend,
    [4],
  )
  assert.deepEqual(reading, {
    is: 'read',
    4: {
      is: 'stated',
      lease: { subnet: '10.5.52.0/24', publicIp: '192.0.2.9', data: { kind: 'vtep', mac: '0e:00:00:00:00:01' } },
    },
    6: { is: 'absent' },
  })
  assert.equal(readLease(view('{"PublicIP":"192.0.2.9"}'), backend, [4]).is, 'unmarked')
  assert.equal(readLease(view('nonsense'), backend, [4]).is, 'unmarked')
  assert.equal(readLease(view('{"PublicIP":"192.0.2.9","BackendType":"ipip"}'), backend, [4]).is, 'other-backend')
})

test('whatever lies in etcd is read or not, and never thrown at', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), fc.string(), (value, key) => {
      const attributes = parseAttributes(Buffer.from(value))
      if (attributes !== undefined) formatAttributes(attributes)
      leaseRecord({
        key: `${key}10.5.52.0-24`,
        value: Buffer.from(value),
        createRevision: 1,
        modRevision: 1,
        lease: 0n,
      })
      parseLeaseKey(key)
    }),
  )
  assert.equal(parseAttributes(Buffer.alloc(5000, '{')), undefined)
})

test('who a lease is of', () => {
  const of = (publicIp: string, publicIpv6?: string) => ({
    publicIp,
    backendType: '',
    ...(publicIpv6 === undefined ? {} : { publicIpv6 }),
  })
  assert.ok(sameNode(of('192.0.2.1', '2001:db8::1'), of('192.0.2.1', '2001:DB8:0::1')))
  assert.ok(sameNode(of('192.0.2.1', '2001:db8::1'), of('192.0.2.1')))
  assert.ok(!sameNode(of('192.0.2.1', '2001:db8::1'), of('192.0.2.1', '2001:db8::2')))
  assert.ok(!sameNode(of(''), of('')))
})

const ranges = (conf: object) => leaseRanges(parseNetConf(JSON.stringify({ ...conf, Backend: { Type: 'host-gw' } })))
const shownRange = (conf: object) => {
  const { 4: v4, 6: v6 } = ranges(conf)
  return [v4, v6].map(
    (range) =>
      range && [cidrText(`${fourOf(range.first)}/${range.length}`), cidrText(`${fourOf(range.last)}/${range.length}`)],
  )
}
const fourOf = (ip: { family: 4 | 6; value: number | bigint }): string =>
  ip.family === 4
    ? [24, 16, 8, 0].map((shift) => (Number(ip.value) >>> shift) & 255).join('.')
    : (BigInt(ip.value).toString(16).padStart(32, '0').match(/.{4}/g) ?? []).join(':')

test('which subnets there are: defaults and limits', () => {
  assert.deepEqual(shownRange({ Network: '10.5.0.0/16' }), [['10.5.1.0/24', '10.5.255.0/24'], undefined])
  assert.deepEqual(shownRange({ Network: '10.5.0.0/24' }), [['10.5.0.64/26', '10.5.0.192/26'], undefined])
  assert.deepEqual(
    shownRange({
      Network: '10.0.0.0/8',
      SubnetLen: 20,
      SubnetMin: '10.10.0.0',
      SubnetMax: '10.99.0.0',
      EnableIPv6: true,
      IPv6Network: 'fc00::/48',
    }),
    [
      ['10.10.0.0/20', '10.99.0.0/20'],
      ['fc00:0:0:1::/64', 'fc00:0:0:ffff::/64'],
    ],
  )
  const refused = [
    [{ Network: '10.5.0.0/16', SubnetLen: 17 }, 'SubnetLen'],
    [{ Network: '10.5.0.0/16', SubnetLen: 31 }, 'SubnetLen'],
    [{ Network: '10.5.0.0/29' }, 'Network'],
    [{ Network: '10.5.0.0/16', SubnetMin: '10.6.0.0' }, 'SubnetMin'],
    [{ Network: '10.5.0.0/16', SubnetMin: '10.5.9.0', SubnetMax: '10.5.8.0' }, 'SubnetMin'],
    [{ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fc00::/48' }, 'EnableIPv4'],
    [{ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fc00::/125' }, 'IPv6Network'],
  ] as const
  for (const [conf, field] of refused)
    assert.throws(
      () => ranges(conf),
      (error) => error instanceof FlannelError && error.field === field,
      JSON.stringify(conf),
    )
})

test('a choice is free, fits, and is one of the first hundred; there is one as long as there is one', () => {
  const all = ranges({ Network: '10.5.0.0/20', SubnetLen: 24 })
  const subnet = fc.integer({ min: 0, max: 31 }).map((n) => ({ 4: cidrText(`10.5.${n}.0/${n % 5 === 0 ? 25 : 24}`) }))
  fc.assert(
    fc.property(fc.array(subnet), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (taken, x) => {
      const chosen = chooseSubnets(all, taken, () => x)
      const free = Array.from({ length: 15 }, (_, i) => ({ 4: cidrText(`10.5.${i + 1}.0/24`) })).filter(
        (one) => !taken.some((other) => overlap(one, other)),
      )
      assert.equal(chosen === undefined, free.length === 0)
      if (chosen !== undefined) assert.ok(fits(all, chosen) && free.some((one) => one[4] === chosen[4]), chosen[4])
    }),
  )
  const wide = ranges({ Network: '10.0.0.0/8' })
  assert.deepEqual(
    chooseSubnets(wide, [], () => 0),
    { 4: '10.0.1.0/24' },
  )
  assert.deepEqual(
    chooseSubnets(wide, [], () => 0.9999),
    { 4: '10.0.100.0/24' },
  )
  assert.ok(!fits(wide, { 4: cidrText('10.0.0.0/24') }) && !fits(wide, { 4: cidrText('10.0.1.0/25') }))
})
