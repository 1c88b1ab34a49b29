/** The verbs of veth-host, behind an interface that another plugin has made. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { vethHost } from '#plugins/veth-host/plugin.ts'
import { restoreRules } from '#plugins/rules/restore.ts'
import { recordAdd, recordDel } from '#cni/attachment/ledger.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { codeOf, execIn } from './network-host.ts'
import { left, LanHost } from './pod-link-suite.ts'

const options = { skip: needsRoot, timeout: 120_000 * slowness }

const conf: JsonObject = {
  name: 'neutron',
  type: 'veth-host',
  master: 'up0',
  serviceCIDRs: ['10.96.0.0/12', 'fd96::/112'],
  // One in another, which a set of the kernel refuses.
  hostStackCIDRs: ['192.0.2.0/24', '192.0.2.128/25'],
}

function node(): LanHost {
  const made = new LanHost()
  made.exec('ip', 'address', 'add', '10.88.0.2/24', 'dev', 'up0')
  made.exec('ip', 'address', 'add', 'fd00:88::2/64', 'dev', 'up0', 'nodad')
  // It stays on when the last pod goes, and shows in the routes.
  made.exec('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
  return made
}

/** A pod with an `eth0` that has nothing to do with its host. */
function podOf(made: LanHost): { readonly netns: string; readonly prevResult: Result } {
  const netns = made.pod()
  for (const line of [
    'link add eth0 type veth peer name elsewhere',
    'address add 10.88.0.30/24 dev eth0',
    'address add fd00:88::30/64 dev eth0 nodad',
    'link set eth0 mtu 1442 up',
    'link set elsewhere up',
  ])
    execIn(netns, 'ip', ...line.split(' '))
  return {
    netns,
    prevResult: decodeResult(
      {
        interfaces: [{ name: 'eth0', sandbox: netns }],
        ips: [
          { address: '10.88.0.30/24', gateway: '10.88.0.1', interface: 0 },
          { address: 'fd00:88::30/64', interface: 0 },
        ],
        routes: [{ dst: '0.0.0.0/0' }],
        dns: { nameservers: ['10.88.0.1'] },
      },
      '1.1.0',
      'a result',
    ),
  }
}

const links = (netns: string): string => execIn(netns, 'ip', '-o', 'link')
const elements = (made: LanHost): readonly string[] =>
  made
    .exec('nft', 'list', 'ruleset')
    .match(/10\.88\.0\.30[^,}]*/g)
    ?.map((text) => text.replace(/ comment.*/, '')) ?? []

/** Lines of a table that stays when its elements are gone. */
const isStructure = (line: string): boolean => /^. (table|\t|\}|set|chain|map)/.test(line)
const leftOver = (baseline: string, made: LanHost): readonly string[] =>
  left(baseline, made).filter((line) => !isStructure(line) || line.includes('88'))

test('ADD, CHECK, DEL, DEL again, DEL without anything; nothing stays', options, async () => {
  using made = node()
  const { netns, prevResult } = podOf(made)
  const baseline = made.dump()
  const inPod = links(netns)
  const call = { containerId: 'a', netns, prevResult }
  const result = await vethHost.add(inputOf(conf, call), made.host)
  const [first, outside, inside] = result.interfaces
  assert.deepEqual({ ...result, interfaces: [first] }, { ...prevResult, interfaces: [first] })
  assert.deepEqual([first?.name, inside?.name, inside?.sandbox, inside?.mtu], ['eth0', 'veth0', netns, 1442])
  assert.deepEqual(
    execIn(netns, 'ip', 'route', 'show', 'dev', 'veth0')
      .trim()
      .split('\n')
      .map((line) => line.trim()),
    [
      '10.88.0.2 via 169.254.1.1 src 10.88.0.30 onlink',
      '10.96.0.0/12 via 169.254.1.1 src 10.88.0.30 onlink',
      '169.254.1.1 scope link',
      '192.0.2.0/24 via 169.254.1.1 src 10.88.0.30 onlink',
      '192.0.2.128/25 via 169.254.1.1 src 10.88.0.30 onlink',
    ],
  )
  assert.match(execIn(netns, 'ip', '-6', 'route'), /fd96::\/112 via fe80::1 dev veth0 src fd00:88::30/)
  assert.match(execIn(netns, 'ip', 'neigh'), new RegExp(`169\\.254\\.1\\.1 dev veth0 lladdr ${outside?.mac} PERMANENT`))
  assert.match(made.exec('ip', 'neigh'), new RegExp(`fd00:88::30 dev ${outside?.name} lladdr ${inside?.mac} PERMANENT`))
  assert.match(made.exec('ip', 'route'), new RegExp(`10.88.0.30 dev ${outside?.name} scope link src 10.88.0.2`))
  assert.deepEqual(elements(made), ['10.88.0.30', '10.88.0.30 . 192.0.2.0/24'])
  await vethHost.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  await vethHost.status(inputOf(conf), made.host)
  assert.equal(await codeOf(vethHost.add(inputOf(conf, call), made.host)), 4)
  await vethHost.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  for (const gone of [
    { ...call, prevResult: result },
    { containerId: 'a', netns },
    { containerId: 'a' },
    { containerId: 'never' },
  ])
    await vethHost.del(inputOf(conf, gone), made.host)
  assert.equal(links(netns), inPod)
  assert.deepEqual(elements(made), [])
  assert.deepEqual(leftOver(baseline, made), [])
})

