import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { vlan } from '#plugins/vlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { codeOf, execIn, ping } from './network-host.ts'
import { inputOf } from './input.ts'
import { dataOf, lanIpam, LanHost, links, podLinkSuite } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const conf: JsonObject = { name: 'net1', type: 'vlan', master: 'up0', vlanId: 5, ipam: lanIpam }
const skip = needsKernel('vlan')

podLinkSuite({ plugin: vlan, conf, kind: 'vlan', second: { vlanId: 6 }, skip })

test('frames carry the VLAN; every id; what is refused', { skip }, async () => {
  using made = new LanHost()
  const { machine } = made
  execIn(machine, 'ip', 'address', 'flush', 'dev', 'lan0')
  execIn(machine, 'ip', 'link', 'add', 'link', 'lan0', 'name', 'lan0.5', 'type', 'vlan', 'id', '5')
  execIn(machine, 'ip', 'address', 'add', '10.88.0.1/24', 'dev', 'lan0.5')
  execIn(machine, 'ip', 'link', 'set', 'lan0.5', 'up')
  const [a, b] = [made.pod(), made.pod()]
  await vlan.add(inputOf(conf, { containerId: 'a', netns: a }), made.host)
  assert.ok(await ping(a, '10.88.0.1'))
  // One VLAN of a link is one device, and a pod has it.
  assert.equal(await codeOf(vlan.add(inputOf(conf, { containerId: 'b', netns: b }), made.host)), 7)
  await vlan.add(inputOf({ ...conf, vlanId: 6 }, { containerId: 'b', netns: b }), made.host)
  assert.equal(await ping(b, '10.88.0.1'), false)
  await vlan.del(inputOf(conf, { containerId: 'b', netns: b }), made.host)
  for (const vlanId of [0, 1, 4094]) {
    const result = await vlan.add(inputOf({ ...conf, vlanId }, { containerId: 'b', netns: b }), made.host)
    assert.equal(dataOf(b)['id'], vlanId)
    const check = (id: number) =>
      codeOf(
        vlan.check(inputOf({ ...conf, vlanId: id }, { containerId: 'b', netns: b, prevResult: result }), made.host),
      )
    assert.equal(await check(vlanId), undefined)
    assert.equal(await check(77), 100)
    await vlan.del(inputOf(conf, { containerId: 'b', netns: b }), made.host)
  }
  for (const bad of [{ vlanId: 4095 }, { vlanId: -1 }, { mtu: 1501 }, { master: 'nowhere' }, { master: '' }])
    assert.equal(await codeOf(vlan.add(inputOf({ ...conf, ...bad }, { netns: b }), made.host)), 7)
  assert.equal(await codeOf(vlan.status(inputOf({ ...conf, master: 'nowhere' }), made.host)), 50)
  assert.equal(links(b).length, 1)
})

test('mtu, no addresses, a master in the container, a name that the host has too', { skip }, async () => {
  using made = new LanHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  made.exec('ip', 'link', 'add', 'name', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
  const result = await vlan.add(inputOf({ ...conf, mtu: 1400, ipam: {} }, call), made.host)
  assert.equal(result.interfaces[0]?.mtu, 1400)
  assert.deepEqual(result.ips, [])
  await vlan.del(inputOf(conf, call), made.host)
  execIn(netns, 'ip', 'link', 'add', 'inner', 'type', 'veth', 'peer', 'name', 'innermost')
  const inside = { ...conf, linkInContainer: true, master: 'inner' }
  assert.equal(await codeOf(vlan.add(inputOf(inside, call), made.host)), 11)
  execIn(netns, 'ip', 'link', 'set', 'inner', 'up')
  const second = await vlan.add(inputOf(inside, call), made.host)
  assert.equal(links(netns, 'eth0')[0]?.['link'], 'inner')
  await vlan.check(inputOf(inside, { ...call, prevResult: second }), made.host)
  await vlan.del(inputOf(inside, call), made.host)
  assert.equal(links(netns).length, 3)
})

test('take-over from the reference plugin and back; equal results', { skip: skip || referenceMissing }, async () => {
  using made = new LanHost()
  const version = '1.0.0'
  const netns = made.pod()
  const ipam = { type: 'static', addresses: [{ address: '10.88.0.20/24', gateway: '10.88.0.1' }] }
  const dns = { nameservers: ['10.88.0.1'] }
  const shared = { ...conf, cniVersion: version, dns, ipam }
  const call = { containerId: 'a', netns }
  const theirCall = { ...call, inNetns: made.path }
  const theirs = await reference('ADD', shared, theirCall)
  const prevResult = decodeResult(theirs, version, 'the reference result')
  await vlan.check(inputOf(shared, { ...call, prevResult }), made.host)
  await vlan.del(inputOf(shared, { ...call, prevResult }), made.host)
  assert.equal(links(netns).length, 1)
  const ours = await vlan.add(inputOf(shared, call), made.host)
  // That version of the reference tells no mtu.
  const interfaces = ours.interfaces.map(({ mtu, ...link }) => (mtu === 1500 ? link : assert.fail()))
  assert.deepEqual(encodeResult({ ...ours, interfaces }, version), theirs)
  await reference('CHECK', { ...shared, prevResult: theirs }, theirCall)
  await reference('DEL', { ...shared, prevResult: theirs }, theirCall)
  assert.equal(links(netns).length, 1)
  await vlan.del(inputOf(shared, call), made.host)
})
