/** A virtual function's way into a pod and back, with a card of the test's own: sysfs is a folder, the function's link a veth. */

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { VLAN_PROTOCOL, type VfSettings } from '#netlink/link-vf.ts'
import { FakeCard, fakeMac, FRESH } from '#plugins/host-device/fake-card.ts'
import { hostDevicePlugin } from '#plugins/host-device/plugin.ts'
import { deleteNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { codeOf } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { lanIpam, LanHost, left, links } from './pod-link-suite.ts'

const skip = needsRoot
const VF = '0000:03:02.6'
const OWN = fakeMac(0x0a)
const conf: JsonObject = {
  name: 'net1',
  type: 'host-device',
  device: 'up0',
  vlan: 5,
  mac: fakeMac(0x55),
  spoofchk: 'off',
  trust: 'on',
  link_state: 'enable',
  max_tx_rate: 100,
  ipam: lanIpam,
}
const SET: VfSettings = {
  ...FRESH,
  mac: fakeMac(0x55),
  vlan: { id: 5, qos: 0, protocol: VLAN_PROTOCOL['802.1q'] },
  spoofCheck: false,
  trust: true,
  linkState: 'enable',
  rate: { min: 0, max: 100 },
}

/** `up0` is function 3 of the card behind `pf0`. */
class CardHost extends LanHost {
  readonly card = new FakeCard('pf0')
  readonly plugin = hostDevicePlugin(join(this.root, 'sys'), () => this.card)

  constructor() {
    super()
    this.exec('ip', 'link', 'set', 'up0', 'address', OWN)
    const path = (...parts: string[]): string => join(this.root, 'sys', ...parts)
    for (const folder of [`bus/pci/devices/${VF}/net/up0`, 'bus/pci/devices/0000:03:00.0/net/pf0', 'class/net/up0'])
      mkdirSync(path(folder), { recursive: true })
    mkdirSync(path('bus/pci/devices/0000:03:02.0'))
    symlinkSync('../0000:03:00.0', path('bus/pci/devices', VF, 'physfn'))
    symlinkSync('../0000:03:02.0', path('bus/pci/devices/0000:03:00.0/virtfn0'))
    symlinkSync(`../${VF}`, path('bus/pci/devices/0000:03:00.0/virtfn3'))
    symlinkSync(`../../../bus/pci/devices/${VF}`, path('class/net/up0/device'))
  }

  /** A program of the pod shall drive it. */
  unbind(): void {
    symlinkSync('../../../drivers/vfio-pci', join(this.root, 'sys/bus/pci/devices', VF, 'driver'))
  }

  get records(): readonly string[] {
    const folder = join(this.root, 'run/heddle/links')
    return existsSync(folder) ? readdirSync(folder) : []
  }
}

test('set before the pod has it, put back after the pod had it; CHECK sees the card', { skip }, async () => {
  using made = new CardHost()
  const { plugin, card } = made
  const netns = made.pod()
  const baseline = made.dump()
  const call = { containerId: 'a', netns }
  for (const how of [{ device: 'up0' }, { device: '', runtimeConfig: { deviceID: VF } }, { device: '', hwaddr: OWN }]) {
    const raw = { ...conf, ...how }
    const result = await plugin.add(inputOf(raw, call), made.host)
    assert.equal(result.interfaces[0]?.mac, fakeMac(0x55))
    assert.equal(links(netns, 'eth0')[0]?.['address'], fakeMac(0x55))
    assert.deepEqual(card.functions[3], SET)
    assert.ok(card.functions.every((one, vf) => vf === 3 || one === FRESH))
    const check = () => codeOf(plugin.check(inputOf(raw, { ...call, prevResult: result }), made.host))
    assert.equal(await check(), undefined)
    card.functions[3] = { ...SET, trust: false }
    assert.equal(await check(), 100)
    for (const gone of [{ ...call, prevResult: result }, call, { containerId: 'a' }])
      await plugin.del(inputOf(raw, gone), made.host)
    assert.deepEqual(card.functions[3], FRESH)
    assert.deepEqual(left(baseline, made), [])
    assert.equal(links(made.path, 'up0')[0]?.['address'], OWN)
  }
})

test('the address that comes with the call goes before the configuration’s', { skip }, async () => {
  using made = new CardHost()
  const { plugin, card } = made
  const call = { containerId: 'a', netns: made.pod() }
  const { mac: _, ...without } = conf
  for (const [raw, args, mac] of [
    [conf, { MAC: fakeMac(1) }, fakeMac(1)],
    [{ ...conf, runtimeConfig: { mac: fakeMac(2) } }, { MAC: fakeMac(1) }, fakeMac(2)],
    [without, {}, FRESH.mac],
    [{ name: 'net1', type: 'host-device', device: 'up0', ipam: lanIpam }, { MAC: fakeMac(1) }, fakeMac(1)],
  ] as const) {
    const result = await plugin.add(inputOf(raw, { ...call, args }), made.host)
    assert.equal(card.functions[3]?.mac, mac)
    assert.equal(result.interfaces[0]?.mac, mac === FRESH.mac ? OWN : mac)
    await plugin.check(inputOf(raw, { ...call, args, prevResult: result }), made.host)
    await plugin.del(inputOf(raw, call), made.host)
    assert.deepEqual(card.functions[3], FRESH)
  }
})

test('what the card refuses, and every failing step, leaves all as it was', { skip }, async () => {
  using made = new CardHost()
  const { plugin, card } = made
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const baseline = made.dump()
  const points: string[] = []
  made.atFailpoint = (name) => void points.push(name)
  await plugin.add(inputOf(conf, call), made.host)
  const ofAdd = points.splice(0)
  made.atFailpoint = () => {}
  await plugin.del(inputOf(conf, call), made.host)
  assert.ok(ofAdd.includes('host-device.vf') && ofAdd.includes('host-device.vf-set'), ofAdd.join())
  for (const point of ofAdd) {
    made.atFailpoint = (name) => {
      if (name === point) throw new Error(`failed on purpose at ${point}`)
    }
    await assert.rejects(plugin.add(inputOf(conf, call), made.host), /failed on purpose/)
    made.atFailpoint = () => {}
    assert.deepEqual(card.functions[3], FRESH, point)
    assert.deepEqual(left(baseline, made), [], point)
  }
  card.refuses = 'rate'
  const message = /pf0 refuses \{"rate"/
  await assert.rejects(plugin.add(inputOf(conf, call), made.host), { code: 7, message })
  card.refuses = undefined
  assert.deepEqual(card.functions[3], FRESH)
  // The record stays while the card does not take something back, and the next DEL tries again.
  await plugin.add(inputOf(conf, call), made.host)
  card.refuses = 'vlan'
  assert.equal(await codeOf(plugin.del(inputOf(conf, call), made.host)), 11)
  assert.deepEqual(card.functions[3], { ...FRESH, vlan: SET.vlan })
  assert.equal(made.records.length, 1)
  card.refuses = undefined
  await plugin.del(inputOf(conf, call), made.host)
  assert.deepEqual(card.functions[3], FRESH)
  assert.deepEqual(left(baseline, made), [])
})

test('from a namespace that vanished, after a kill, by GC; a virtual link that ended with it', { skip }, async () => {
  using made = new CardHost()
  const { plugin, card } = made
  for (const how of ['DEL', 'GC', 'ADD'] as const) {
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const former = { ...FRESH, vlan: { id: 9, qos: 0, protocol: 0x8100 } }
    card.functions[3] = former
    await plugin.add(inputOf(conf, call), made.host)
    // Here the link goes with its namespace, as a function's does with its driver.
    deleteNetns(netns)
    if (how === 'DEL') await plugin.del(inputOf(conf, { containerId: 'a' }), made.host)
    if (how === 'GC') await plugin.gc(gcInputOf(conf, []), made.host)
    if (how !== 'ADD') {
      assert.deepEqual(card.functions[3], former, how)
      assert.deepEqual(made.records, [], how)
    }
    made.exec('ip', 'link', 'add', 'up0', 'address', OWN, 'type', 'veth', 'peer', 'name', `other${how}`)
  }
})

test('a function without a link has its settings all the same', { skip }, async () => {
  using made = new CardHost()
  made.unbind()
  const { plugin, card } = made
  const netns = made.pod()
  const raw = { ...conf, device: '', pciBusID: VF }
  const call = { containerId: 'a', netns }
  const result = await plugin.add(inputOf(raw, call), made.host)
  assert.deepEqual([result.interfaces, result.ips.length], [[], 1])
  assert.deepEqual(card.functions[3], SET)
  assert.equal(links(netns).length, 1)
  await plugin.check(inputOf(raw, { ...call, prevResult: result }), made.host)
  card.functions[3] = FRESH
  assert.equal(await codeOf(plugin.check(inputOf(raw, { ...call, prevResult: result }), made.host)), 100)
  await plugin.del(inputOf(raw, { containerId: 'a' }), made.host)
  assert.deepEqual(card.functions[3], FRESH)
  assert.deepEqual(made.records, [])
  await plugin.add(inputOf(raw, call), made.host)
  await plugin.gc(gcInputOf({ ...raw, name: 'other' }, []), made.host)
  assert.deepEqual(card.functions[3], SET)
  await plugin.gc(gcInputOf(raw, []), made.host)
  assert.deepEqual(card.functions[3], FRESH)
  made.atFailpoint = (name) => {
    if (name === 'host-device.vf-set') throw new Error('failed on purpose')
  }
  await assert.rejects(plugin.add(inputOf(raw, call), made.host), /on purpose/)
  assert.deepEqual([card.functions[3], made.records], [FRESH, []])
})

test('settings for what is no virtual function are refused, an address of the runtime is not', { skip }, async () => {
  using made = new LanHost()
  const card = new FakeCard('pf0')
  const plugin = hostDevicePlugin(join(made.root, 'sys'), () => card)
  const netns = made.pod()
  const plain = { name: 'net1', type: 'host-device', device: 'up0', ipam: lanIpam }
  for (const field of [{ vlan: 5 }, { trust: 'off' }, { max_tx_rate: 0 }, { mac: OWN }]) {
    const [key] = Object.keys(field)
    const message = new RegExp(`"${key}" is for a virtual function, which up0 is not`)
    await assert.rejects(plugin.add(inputOf({ ...plain, ...field }, { netns }), made.host), { code: 7, message })
  }
  await assert.rejects(plugin.status(inputOf({ ...plain, vlan: 5000 }), made.host), { code: 7, message: /5000/ })
  const result = await plugin.add(inputOf({ ...plain, runtimeConfig: { mac: OWN } }, { netns }), made.host)
  assert.notEqual(result.interfaces[0]?.mac, OWN)
  await plugin.del(inputOf(plain, { netns }), made.host)
  assert.deepEqual(card.written, [])
})