test('what is refused, and what is left out', options, async () => {
  using made = node()
  const { netns, prevResult } = podOf(made)
  const call = { containerId: 'a', netns, prevResult }
  const baseline = made.dump()
  for (const bad of [
    { ifName: 'eth0' },
    { ifName: 'a/b' },
    { linkLocal: 'fe80::1' },
    { linkLocal6: '10.0.0.1' },
    { serviceCIDRs: ['10.96.0.0'] },
    { serviceCIDRs: 'all' },
    { hostStackCIDRs: Array.from({ length: 65 }, (_, i) => `10.${i}.0.0/16`) },
    { master: 'nowhere' },
    { mtu: 70_000 },
    { stateDir: 'relative' },
  ] satisfies JsonObject[])
    assert.equal(await codeOf(vethHost.add(inputOf({ ...conf, ...bad }, call), made.host)), 7, JSON.stringify(bad))
  assert.equal(await codeOf(vethHost.add(inputOf(conf, { containerId: 'a', netns }), made.host)), 7, 'not chained')
  const bare = { ...prevResult, ips: [] }
  assert.equal(await codeOf(vethHost.add(inputOf(conf, { ...call, prevResult: bare }), made.host)), 7, 'no address')
  assert.equal(await codeOf(vethHost.add(inputOf(conf, { ...call, ifname: 'net1' }), made.host)), 7, 'not its address')
  assert.equal(await codeOf(vethHost.status(inputOf({ ...conf, master: 'nowhere' }), made.host)), 50)
  assert.deepEqual(left(baseline, made), [])
  const less = { ...conf, serviceCIDRs: [], hostStackCIDRs: [], nodeRoute: false, masqueradeServices: false }
  const result = await vethHost.add(inputOf({ ...less, ifName: 'node0', mtu: 1300 }, call), made.host)
  assert.equal(execIn(netns, 'ip', 'route', 'show', 'dev', 'node0').trim(), '169.254.1.1 scope link')
  assert.equal(result.interfaces[2]?.mtu, 1300)
  assert.deepEqual(elements(made), [])
  await vethHost.check(inputOf({ ...less, ifName: 'node0' }, { ...call, prevResult: result }), made.host)
  await vethHost.del(inputOf(less, call), made.host)
  assert.deepEqual(leftOver(baseline, made), [])
})

