import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseNetConf } from '#cni/config.ts'
import type { JsonObject } from '#cni/json.ts'
import { emptyResult, type IpConfig } from '#cni/result.ts'
import { ipNetText } from '#ip/prefix.ts'
import { ipText } from '#ip/address.ts'
import { bridgeConf } from './config.ts'
import { conflictsOf, withGateways } from './gateways.ts'
import { vlanMessages, wantedVlans } from './port.ts'

const inputOf = (extra: JsonObject, args: Record<string, string> = {}) => ({
  containerId: 'c1',
  netns: '/x',
  ifname: 'eth0',
  args: new Map(Object.entries(args)),
  path: [],
  config: parseNetConf({ name: 'net1', type: 'bridge', ...extra }),
})
const confOf = (extra: JsonObject = {}, args: Record<string, string> = {}) => bridgeConf(inputOf(extra, args))

test('defaults are those of the reference plugin', () => {
  assert.deepEqual(confOf(), {
    bridge: 'cni0',
    isGateway: false,
    isDefaultGateway: false,
    forceAddress: false,
    ipMasq: false,
    ipMasqBackend: '',
    mtu: 0,
    hairpinMode: false,
    promiscMode: false,
    vlan: 0,
    vlanTrunk: [],
    preserveDefaultVlan: false,
    macspoofchk: false,
    enableDad: false,
    disableContainerInterface: false,
    portIsolation: false,
    mac: undefined,
  })
  assert.equal(confOf({ isDefaultGateway: true }).isGateway, true)
})

test('the MAC address: runtimeConfig before args.cni before CNI_ARGS', () => {
  const [one, two, three] = ['0a:00:00:00:00:01', '0a:00:00:00:00:02', '0a:00:00:00:00:03'] as const
  const args = { cni: { mac: two } }
  assert.equal(confOf({ args, runtimeConfig: { mac: one } }, { MAC: three }).mac, one)
  assert.equal(confOf({ args }, { MAC: three }).mac, two)
  assert.equal(confOf({}, { MAC: three }).mac, three)
  assert.throws(() => confOf({}, { MAC: 'x' }), { code: 4, message: /MAC.*"x"/ })
  assert.throws(() => confOf({ runtimeConfig: { mac: '01:00:5e:00:00:01' } }), { code: 7, message: /group/ })
})

test('contradictions and bad values are refused with their field', () => {
  const bad: [JsonObject, RegExp][] = [
    [{ hairpinMode: true, promiscMode: true }, /exclude/],
    [{ disableContainerInterface: true, ipam: { type: 'host-local' } }, /disableContainerInterface/],
    [{ vlan: 4095 }, /vlan.*4095/],
    [{ vlan: -1 }, /vlan/],
    [{ mtu: 'big' }, /mtu.*big/],
    [{ mtu: 70_000 }, /mtu/],
    [{ bridge: 'a-name-that-is-too-long' }, /bridge.*15 bytes/],
    [{ bridge: 'a/b' }, /bridge/],
    [{ bridge: 'brücke-brücke-' }, /bridge/],
    [{ vlanTrunk: [{}] }, /vlanTrunk\[0\] names no VLAN/],
    [{ vlanTrunk: [{ minID: 5 }] }, /only one of minID and maxID/],
    [{ vlanTrunk: [{ minID: 9, maxID: 5 }] }, /minID 9 is greater/],
    [{ vlanTrunk: [{ id: 0 }] }, /vlanTrunk/],
    [{ vlanTrunk: [{ minID: 1, maxID: 4095 }] }, /vlanTrunk/],
    [{ ipMasqBackend: 'ebtables' }, /ipMasqBackend/],
    [{ isGateway: 'yes' }, /isGateway/],
  ]
  for (const [extra, message] of bad) assert.throws(() => confOf(extra), { code: 7, message }, JSON.stringify(extra))
  assert.equal(confOf({ ipMasqBackend: 'iptables' }).ipMasq, false)
})

test('VLANs of a port', () => {
  const conf = (vlan: number, vlanTrunk: number[], preserveDefaultVlan = false) => ({
    vlan,
    vlanTrunk,
    preserveDefaultVlan,
  })
  assert.deepEqual(confOf({ vlanTrunk: [{ minID: 3, maxID: 5 }, { id: 4 }, { id: 1 }] }).vlanTrunk, [1, 3, 4, 5])
  assert.deepEqual(wantedVlans(conf(0, [])), [])
  assert.deepEqual(wantedVlans(conf(100, [])), [{ id: 100, pvid: true, untagged: true }])
  assert.deepEqual(wantedVlans(conf(0, [7])), [
    { id: 7, pvid: false, untagged: false },
    { id: 1, pvid: true, untagged: true },
  ])
  const present = [{ id: 1, pvid: true, untagged: true }]
  const words = (c: ReturnType<typeof conf>): string[] => vlanMessages(9, c, present).map((message) => message.op())
  assert.deepEqual(words(conf(100, [])), ['bridge vlan delete dev 9 vid 1', 'bridge vlan add dev 9 vid 100'])
  assert.deepEqual(words(conf(100, [], true)), ['bridge vlan add dev 9 vid 100'])
})

test('gateways: filled in, on the bridge, default routes once for each family', () => {
  const ip = (address: string, gateway?: string): IpConfig =>
    gateway === undefined ? { address: ipNetText(address) } : { address: ipNetText(address), gateway: ipText(gateway) }
  const ips = [ip('10.1.0.5/24'), ip('10.1.0.6/24', '10.1.0.254'), ip('fd00::5/64')]
  const { result, addresses } = withGateways({ ...emptyResult, ips }, true, true)
  assert.deepEqual(
    result.ips.map((config) => config.gateway),
    ['10.1.0.1', '10.1.0.254', 'fd00::1'],
  )
  assert.deepEqual(addresses, ['10.1.0.1/24', '10.1.0.254/24', 'fd00::1/64'])
  assert.deepEqual(result.routes, [
    { dst: '0.0.0.0/0', gw: '10.1.0.1' },
    { dst: '::/0', gw: 'fd00::1' },
  ])
  assert.deepEqual(withGateways({ ...emptyResult, ips }, false, false).addresses, [])
})

test('conflicts: any other IPv4 address, overlapping IPv6 subnets', () => {
  const nets = (...texts: string[]) => texts.map(ipNetText)
  assert.deepEqual(conflictsOf(ipNetText('10.1.0.1/24'), nets('10.1.0.1/24', '10.2.0.1/24', 'fd00::1/64')), [
    '10.2.0.1/24',
  ])
  assert.deepEqual(conflictsOf(ipNetText('fd00::1/64'), nets('fe80::1/64', 'fd00::2/64', '10.2.0.1/24')), [
    'fd00::2/64',
  ])
})
