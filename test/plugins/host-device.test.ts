import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { specVersions } from '#cni/version.ts'
import { hostDevice, hostDevicePlugin } from '#plugins/host-device/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { codeOf, difference, execIn, type NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { lanIpam, LanHost, left, links } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const skip = needsRoot
const conf: JsonObject = { name: 'net1', type: 'host-device', device: 'up0', ipam: lanIpam }
const MAC = '02:00:00:00:00:0a'

/** A device that is up, with settings of its own. */
class DeviceHost extends LanHost {
  constructor() {
    super()
    this.exec('ip', 'link', 'set', 'up0', 'address', MAC, 'mtu', '1450', 'alias', 'to the lan')
  }
}

test('ADD, CHECK, DEL, DEL again: the device comes back as it was', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const baseline = made.dump()
  const call = { containerId: 'a', netns }
  const result = await hostDevice.add(inputOf(conf, call), made.host)
  assert.deepEqual(result.interfaces, [{ name: 'eth0', mac: MAC, mtu: 1450, sandbox: netns }])
  assert.deepEqual(result.ips, [{ address: '10.88.0.10/24', gateway: '10.88.0.1', interface: 0 }])
  assert.doesNotMatch(made.exec('ip', 'link'), /up0/)
  assert.ok(await ping(netns, '10.88.0.1'))
  await hostDevice.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  await hostDevice.status(inputOf(conf), made.host)
  assert.equal(await codeOf(hostDevice.add(inputOf(conf, { containerId: 'b', netns: made.pod() }), made.host)), 7)
  assert.equal(await codeOf(hostDevice.add(inputOf(conf, call), made.host)), 4)
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'mtu', '1300', 'address', '02:00:00:00:00:0b')
  for (const gone of [{ ...call, prevResult: result }, call, { containerId: 'a' }, { containerId: 'never', netns }])
    await hostDevice.del(inputOf(conf, gone), made.host)
  assert.equal(links(netns).length, 1)
  assert.deepEqual(left(baseline, made), [])
  assert.match(made.exec('ip', 'link', 'show', 'up0'), /[<,]UP[,>]/)
})

test('a name that either side has already', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns, ifname: 'net1' }
  // The pod has a link of the device's name, the host one of the pod's.
  execIn(netns, 'ip', 'link', 'add', 'name', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
  made.exec('ip', 'link', 'add', 'name', 'net1', 'type', 'veth', 'peer', 'name', 'net2')
  await hostDevice.add(inputOf(conf, call), made.host)
  assert.equal(links(netns, 'net1')[0]?.['address'], MAC)
  // Somebody takes the name meanwhile: the device stays, and comes when the name is free.
  made.exec('ip', 'link', 'add', 'name', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
  assert.equal(await codeOf(hostDevice.del(inputOf(conf, call), made.host)), 11)
  made.exec('ip', 'link', 'delete', 'up0')
  await hostDevice.del(inputOf(conf, call), made.host)
  assert.equal(links(made.path, 'up0')[0]?.['address'], MAC)
})

test('CHECK finds what is wrong; a bad configuration has a clear error', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const prevResult = await hostDevice.add(inputOf(conf, call), made.host)
  const check = (extra: JsonObject = {}) =>
    codeOf(hostDevice.check(inputOf({ ...conf, ...extra }, { ...call, prevResult }), made.host))
  assert.equal(await check(), undefined)
  assert.equal(await check({ device: 'other' }), 100)
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'alias', 'mine')
  assert.equal(await check(), 100)
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'alias', 'up0')
  execIn(netns, 'ip', 'address', 'flush', 'dev', 'eth0')
  assert.equal(await check(), 100)
  await hostDevice.del(inputOf(conf, call), made.host)
  assert.equal(await check(), 100)
  const bad: JsonObject[] = [
    { device: '' },
    { device: 'nowhere' },
    { device: 'lo' },
    { device: '', hwaddr: 'x' },
    { device: '', hwaddr: '02:99:99:99:99:99' },
    { device: '', kernelpath: '/etc' },
    { device: '', kernelpath: '/sys/devices/../../etc' },
    { device: '', pciBusID: '../../../etc' },
    { device: '', pciBusID: '0000:ff:ff.7' },
    { runtimeConfig: { deviceID: '0000:ff:ff.7' } },
  ]
  for (const extra of bad)
    assert.equal(
      await codeOf(hostDevice.add(inputOf({ ...conf, ...extra }, call), made.host)),
      7,
      JSON.stringify(extra),
    )
  assert.equal(links(netns).length, 1)
})

