import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { macvlan } from '#plugins/macvlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { codeOf, execIn, ping } from './network-host.ts'
import { inputOf } from './input.ts'
import { dataOf, lanIpam, LanHost, links, podLinkSuite } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const conf: JsonObject = { name: 'net1', type: 'macvlan', master: 'up0', ipam: lanIpam }
const skip = needsKernel('macvlan')

podLinkSuite({ plugin: macvlan, conf, kind: 'macvlan', skip })

test('every mode, and the default route as the way to a master', { skip }, async () => {
  for (const [mode, seen] of [
    ['bridge', 'bridge'],
    ['private', 'private'],
    ['vepa', 'vepa'],
    ['passthru', 'passthru'],
    ['', 'bridge'],
  ] as const) {
    using made = new LanHost()
    const call = { containerId: 'a', netns: made.pod() }
    const result = await macvlan.add(inputOf({ ...conf, mode }, call), made.host)
    assert.equal(dataOf(call.netns)['mode'], seen)
    await macvlan.check(inputOf({ ...conf, mode }, { ...call, prevResult: result }), made.host)
    assert.equal(
      await codeOf(
        macvlan.check(
          inputOf({ ...conf, mode: seen === 'vepa' ? 'private' : 'vepa' }, { ...call, prevResult: result }),
          made.host,
        ),
      ),
      100,
    )
    if (mode === 'passthru') {
      const second = { containerId: 'b', netns: made.pod() }
      assert.equal(await codeOf(macvlan.add(inputOf({ ...conf, mode }, second), made.host)), 7)
    }
  }
  using made = new LanHost()
  const call = { containerId: 'a', netns: made.pod() }
  const { master: _, ...bare } = conf
  assert.equal(await codeOf(macvlan.add(inputOf(bare, call), made.host)), 7)
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  made.exec('ip', 'route', 'add', 'default', 'via', '10.88.0.1')
  await macvlan.add(inputOf(bare, call), made.host)
  assert.ok(await ping(call.netns, '10.88.0.1'))
})

