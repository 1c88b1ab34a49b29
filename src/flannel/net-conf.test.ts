import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { FlannelError } from './errors.ts'
import { familiesOf, parseNetConf } from './net-conf.ts'

test('the usual configuration, with every default', () => {
  const conf = parseNetConf('{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}')
  assert.deepEqual(conf, {
    network: { 4: '10.244.0.0/16' },
    subnets: { 4: { length: 24 } },
    rules: 'nftables',
    backend: { type: 'vxlan', vni: 1, port: 8472, gbp: false, learning: false, directRouting: false },
  })
  assert.deepEqual(familiesOf(conf), [4])
})

test('keys in any case, the type too, nulls as if absent, unknown keys ignored', () => {
  const conf = parseNetConf(
    '{"network":"10.1.2.3/8","enableipv6":true,"IPV6NETWORK":"fd00:0::/56","BACKEND":{"type":"VXLAN","directrouting":true,"vni":42,"PORT":4789,"mtu":9000,"MacPrefix":"0E-2A","Name":null},"x":1}',
  )
  assert.deepEqual(conf.network, { 4: '10.0.0.0/8', 6: 'fd00::/56' })
  assert.deepEqual(conf.backend, {
    type: 'vxlan',
    vni: 42,
    port: 4789,
    mtu: 9000,
    gbp: false,
    learning: false,
    directRouting: true,
  })
  assert.deepEqual(parseNetConf('{"Network":"10.0.0.0/16","Backend":{"Type":"Host-GW"}}').backend, { type: 'host-gw' })
})

test('IPv6 alone', () => {
  const conf = parseNetConf(
    '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
  )
  assert.deepEqual(familiesOf(conf), [6])
  assert.deepEqual(conf.subnets, { 6: { length: 64 } })
})

test('subnet sizes: two bits more than a small network; written ones as written', () => {
  const small = parseNetConf('{"Network":"10.0.0.0/23","Backend":{"Type":"vxlan"}}')
  assert.deepEqual(small.subnets[4], { length: 25 })
  const written = parseNetConf(
    '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan"}}',
  )
  assert.deepEqual(written.subnets[4], { length: 20, min: '10.10.0.0/20', max: '10.99.0.0/20' })
})

const refused: readonly (readonly [string, FlannelError['code'], string, RegExp])[] = [
  ['', 'bad-net-conf', 'net-conf.json', /not JSON/],
  ['[]', 'bad-net-conf', 'net-conf.json', /JSON object/],
  ['null', 'bad-net-conf', 'net-conf.json', /JSON object/],
  ['{"Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'Network', /missing although IPv4 is on/],
  ['{"Network":"10.0.0.0","Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'Network', /"10\.0\.0\.0" is no IPv4 prefix/],
  ['{"Network":"fd00::/48","Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'Network', /no IPv4 prefix/],
  ['{"Network":"0.0.0.0/0","Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'Network', /whole address space/],
  ['{"network":7,"Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'network', /it is 7; expected text/],
  [
    '{"Network":"10.0.0.0/8","EnableIPv6":"true","Backend":{"Type":"vxlan"}}',
    'bad-net-conf',
    'EnableIPv6',
    /expected true or false/,
  ],
  ['{"Network":"10.0.0.0/8","EnableIPv6":true,"Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'IPv6Network', /missing/],
  ['{"EnableIPv4":false,"Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'EnableIPv4', /both/],
  [
    '{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fd00::/56","Backend":{"Type":"udp"}}',
    'bad-net-conf',
    'EnableIPv6',
    /the backend udp carries IPv4 only/,
  ],
  ['{"Network":"10.0.0.0/8","Backend":{"Type":"udp","Port":70000}}', 'bad-net-conf', 'Backend.Port', /65535/],
  ['{"Network":"10.0.0.0/8","Backend":{}}', 'unsupported-backend', 'Backend.Type', /empty/],
  [
    '{"Network":"10.0.0.0/8","Backend":{"Type":"weave"}}',
    'unsupported-backend',
    'Backend.Type',
    /"weave" is no backend/,
  ],
  [
    '{"Network":"10.0.0.0/8","Backend":{"Type":"carrier-pigeon"}}',
    'unsupported-backend',
    'Backend.Type',
    /is no backend.*vxlan/,
  ],
  ['{"Network":"10.0.0.0/8","Backend":"vxlan"}', 'bad-net-conf', 'Backend', /"vxlan"/],
  [
    '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","VNI":"1"}}',
    'bad-net-conf',
    'Backend.VNI',
    /it is "1"; expected a number/,
  ],
  [
    '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","VNI":16777216}}',
    'bad-net-conf',
    'Backend.VNI',
    /at most 16777215/,
  ],
  ['{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","Port":1.5}}', 'bad-net-conf', 'Backend.Port', /whole/],
  ['{"Network":"10.0.0.0/8","SubnetMin":"x","Backend":{"Type":"vxlan"}}', 'bad-net-conf', 'SubnetMin', /"x"/],
]

for (const [text, code, field, message] of refused) {
  test(`refused: ${text === '' ? 'an empty file' : text}`, () => {
    assert.throws(
      () => parseNetConf(text),
      (error) =>
        error instanceof FlannelError && error.code === code && error.field === field && message.test(error.message),
    )
  })
}

test('whatever it is, it is parsed or refused with a FlannelError', () => {
  const keys = fc.constantFrom(
    'Network',
    'network',
    'IPv6Network',
    'EnableIPv4',
    'EnableIPv6',
    'SubnetLen',
    'SubnetMin',
    'Backend',
    '__proto__',
    'x',
  )
  const backend = fc.dictionary(
    fc.constantFrom('Type', 'VNI', 'Port', 'MTU', 'GBP', '__proto__'),
    fc.oneof(fc.constant('vxlan'), fc.jsonValue()),
  )
  const values = fc.oneof(fc.constantFrom('10.0.0.0/8', 'fd00::/40', true, 24), backend, fc.jsonValue())
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.dictionary(keys, values).map((value) => JSON.stringify(value)),
      ),
      (text) => {
        try {
          parseNetConf(text)
        } catch (error) {
          assert.ok(error instanceof FlannelError, String(error))
          assert.ok(error.message.length < 600)
        }
      },
    ),
    { numRuns: 2000 },
  )
})