test('every way to name a device', { skip }, async () => {
  using made = new DeviceHost()
  const sysfs = join(made.root, 'sys')
  const device = (path: string): void => void mkdirSync(join(sysfs, path, 'up0'), { recursive: true })
  device('devices/pci0000:00/0000:00:19.0/net')
  device('bus/pci/devices/0000:03:02.6/net')
  device('bus/pci/devices/0000:00:04.0/virtio1/net')
  device('bus/auxiliary/devices/mlx5_core.sf.4/net')
  for (const driver of ['vfio-pci', 'uio_pci_generic', 'igb_uio', 'ixgbevf']) {
    mkdirSync(join(sysfs, 'bus/pci/devices', driver), { recursive: true })
    symlinkSync(`../../drivers/${driver}`, join(sysfs, 'bus/pci/devices', driver, 'driver'))
  }
  const plugin = hostDevicePlugin(sysfs)
  const netns = made.pod()
  const { device: _, ...bare } = conf
  const ways: JsonObject[] = [
    { hwaddr: MAC.toUpperCase() },
    { kernelpath: '/sys/devices/pci0000:00/0000:00:19.0' },
    { pciBusID: '0000:03:02.6' },
    { pciBusID: '0000:00:04.0' },
    { runtimeConfig: { deviceID: '0000:03:02.6' } },
    { runtimeConfig: { deviceID: 'mlx5_core.sf.4' } },
    // What a device plugin reserved goes before all, then the name.
    { device: 'nowhere', runtimeConfig: { deviceID: '0000:03:02.6' } },
    { device: 'up0', hwaddr: '02:99:99:99:99:99', kernelpath: '/sys/devices/x', pciBusID: '0000:ff:ff.7' },
  ]
  for (const way of ways) {
    const result = await plugin.add(inputOf({ ...bare, ...way }, { netns }), made.host)
    assert.equal(result.interfaces[0]?.mac, MAC, JSON.stringify(way))
    await plugin.check(inputOf({ ...bare, ...way }, { netns, prevResult: result }), made.host)
    await plugin.del(inputOf({ ...bare, ...way }, { netns }), made.host)
    assert.equal(links(made.path, 'up0').length, 1)
  }
  // A driver of programs: no link, only addresses.
  for (const pciBusID of ['vfio-pci', 'uio_pci_generic', 'igb_uio']) {
    const dpdk = { ...bare, pciBusID }
    const result = await plugin.add(inputOf(dpdk, { netns }), made.host)
    assert.deepEqual([result.interfaces, result.ips.length], [[], 1])
    await plugin.check(inputOf(dpdk, { netns, prevResult: result }), made.host)
    await plugin.del(inputOf(dpdk, { netns }), made.host)
    assert.deepEqual((await plugin.add(inputOf({ ...dpdk, ipam: {} }, { netns }), made.host)).ips, [])
    assert.equal(links(netns).length, 1)
  }
  assert.equal(await codeOf(plugin.add(inputOf({ ...bare, pciBusID: 'ixgbevf' }, { netns }), made.host)), 7)
})