test('pods reach the machines of the network and each other', { skip }, async () => {
  using made = new LanHost()
  const [a, b] = [made.pod(), made.pod()]
  const ipam = { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/24' }], [{ subnet: 'fd00:88::/64' }]] }
  // Also where the host has links of the pod's names.
  made.exec('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
  await macvlan.add(inputOf({ ...conf, ipam: { ...ipam, ...lanIpam } }, { containerId: 'a', netns: a }), made.host)
  const both = {
    ...conf,
    name: 'net2',
    ipam: {
      ...ipam,
      ranges: [
        [{ subnet: '10.88.0.0/24', rangeStart: '10.88.0.50' }],
        [{ subnet: 'fd00:88::/64', rangeStart: 'fd00:88::50' }],
      ],
    },
  }
  const second = await macvlan.add(inputOf(both, { containerId: 'b', netns: b }), made.host)
  assert.ok(await ping(a, '10.88.0.1'))
  assert.ok(await ping(b, '10.88.0.1'))
  assert.ok(await ping(b, 'fd00:88::1'))
  assert.ok(await ping(a, (second.ips[0]?.address ?? '').split('/')[0] ?? ''))
  assert.doesNotMatch(execIn(b, 'ip', 'address'), /tentative|dadfailed/)
})

test('the MAC address: runtimeConfig before args.cni before CNI_ARGS before the configuration', { skip }, async () => {
  using made = new LanHost()
  const netns = made.pod()
  const mac = (last: number): string => `02:00:00:00:00:0${last}`
  const cases: [JsonObject, Record<string, string>, string | undefined][] = [
    [{ mac: mac(1) }, {}, mac(1)],
    [{ mac: mac(1) }, { MAC: mac(2) }, mac(2)],
    [{ mac: mac(1), args: { cni: { mac: mac(3) } } }, { MAC: mac(2) }, mac(3)],
    [{ mac: mac(1), args: { cni: { mac: mac(3) } }, runtimeConfig: { mac: mac(4) } }, { MAC: mac(2) }, mac(4)],
    [{ mac: '' }, {}, undefined],
  ]
  for (const [extra, args, wanted] of cases) {
    const call = { containerId: 'a', netns, args }
    const result = await macvlan.add(inputOf({ ...conf, ...extra }, call), made.host)
    if (wanted !== undefined) assert.equal(result.interfaces[0]?.mac, wanted)
    assert.equal(links(netns, 'eth0')[0]?.['address'], result.interfaces[0]?.mac)
    await macvlan.del(inputOf(conf, call), made.host)
  }
  for (const bad of ['01:00:00:00:00:01', 'nonsense'])
    assert.equal(await codeOf(macvlan.add(inputOf({ ...conf, mac: bad }, { netns }), made.host)), 7)
})

test('mtu, bcqueuelen, no addresses, DNS, a master in the container', { skip }, async () => {
  using made = new LanHost()
  const netns = made.pod()
  const call = { containerId: 'a', netns }
  const add = (extra: JsonObject) => macvlan.add(inputOf({ ...conf, ...extra }, call), made.host)
  const del = () => macvlan.del(inputOf(conf, call), made.host)
  assert.equal((await add({ mtu: 1400, bcqueuelen: 5000 })).interfaces[0]?.mtu, 1400)
  assert.equal(dataOf(netns)['bcqueuelen'], 5000)
  await del()
  assert.equal((await add({ mtu: 0 })).interfaces[0]?.mtu, 1500)
  await del()
  assert.equal(await codeOf(add({ mtu: 1501 })), 7)
  assert.equal(await codeOf(add({ mtu: -1 })), 7)
  assert.equal(await codeOf(add({ mode: 'source' })), 7)
  assert.equal(await codeOf(add({ master: 'nowhere' })), 7)
  assert.equal(await codeOf(macvlan.status(inputOf({ ...conf, master: 'nowhere' }), made.host)), 50)
  const bare = await add({ ipam: {} })
  assert.deepEqual([bare.ips, bare.routes], [[], []])
  // The oldest versions cannot tell of a link without addresses: refused before anything is made.
  const old = inputOf({ ...conf, ipam: {}, cniVersion: '0.2.0' }, { netns, ifname: 'net1' })
  assert.equal(await codeOf(macvlan.add(old, made.host)), 1)
  assert.equal(links(netns).length, 2)
  assert.match(execIn(netns, 'ip', 'link', 'show', 'eth0'), /[<,]UP[,>]/)
  await del()
  assert.deepEqual((await add({ dns: { nameservers: ['10.88.0.1'] } })).dns, { nameservers: ['10.88.0.1'] })
  await del()
  // A DEL needs no master.
  await add({})
  await macvlan.del(inputOf({ ...conf, master: 'nowhere', mtu: 9999 }, call), made.host)
  assert.equal(links(netns).length, 1)

  execIn(netns, 'ip', 'link', 'add', 'inner', 'type', 'veth', 'peer', 'name', 'innermost')
  execIn(netns, 'ip', 'link', 'set', 'inner', 'up')
  assert.equal(await codeOf(add({ linkInContainer: true })), 7)
  const result = await add({ master: 'inner', linkInContainer: true, ipam: {} })
  assert.equal(links(netns, 'eth0')[0]?.['link'], 'inner')
  await macvlan.check(
    inputOf({ ...conf, linkInContainer: true, master: 'inner', ipam: {} }, { ...call, prevResult: result }),
    made.host,
  )
  await del()
  assert.equal(links(netns).length, 3)
})

test('take-over from the reference plugin and back; equal results', { skip: skip || referenceMissing }, async () => {
  using made = new LanHost()
  const version = '1.0.0'
  const netns = made.pod()
  const ipam = { type: 'static', addresses: [{ address: '10.88.0.20/24', gateway: '10.88.0.1' }] }
  const shared = { ...conf, cniVersion: version, mac: '02:00:00:00:00:09', ipam, dns: { nameservers: ['10.88.0.1'] } }
  const call = { containerId: 'a', netns }
  const theirCall = { ...call, inNetns: made.path }
  const theirs = await reference('ADD', shared, theirCall)
  const prevResult = decodeResult(theirs, version, 'the reference result')
  await macvlan.check(inputOf(shared, { ...call, prevResult }), made.host)
  await macvlan.del(inputOf(shared, { ...call, prevResult }), made.host)
  assert.equal(links(netns).length, 1)

  const ours = await macvlan.add(inputOf(shared, call), made.host)
  // That version of the reference tells no mtu.
  const interfaces = ours.interfaces.map(({ mtu, ...link }) => (mtu === 1500 ? link : assert.fail()))
  assert.deepEqual(encodeResult({ ...ours, interfaces }, version), theirs)
  await reference('CHECK', { ...shared, prevResult: theirs }, theirCall)
  await reference('DEL', { ...shared, prevResult: theirs }, theirCall)
  assert.equal(links(netns).length, 1)
  await macvlan.del(inputOf(shared, call), made.host)
})
