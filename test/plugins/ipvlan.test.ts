import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { ipvlan } from '#plugins/ipvlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { codeOf, execIn, ping } from './network-host.ts'
import { inputOf } from './input.ts'
import { dataOf, lanIpam, LanHost, links, podLinkSuite } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const conf: JsonObject = { name: 'net1', type: 'ipvlan', master: 'up0', ipam: lanIpam }
const skip = needsKernel('ipvlan')

podLinkSuite({ plugin: ipvlan, conf, kind: 'ipvlan', skip })

test('every mode; the master’s MAC address; CHECK sees another mode', { skip }, async () => {
  for (const [mode, seen] of [
    ['l2', 'l2'],
    ['l3', 'l3'],
    ['l3s', 'l3s'],
    ['', 'l2'],
  ] as const) {
    using made = new LanHost()
    const call = { containerId: 'a', netns: made.pod() }
    const result = await ipvlan.add(inputOf({ ...conf, mode }, call), made.host)
    assert.equal(dataOf(call.netns)['mode'], seen)
    assert.equal(result.interfaces[0]?.mac, links(made.path, 'up0')[0]?.['address'])
    const check = (wanted: string) =>
      codeOf(ipvlan.check(inputOf({ ...conf, mode: wanted }, { ...call, prevResult: result }), made.host))
    assert.equal(await check(mode), undefined)
    assert.equal(await check(seen === 'l3' ? 'l2' : 'l3'), 100)
    if (seen === 'l2') assert.ok(await ping(call.netns, '10.88.0.1'))
  }
  using made = new LanHost()
  const netns = made.pod()
  for (const bad of [{ mode: 'l4' }, { mtu: -1 }, { master: 'nowhere' }, { ipam: {} }])
    assert.equal(await codeOf(ipvlan.add(inputOf({ ...conf, ...bad }, { netns }), made.host)), 7)
  assert.equal(await codeOf(ipvlan.status(inputOf({ ...conf, master: 'nowhere' }), made.host)), 50)
  assert.equal(links(netns).length, 1)
})

test('chained: the only interface before is the master, its addresses move in', { skip }, async () => {
  using made = new LanHost()
  const netns = made.pod()
  const chained: JsonObject = { name: 'net1', type: 'ipvlan' }
  const before = (...names: string[]): Result => ({
    interfaces: names.map((name) => ({ name })),
    ips: decodeResult({ ips: [{ address: '10.88.0.30/24' }] }, '1.0.0', 'a result').ips,
    routes: [],
    dns: {},
  })
  const call = { containerId: 'a', netns, prevResult: before('up0') }
  const result = await ipvlan.add(inputOf(chained, call), made.host)
  assert.deepEqual(result.ips, [{ address: '10.88.0.30/24', interface: 0 }])
  assert.equal(result.interfaces.length, 1)
  assert.ok(await ping(netns, '10.88.0.1'))
  await ipvlan.check(inputOf(chained, { ...call, prevResult: result }), made.host)
  await ipvlan.del(inputOf(chained, { containerId: 'a', netns, prevResult: result }), made.host)
  assert.equal(links(netns).length, 1)
  assert.equal(await codeOf(ipvlan.add(inputOf(chained, { ...call, prevResult: before('up0', 'lo') }), made.host)), 7)
  assert.equal(await codeOf(ipvlan.add(inputOf(chained, { netns }), made.host)), 7)
})

test(
  'the default route as the way to a master; a master in the container; a name that the host has too',
  { skip },
  async () => {
    using made = new LanHost()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
    made.exec('ip', 'route', 'add', 'default', 'via', '10.88.0.1')
    made.exec('ip', 'link', 'add', 'name', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
    const { master: _, ...bare } = conf
    await ipvlan.add(inputOf(bare, call), made.host)
    assert.ok(await ping(netns, '10.88.0.1'))
    await ipvlan.del(inputOf(bare, call), made.host)
    execIn(netns, 'ip', 'link', 'add', 'inner', 'type', 'veth', 'peer', 'name', 'innermost')
    const inside = { ...conf, linkInContainer: true, master: 'inner', mtu: 1400 }
    const result = await ipvlan.add(inputOf(inside, call), made.host)
    assert.equal(links(netns, 'eth0')[0]?.['link'], 'inner')
    assert.equal(result.interfaces[0]?.mtu, 1400)
    await ipvlan.check(inputOf(inside, { ...call, prevResult: result }), made.host)
    await ipvlan.del(inputOf(inside, call), made.host)
    assert.equal(await codeOf(ipvlan.add(inputOf({ ...inside, master: 'up0' }, call), made.host)), 7)
  },
)

test('take-over from the reference plugin and back; equal results', { skip: skip || referenceMissing }, async () => {
  using made = new LanHost()
  const version = '1.0.0'
  const netns = made.pod()
  const ipam = { type: 'static', addresses: [{ address: '10.88.0.20/24', gateway: '10.88.0.1' }] }
  const dns = { nameservers: ['10.88.0.1'] }
  const shared = { ...conf, cniVersion: version, dns, mode: 'l2', ipam }
  const call = { containerId: 'a', netns }
  const theirCall = { ...call, inNetns: made.path }
  const theirs = await reference('ADD', shared, theirCall)
  const prevResult = decodeResult(theirs, version, 'the reference result')
  await ipvlan.check(inputOf(shared, { ...call, prevResult }), made.host)
  await ipvlan.del(inputOf(shared, { ...call, prevResult }), made.host)
  assert.equal(links(netns).length, 1)
  const ours = await ipvlan.add(inputOf(shared, call), made.host)
  // That version of the reference tells no mtu.
  const interfaces = ours.interfaces.map(({ mtu, ...link }) => (mtu === 1500 ? link : assert.fail()))
  assert.deepEqual(encodeResult({ ...ours, interfaces }, version), theirs)
  await reference('CHECK', { ...shared, prevResult: theirs }, theirCall)
  await reference('DEL', { ...shared, prevResult: theirs }, theirCall)
  assert.equal(links(netns).length, 1)
  await ipvlan.del(inputOf(shared, call), made.host)
})