test('no addresses: up all the same; a result in every version', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const bare = await hostDevice.add(inputOf({ ...conf, ipam: {} }, { netns }), made.host)
  assert.deepEqual([bare.ips, bare.interfaces.length], [[], 1])
  assert.match(execIn(netns, 'ip', 'link', 'show', 'eth0'), /[<,]UP[,>]/)
  await hostDevice.del(inputOf(conf, { netns }), made.host)
  const old = inputOf({ ...conf, ipam: {}, cniVersion: '0.2.0' }, { netns })
  assert.equal(await codeOf(hostDevice.add(old, made.host)), 1)
  assert.deepEqual(hostDevice.versions, specVersions)
  for (const cniVersion of specVersions) {
    const result = await hostDevice.add(inputOf({ ...conf, cniVersion }, { netns }), made.host)
    assert.equal(encodeResult(result, cniVersion)['cniVersion'], cniVersion)
    await hostDevice.del(inputOf({ ...conf, cniVersion }, { netns }), made.host)
  }
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC clean up after a kill at any step',
  { skip, timeout: 300_000 },
  async () => {
    using made = new DeviceHost()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const baseline = made.dump()
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    await hostDevice.add(inputOf(conf, call), made.host)
    const ofAdd = points.splice(0)
    await hostDevice.del(inputOf(conf, call), made.host)
    const ofDel = points.splice(0)
    assert.ok(ofAdd.length >= 5 && ofDel.length >= 3, `${ofAdd.join()} | ${ofDel.join()}`)
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(hostDevice.add(inputOf(conf, call), made.host), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.deepEqual(left(baseline, made), [], point)
    }
    made.atFailpoint = () => {}
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    for (const [i, point] of [...ofAdd, ...ofDel].entries()) {
      const how = ways[i % ways.length] ?? 'GC'
      if (i < ofAdd.length) await killedAt(made, { verb: 'ADD', conf, call, point })
      else {
        await hostDevice.add(inputOf(conf, call), made.host)
        await killedAt(made, { verb: 'DEL', conf, call, point })
      }
      if (how === 'GC') await hostDevice.gc(gcInputOf(conf, []), made.host)
      else await hostDevice.del(inputOf(conf, how === 'DEL' ? call : { containerId: 'a' }), made.host)
      assert.deepEqual(left(baseline, made), [], `${point}, then ${how}`)
      assert.equal(links(netns).length, 1)
    }
  },
)

/** What the kernel does with a physical device when its namespace ends: a name like dev0, down, the alias kept. */
function namespaceEnds(made: NetworkHost, netns: string): void {
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'down')
  execIn(netns, 'ip', 'link', 'set', 'eth0', 'name', 'dev0')
  execIn(netns, 'ip', 'link', 'set', 'dev0', 'netns', made.path)
  deleteNetns(netns)
}

test(
  'out of a namespace that vanished: DEL, GC or the next ADD gives the device its name again',
  { skip },
  async () => {
    using made = new DeviceHost()
    const netns = made.pod()
    const call = { containerId: 'a', netns }
    const baseline = made.dump()
    for (const how of ['DEL', 'DEL without a namespace', 'GC', 'ADD']) {
      const prevResult = await hostDevice.add(inputOf(conf, call), made.host)
      namespaceEnds(made, netns)
      if (how === 'GC') await hostDevice.gc(gcInputOf(conf, []), made.host)
      else if (how === 'ADD') {
        const next = { containerId: 'b', netns: made.pod() }
        await hostDevice.add(inputOf(conf, next), made.host)
        await hostDevice.del(inputOf(conf, next), made.host)
      }
      if (how !== 'GC') {
        const gone = how === 'DEL without a namespace' ? { containerId: 'a' } : { ...call, prevResult }
        await hostDevice.del(inputOf(conf, gone), made.host)
      }
      assert.deepEqual(left(baseline, made), [], how)
      createNetns(netns)
    }
    // A virtual device ended with its namespace: nothing is left to bring back.
    const prevResult = await hostDevice.add(inputOf(conf, call), made.host)
    deleteNetns(netns)
    await hostDevice.del(inputOf(conf, { ...call, prevResult }), made.host)
    await hostDevice.del(inputOf(conf, call), made.host)
  },
)