test('CHECK finds what is wrong', options, async () => {
  using made = node()
  const { netns, prevResult } = podOf(made)
  const call = { containerId: 'a', netns, prevResult }
  const add = async (): Promise<Result> => vethHost.add(inputOf(conf, call), made.host)
  const result = await add()
  const name = result.interfaces[1]?.name ?? ''
  const [hostMac, podMac] = [result.interfaces[1]?.mac ?? '', result.interfaces[2]?.mac ?? '']
  const check = () => vethHost.check(inputOf(conf, { ...call, prevResult: result }), made.host)
  await check()
  const ip = (line: string): string[] => ['ip', ...line.split(' ')]
  const faults: readonly (readonly [RegExp, string, string, string?])[] = [
    [/route to 10\.96\.0\.0\/12/, 'route del 10.96.0.0/12', 'route add 10.96.0.0/12 via 169.254.1.1 dev veth0', netns],
    [/route to 10\.88\.0\.2\/32/, 'route del 10.88.0.2', 'route add 10.88.0.2 via 169.254.1.1 dev veth0', netns],
    [
      /neighbour 169\.254\.1\.1/,
      'neigh del 169.254.1.1 dev veth0',
      `neigh replace 169.254.1.1 dev veth0 lladdr ${hostMac}`,
      netns,
    ],
    [/host's route to 10\.88\.0\.30/, 'route del 10.88.0.30', `route add 10.88.0.30 dev ${name}`],
    [
      /host's neighbour 10\.88\.0\.30/,
      `neigh del 10.88.0.30 dev ${name}`,
      `neigh replace 10.88.0.30 dev ${name} lladdr ${podMac}`,
    ],
    [/is down/, `link set ${name} down`, `link set ${name} up`],
  ]
  for (const [message, breaks, mends, where] of faults) {
    execIn(where ?? made.path, ...ip(breaks))
    await assert.rejects(check(), { code: 100, message })
    if (breaks.startsWith('link')) break
    execIn(where ?? made.path, ...ip(mends))
    await check()
  }
  await vethHost.del(inputOf(conf, call), made.host)
  await assert.rejects(check(), { code: 100, message: /no interface veth0/ })
  await add()
  made.exec('nft', 'flush', 'map', 'inet', 'heddle_cni_services', 'pods6')
  await assert.rejects(check(), { code: 100, message: /pods6/ })
  await vethHost.del(inputOf(conf, call), made.host)
  await add()
  made.exec('nft', 'flush', 'chain', 'inet', 'heddle_cni_services', 'postrouting')
  await assert.rejects(check(), { code: 100, message: /not as it was made/ })
  await vethHost.del(inputOf(conf, call), made.host)
  // An interface of that name that is another's.
  execIn(netns, 'ip', 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'other')
  await assert.rejects(check(), { code: 100, message: /host's end/ })
  await vethHost.del(inputOf(conf, call), made.host)
  assert.match(links(netns), /veth0@other/)
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC clean up after a kill',
  { ...options, timeout: 240_000 * slowness },
  async () => {
    using made = node()
    const { netns, prevResult } = podOf(made)
    const call = { containerId: 'a', netns, prevResult }
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    await vethHost.add(inputOf(conf, call), made.host)
    const ofAdd = points.splice(0)
    await vethHost.del(inputOf(conf, call), made.host)
    const ofDel = points.splice(0)
    made.atFailpoint = () => {}
    assert.ok(ofAdd.length >= 5 && ofDel.length > 0, `${ofAdd.join()} | ${ofDel.join()}`)
    const baseline = made.dump()
    const inPod = links(netns)
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(vethHost.add(inputOf(conf, call), made.host), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.equal(links(netns), inPod, point)
      assert.deepEqual(left(baseline, made), [], point)
    }
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    const kills = [...ofAdd.map((point) => ['ADD', point] as const), ...ofDel.map((point) => ['DEL', point] as const)]
    for (const [i, [verb, point]] of kills.entries()) {
      const how = ways[i % ways.length] ?? 'GC'
      if (verb === 'DEL') await vethHost.add(inputOf(conf, call), made.host)
      await killedAt(made, { verb, conf, call, point })
      if (how === 'GC') await vethHost.gc(gcInputOf(conf, []), made.host)
      else await vethHost.del(inputOf(conf, how === 'DEL' ? call : { containerId: 'a' }), made.host)
      const what = `${verb} killed at ${point}, then ${how}`
      assert.equal(links(netns), inPod, what)
      assert.deepEqual(left(baseline, made), [], what)
    }
  },
)

test('GC keeps the valid ones; a pod whose namespace went first leaves nothing', options, async () => {
  using made = node()
  const [a, b] = [podOf(made), podOf(made)]
  const keeper = { containerId: 'kept', ...a }
  const prevResult = await vethHost.add(inputOf(conf, keeper), made.host)
  const other: Result = {
    ...b.prevResult,
    ips: b.prevResult.ips.slice(1).map((one) => ({ ...one, address: 'fd00:88::31/64' as typeof one.address })),
  }
  execIn(b.netns, 'ip', 'address', 'add', 'fd00:88::31/64', 'dev', 'eth0', 'nodad')
  await vethHost.add(inputOf(conf, { containerId: 'lost', netns: b.netns, prevResult: other }), made.host)
  deleteNetns(b.netns)
  assert.match(made.exec('nft', 'list', 'ruleset'), /fd00:88::31/)
  await vethHost.gc(gcInputOf(conf, [{ containerId: 'kept', ifname: 'eth0' }]), made.host)
  assert.doesNotMatch(made.exec('nft', 'list', 'ruleset'), /fd00:88::31/)
  await vethHost.check(inputOf(conf, { ...keeper, prevResult }), made.host)
  await vethHost.gc(gcInputOf(conf, []), made.host)
  assert.deepEqual(elements(made), [])
  assert.doesNotMatch(made.exec('ip', '-o', 'link'), /alias heddle/)
  createNetns(b.netns)
})

test('flushed rules come back from the record of the attachment, and stay away after DEL', options, async () => {
  using made = node()
  const { netns, prevResult } = podOf(made)
  const records = `${made.root}/run/heddle/attachments`
  const host = (): PluginHost => ({ ...made.host, records, rules: [] })
  const input = inputOf(conf, { containerId: 'a', netns, prevResult })
  const adding = host()
  const result = await recordAdd(vethHost, input, adding, () => vethHost.add(input, adding))
  made.exec('nft', 'flush', 'ruleset')
  const restored = await restoreRules(made.host, records)
  assert.deepEqual(restored, [{ table: 'inet heddle_cni_services', elements: 3, isRewritten: true }])
  await vethHost.check(inputOf(conf, { containerId: 'a', netns, prevResult: result }), made.host)
  const leaving = host()
  await recordDel(vethHost, input, leaving, () => vethHost.del(input, leaving))
  assert.deepEqual(await restoreRules(made.host, records), [])
  assert.deepEqual(elements(made), [])
})

test('the result in every version that knows one', options, async () => {
  using made = node()
  const { netns, prevResult } = podOf(made)
  for (const cniVersion of specVersions) {
    const raw: JsonObject = { ...conf, cniVersion }
    const result = await vethHost.add(inputOf(raw, { netns, prevResult }), made.host)
    const told = JSON.stringify(encodeResult(result, cniVersion))
    assert.match(told, /10\.88\.0\.30\/24/)
    if (cniVersion >= '0.3.0') assert.match(told, /veth0/)
    await vethHost.del(inputOf(raw, { netns, prevResult: result }), made.host)
  }
})
