import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { cidrText, familyOf, ipNetText } from '#ip/prefix.ts'
import { CniError } from '../errors.ts'
import { isObject, type JsonObject } from '../json.ts'
import { emptyResult, type Result } from '../result.ts'
import { specVersions, type SpecVersion } from '../version.ts'
import { decodePrevResult, decodeResult, parseResult } from './decode.ts'
import { encodeResult } from './encode.ts'

const full: Result = {
  interfaces: [
    { name: 'cni0', mac: '0a:00:00:00:00:01', mtu: 1450 },
    {
      name: 'eth0',
      mac: '0a:00:00:00:00:02',
      sandbox: '/var/run/netns/a',
      socketPath: '/run/s.sock',
      pciID: '0000:00:1f.6',
    },
  ],
  ips: [
    { address: ipNetText('10.1.2.3/24'), gateway: ipText('10.1.2.1'), interface: 1 },
    { address: ipNetText('10.9.9.9/24') },
    { address: ipNetText('fd00::3/64'), gateway: ipText('fd00::1'), interface: 1 },
  ],
  routes: [
    { dst: cidrText('0.0.0.0/0'), gw: ipText('10.1.2.1'), mtu: 1400, advmss: 1360, priority: 100, table: 0, scope: 0 },
    { dst: cidrText('fd01::/48') },
  ],
  dns: { nameservers: ['10.1.0.1'], domain: 'a.b', search: ['c'], options: ['ndots:5'] },
}

const routes = [
  { dst: '0.0.0.0/0', gw: '10.1.2.1', mtu: 1400, advmss: 1360, priority: 100, table: 0, scope: 0 },
  { dst: 'fd01::/48' },
]
const legacy = (cniVersion: SpecVersion): JsonObject => ({
  cniVersion,
  ip4: { ip: '10.1.2.3/24', gateway: '10.1.2.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }] },
  ip6: { ip: 'fd00::3/64', gateway: 'fd00::1', routes: [{ dst: 'fd01::/48' }] },
  dns: full.dns as JsonObject,
})
const middle = (cniVersion: SpecVersion): JsonObject => ({
  cniVersion,
  interfaces: [
    { name: 'cni0', mac: '0a:00:00:00:00:01' },
    { name: 'eth0', mac: '0a:00:00:00:00:02', sandbox: '/var/run/netns/a' },
  ],
  ips: [
    { version: '4', interface: 1, address: '10.1.2.3/24', gateway: '10.1.2.1' },
    { version: '4', address: '10.9.9.9/24' },
    { version: '6', interface: 1, address: 'fd00::3/64', gateway: 'fd00::1' },
  ],
  routes,
  dns: full.dns as JsonObject,
})
const current = (cniVersion: SpecVersion): JsonObject => ({
  cniVersion,
  interfaces: full.interfaces as unknown as JsonObject[],
  ips: [
    { interface: 1, address: '10.1.2.3/24', gateway: '10.1.2.1' },
    { address: '10.9.9.9/24' },
    { interface: 1, address: 'fd00::3/64', gateway: 'fd00::1' },
  ],
  routes,
  dns: full.dns as JsonObject,
})

const goldens: Readonly<Record<SpecVersion, JsonObject>> = {
  '0.1.0': legacy('0.1.0'),
  '0.2.0': legacy('0.2.0'),
  '0.3.0': middle('0.3.0'),
  '0.3.1': middle('0.3.1'),
  '0.4.0': middle('0.4.0'),
  '1.0.0': current('1.0.0'),
  '1.1.0': current('1.1.0'),
}

for (const version of specVersions) {
  test(`writes ${version} exactly`, () => assert.deepEqual(encodeResult(full, version), goldens[version]))
}

test('dns: always there before 1.0.0, only when filled since', () => {
  const bare: Result = { ...emptyResult, ips: [{ address: ipNetText('10.0.0.1/8') }] }
  const kept = specVersions.filter((version) => Object.hasOwn(encodeResult(bare, version), 'dns'))
  assert.deepEqual(kept, ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0'])
})

test('the versions before 0.3.0 need an address', () => {
  for (const version of ['0.1.0', '0.2.0']) {
    assert.throws(
      () => encodeResult(emptyResult, version),
      (error: CniError) => error.code === 1 && error.msg.includes('needs an IP address'),
    )
  }
  assert.deepEqual(encodeResult(emptyResult, '1.1.0'), { cniVersion: '1.1.0' })
})

test('an unknown version is refused both ways', () => {
  assert.throws(
    () => encodeResult(full, '2.0.0'),
    (error: CniError) => error.code === 1,
  )
  assert.throws(
    () => decodeResult({ cniVersion: '2.0.0' }, '1.0.0', 'x'),
    (error: CniError) => error.code === 6,
  )
})

test('without a version a result has that of its configuration', () => {
  const result = decodeResult({ ip4: { ip: '10.0.0.5/24' } }, '0.2.0', 'x')
  assert.equal(result.ips[0]?.address, '10.0.0.5/24')
  assert.deepEqual(decodeResult({ cniVersion: '', ip4: { ip: '10.0.0.5/24' } }, '', 'x'), result)
})

test('reads what the Go library writes for "absent"', () => {
  const text =
    '{"cniVersion":"0.4.0","interfaces":null,"ips":[{"version":"4","interface":null,"address":"10.0.0.5/24","gateway":""}],"routes":[{"dst":"0.0.0.0/0","gw":""}],"dns":{"nameservers":null}}'
  assert.deepEqual(parseResult(text, '0.4.0', 'x'), {
    ...emptyResult,
    ips: [{ address: '10.0.0.5/24' }],
    routes: [{ dst: '0.0.0.0/0' }],
  })
  assert.deepEqual(parseResult('null', '1.0.0', 'x'), emptyResult)
})

test('keeps a hardware address that is no Ethernet address, and writes Ethernet ones canonically', () => {
  const infiniband = '80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:10:29'
  const json = {
    cniVersion: '1.0.0',
    interfaces: [
      { name: 'ib0', mac: infiniband },
      { name: 'eth0', mac: '0A-0B-0C-0D-0E-0F' },
    ],
  }
  assert.deepEqual(
    decodeResult(json, '1.0.0', 'x').interfaces.map(({ mac }) => mac),
    [infiniband, '0a:0b:0c:0d:0e:0f'],
  )
})

test('a bad field is named with its value', () => {
  const bad = { ips: [{ address: '10.0.0.5/24', interface: -1 }] }
  assert.throws(() => decodeResult(bad, '1.0.0', 'the result of x'), /the result of x: "ips\.0\.interface" is -1/)
  assert.throws(() => decodePrevResult({ prevResult: 'x' }, '1.0.0'), /prevResult is not a JSON object/)
})

const byte = fc.nat(255)
const v4 = fc.tuple(byte, byte, byte, byte).map((b) => b.join('.'))
const v6 = fc.tuple(fc.nat(0xffff), fc.nat(0xffff)).map(([a, b]) => ipText(`fd00:${a.toString(16)}::${b.toString(16)}`))
const address = fc.oneof(
  fc.tuple(v4, fc.nat(32)).map(([ip, n]) => ipNetText(`${ip}/${n}`)),
  fc.tuple(v6, fc.nat(128)).map(([ip, n]) => ipNetText(`${ip}/${n}`)),
)
const positive = fc.integer({ min: 1, max: 65535 })
const words = fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 3 })
const option = { requiredKeys: ['name', 'address', 'dst'] } as const