test('given back by another program without its alias, it gets the rest of its settings', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const baseline = made.dump()
  const call = { containerId: 'a', netns }
  for (const how of ['DEL', 'GC']) {
    await hostDevice.add(inputOf(conf, call), made.host)
    execIn(netns, 'ip', 'link', 'set', 'eth0', 'down')
    execIn(netns, 'ip', 'link', 'set', 'eth0', 'name', 'up0', 'alias', '', 'mtu', '1400')
    execIn(netns, 'ip', 'link', 'set', 'up0', 'netns', made.path)
    if (how === 'GC') await hostDevice.gc(gcInputOf(conf, []), made.host)
    else await hostDevice.del(inputOf(conf, call), made.host)
    assert.deepEqual(left(baseline, made), [], how)
    assert.match(made.exec('ip', 'link', 'show', 'up0'), /[<,]UP[,>]/, how)
    assert.match(made.exec('ip', 'link', 'show', 'up0'), /alias to the lan/, how)
  }
})

test('GC spares valid attachments and other networks; DEL spares other plugins’ links', { skip }, async () => {
  using made = new DeviceHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const prevResult = await hostDevice.add(inputOf(conf, call), made.host)
  await hostDevice.gc(gcInputOf({ ...conf, name: 'other' }, []), made.host)
  await hostDevice.gc(gcInputOf(conf, [{ containerId: 'a', ifname: 'eth0' }]), made.host)
  await hostDevice.check(inputOf(conf, { ...call, prevResult }), made.host)
  await hostDevice.gc(gcInputOf(conf, []), made.host)
  assert.equal(links(made.path, 'up0').length, 1)
  execIn(netns, 'ip', 'link', 'add', 'name', 'eth0', 'type', 'veth', 'peer', 'name', 'other')
  await hostDevice.del(inputOf(conf, call), made.host)
  assert.equal(links(netns).length, 3)
})

test('take-over from the reference plugin and back; equal results', { skip: skip || referenceMissing }, async () => {
  using made = new LanHost()
  const version = '1.0.0'
  const netns = made.pod()
  const ipam = { type: 'static', addresses: [{ address: '10.88.0.20/24', gateway: '10.88.0.1' }] }
  const shared = { ...conf, cniVersion: version, ipam, dns: { nameservers: ['10.88.0.1'] } }
  const call = { containerId: 'a', netns }
  const theirCall = { ...call, inNetns: made.path }
  const theirs = await reference('ADD', shared, theirCall)
  const prevResult = decodeResult(theirs, version, 'the reference result')
  await hostDevice.check(inputOf(shared, { ...call, prevResult }), made.host)
  await hostDevice.del(inputOf(shared, { ...call, prevResult }), made.host)
  assert.equal(links(netns).length, 1)
  made.exec('ip', 'link', 'set', 'up0', 'up')
  const before = made.exec('ip', 'link', 'show', 'up0')

  const ours = await hostDevice.add(inputOf(shared, call), made.host)
  // That version of the reference tells no mtu.
  const interfaces = ours.interfaces.map(({ mtu, ...link }) => (mtu === 1500 ? link : assert.fail()))
  assert.deepEqual(encodeResult({ ...ours, interfaces }, version), theirs)
  await reference('CHECK', { ...shared, prevResult: theirs }, theirCall)
  await reference('DEL', { ...shared, prevResult: theirs }, theirCall)
  assert.equal(links(netns).length, 1)
  // The reference leaves it down and with the alias; our record knows better.
  await hostDevice.gc(gcInputOf({ ...shared, cniVersion: '1.1.0' }, []), made.host)
  assert.deepEqual(difference(before, made.exec('ip', 'link', 'show', 'up0')), [])
})
