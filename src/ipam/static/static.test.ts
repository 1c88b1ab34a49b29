import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseNetConf } from '#cni/config.ts'
import { fakeHost } from '#cni/fake-host.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { staticIpam } from './plugin.ts'

const host = fakeHost()
const inputOf = (ipam: JsonObject, extra: JsonObject = {}, args: Record<string, string> = {}): PluginInput => ({
  containerId: 'c1',
  netns: '',
  ifname: 'eth0',
  args: new Map(Object.entries(args)),
  path: [],
  config: parseNetConf({ name: 'n', type: 'bridge', cniVersion: '1.0.0', ipam: { type: 'static', ...ipam }, ...extra }),
})
const addressesOf = async (input: PluginInput): Promise<readonly string[]> =>
  (await staticIpam.add(input, host)).ips.map(({ address, gateway }) => `${address} ${gateway ?? '-'}`)

const addresses = [{ address: '10.10.0.1/24', gateway: '10.10.0.254' }, { address: '3ffe:ffff:0:01ff::1/64' }]

test('addresses, routes and dns of the configuration', async () => {
  const result = await staticIpam.add(
    inputOf({
      addresses,
      routes: [{ dst: '0.0.0.0/0', gw: '10.10.5.1', mtu: 1400 }],
      dns: { domain: 'x.y', search: null },
    }),
    host,
  )
  assert.deepEqual(result, {
    interfaces: [],
    ips: [{ address: '10.10.0.1/24', gateway: '10.10.0.254' }, { address: '3ffe:ffff:0:1ff::1/64' }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.10.5.1', mtu: 1400 }],
    dns: { domain: 'x.y' },
  })
})

test('CNI_ARGS append and give gateways; args.cni.ips and runtimeConfig.ips replace', async () => {
  const args = { IP: '10.20.0.5/24,fd00::5/64', GATEWAY: '10.20.0.1,fd00::1' }
  assert.deepEqual(await addressesOf(inputOf({ addresses: addresses.slice(0, 1) }, {}, args)), [
    '10.10.0.1/24 10.10.0.254',
    '10.20.0.5/24 10.20.0.1',
    'fd00::5/64 fd00::1',
  ])
  const cni = { args: { cni: { ips: ['10.30.0.5/24'] } } }
  assert.deepEqual(await addressesOf(inputOf({ addresses }, cni, args)), ['10.30.0.5/24 -'])
  const runtime = { ...cni, runtimeConfig: { ips: ['10.40.0.5/24'] } }
  assert.deepEqual(await addressesOf(inputOf({ addresses }, runtime)), ['10.40.0.5/24 -'])
})

test('what is malformed is refused with its field; STATUS says so before any ADD', async () => {
  const bad: [PluginInput, number, RegExp][] = [
    [inputOf({ addresses: [{ address: '10.0.0.1' }] }), 7, /addresses\.0\.address.*10\.0\.0\.1/],
    [inputOf({ addresses: 'all' }), 7, /addresses/],
    [inputOf({ addresses: [{ address: '10.0.0.1/24', gateway: 'x' }] }), 7, /gateway/],
    [inputOf({}, {}, { IP: '10.0.0.1' }), 7, /prefix length/],
    [inputOf({}, {}, { IP: 'x/24' }), 4, /IP/],
    [inputOf({ addresses }, {}, { GATEWAY: 'x' }), 4, /GATEWAY/],
    [inputOf({ addresses: [addresses[0]!, { address: '10.1.0.1/24' }] }, { cniVersion: '0.2.0' }), 7, /0\.2\.0/],
  ]
  for (const [input, code, message] of bad) await assert.rejects(staticIpam.add(input, host), { code, message })
  await assert.rejects(staticIpam.status(inputOf({ addresses: 5 }), host), { code: 7 })
})

test('CHECK compares with the result; DEL and GC have nothing to do', async () => {
  const input = inputOf({ addresses })
  const prevResult = await staticIpam.add(input, host)
  await staticIpam.check({ ...input, prevResult }, host)
  const lost = { ...prevResult, ips: prevResult.ips.slice(1) }
  await assert.rejects(staticIpam.check({ ...input, prevResult: lost }, host), { code: 100, message: /10\.10\.0\.1/ })
  await staticIpam.del(input, host)
  await staticIpam.gc({ ...input, validAttachments: [] }, host)
})