const anyResult: fc.Arbitrary<Result> = fc.record({
  interfaces: fc.array(
    fc.record(
      {
        name: fc.string(),
        mac: fc.constant('0a:00:00:00:00:09'),
        mtu: positive,
        sandbox: fc.constant('/n'),
        socketPath: fc.constant('/s'),
        pciID: fc.constant('p'),
      },
      { requiredKeys: [option.requiredKeys[0]] },
    ),
  ),
  ips: fc.array(
    fc.record(
      { address, gateway: fc.oneof(v4, v6).map(ipText), interface: fc.nat(9) },
      { requiredKeys: [option.requiredKeys[1]] },
    ),
  ),
  routes: fc.array(
    fc.record(
      {
        dst: address.map(cidrText),
        gw: v4.map(ipText),
        mtu: positive,
        advmss: positive,
        priority: positive,
        table: fc.nat(),
        scope: fc.nat(255),
      },
      { requiredKeys: [option.requiredKeys[2]] },
    ),
  ),
  dns: fc.record(
    { nameservers: words, domain: fc.string({ minLength: 1 }), search: words, options: words },
    { requiredKeys: [] },
  ),
})

/** What a version can hold of a result. */
function held(result: Result, version: SpecVersion): Result {
  if (version === '1.0.0' || version === '1.1.0') return result
  const interfaces = result.interfaces.map(({ mtu: _m, socketPath: _s, pciID: _p, ...rest }) => rest)
  if (version !== '0.1.0' && version !== '0.2.0') return { ...result, interfaces }
  const families = ([4, 6] as const).flatMap((family) => {
    const ip = result.ips.find((candidate) => familyOf(candidate.address) === family)
    return ip === undefined ? [] : [{ family, ip }]
  })
  return {
    interfaces: [],
    ips: families.map(({ ip: { interface: _i, ...ip } }) => ip),
    routes: families.flatMap(({ family }) =>
      result.routes
        .filter(({ dst }) => familyOf(dst) === family)
        .map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { gw }) })),
    ),
    dns: result.dns,
  }
}

test('down and up again keeps what the version can hold', () => {
  fc.assert(
    fc.property(anyResult, fc.constantFrom(...specVersions), (result, version) => {
      fc.pre(result.ips.length > 0)
      const json: unknown = JSON.parse(JSON.stringify(encodeResult(result, version)))
      assert.ok(isObject(json))
      assert.deepEqual(decodeResult(json, '1.1.0', 'x'), JSON.parse(JSON.stringify(held(result, version))))
    }),
  )
})

test('whatever a plugin prints: a result or a CniError', () => {
  const keys = fc.constantFrom('cniVersion', 'ip4', 'ip6', 'interfaces', 'ips', 'routes', 'dns', '__proto__')
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.dictionary(keys, fc.jsonValue()).map((value) => JSON.stringify(value)),
  )
  fc.assert(
    fc.property(text, fc.constantFrom(...specVersions), (stdout, version) => {
      try {
        parseResult(stdout, version, 'x')
      } catch (error) {
        assert.ok(error instanceof CniError && error.code === 6)
      }
    }),
    { numRuns: 1000 },
  )
})
