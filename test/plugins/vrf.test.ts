import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recordAdd, recordDel, recordGc } from '#cni/attachment/ledger.ts'
import { recordFolder } from '#cni/attachment/record.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { vrf } from '#plugins/vrf/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { codeOf, execIn, NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { links } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const skip = needsKernel('vrf')

const network = (number: number): JsonObject => ({
  name: `net${number}`,
  type: 'bridge',
  bridge: `br${number}`,
  isDefaultGateway: true,
  ipam: {
    type: 'host-local',
    ranges: [[{ subnet: `10.7${number}.0.0/24` }], [{ subnet: `fd00:7${number}::/64` }]],
    routes: [{ dst: '203.0.113.0/24' }],
  },
})
const conf: JsonObject = { name: 'net1', type: 'vrf', vrfname: 'red' }

interface Made {
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  readonly prevResult: Result
}

class VrfHost extends NetworkHost {
  readonly recording: PluginHost = {
    ...this.host,
    records: recordFolder(this.root),
    failpoint: (name) => this.atFailpoint(name),
  }
}

async function attach(
  made: VrfHost,
  containerId: string,
  netns: string,
  ifname: string,
  number: number,
): Promise<Made> {
  const call = { containerId, netns, ifname }
  return { ...call, prevResult: await bridge.add(inputOf(network(number), call), made.host) }
}
const pod = (made: VrfHost, containerId: string): Promise<Made> => attach(made, containerId, made.pod(), 'eth0', 1)

const add = (made: VrfHost, call: Made, raw = conf) => {
  const input = inputOf(raw, call)
  return recordAdd(vrf, input, made.recording, () => vrf.add(input, made.recording))
}
const del = (made: VrfHost, call: Partial<Made>, raw = conf) => {
  const input = inputOf(raw, call)
  return recordDel(vrf, input, made.recording, () => vrf.del(input, made.recording))
}
const gc = (made: VrfHost, valid: readonly { containerId: string; ifname: string }[], raw = conf) => {
  const input = gcInputOf(raw, valid)
  return recordGc(vrf, input, made.recording, () => vrf.gc(input, made.recording))
}
const check = (made: VrfHost, call: Made, raw = conf) => codeOf(vrf.check(inputOf(raw, call), made.host))

const names = (netns: string): readonly unknown[] => links(netns).map((link) => link['ifname'])
const tableOf = (netns: string, name: string): unknown =>
  (links(netns, name)[0]?.['linkinfo'] as { info_data?: { table?: number } } | undefined)?.info_data?.table
const masterOf = (netns: string, name: string): unknown => links(netns, name)[0]?.['master']
const addresses = (netns: string): string =>
  execIn(netns, 'ip', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'global').replaceAll(/^\d+: |\\.*$/gm, '')
const routes = (netns: string, table: string): readonly string[] =>
  ['-4', '-6']
    .flatMap((family) => execIn(netns, 'ip', family, 'route', 'show', 'table', table).split('\n'))
    .map((line) => line.replaceAll(/ (linkdown|pref medium|proto \S+|metric \d+)/g, '').trim())
    .filter((line) => line !== '' && !/^(local|broadcast|multicast|anycast|ff00|fe80)/.test(line))
    .sort()

async function reaches(...args: Parameters<typeof ping>): Promise<boolean> {
  for (let i = 0; i < 5 * slowness; i++) if (await ping(...args)) return true
  return false
}

test('ADD, CHECK, DEL, DEL again: addresses and routes of both families are in the VRF', { skip }, async () => {
  using made = new VrfHost()
  const call = await pod(made, 'a')
  const [links0, addresses0, routes0] = [names(call.netns), addresses(call.netns), routes(call.netns, 'main')]
  const result = await add(made, call)
  assert.equal(result, call.prevResult)
  assert.equal(masterOf(call.netns, 'eth0'), 'red')
  assert.equal(tableOf(call.netns, 'red'), 1)
  assert.equal(addresses(call.netns), addresses0)
  assert.deepEqual(routes(call.netns, '1'), routes0)
  assert.deepEqual(routes(call.netns, 'main'), [])
  assert.ok(await reaches(call.netns, '-I', 'red', '10.71.0.1'))
  assert.ok(await reaches(call.netns, '-I', 'red', 'fd00:71::1'))
  assert.equal(await ping(call.netns, '10.71.0.1'), false, 'nothing leads there outside of the VRF')
  assert.equal(await check(made, call), undefined)
  await bridge.check(inputOf(network(1), call), made.host)
  assert.equal(await codeOf(add(made, call)), 11)
  assert.equal(await check(made, call), undefined)
  for (const gone of [call, { containerId: 'a', netns: call.netns }, { containerId: 'a' }, { containerId: 'never' }]) {
    await del(made, gone)
    assert.deepEqual(names(call.netns), links0)
    assert.equal(masterOf(call.netns, 'eth0'), undefined)
  }
  assert.equal(await check(made, call), 100)
  // The interface may be gone before.
  const again = await pod(made, 'b')
  await add(made, again)
  execIn(again.netns, 'ip', 'link', 'del', 'eth0')
  await del(made, again)
  assert.deepEqual(names(again.netns), ['lo'])
})

test('tables, several VRFs, several members: the VRF goes with the last', { skip }, async () => {
  using made = new VrfHost()
  const first = await pod(made, 'a')
  const second = await attach(made, 'a', first.netns, 'net2', 2)
  const third = await attach(made, 'a', first.netns, 'net3', 3)
  const blue = { ...conf, vrfname: 'blue' }
  execIn(first.netns, 'ip', 'rule', 'add', 'from', '192.0.2.1', 'lookup', '2')
  await Promise.all([add(made, first), add(made, second), add(made, third, blue)])
  assert.deepEqual(new Set([tableOf(first.netns, 'red'), tableOf(first.netns, 'blue')]), new Set([1, 3]))
  for (const [call, raw] of [
    [first, conf],
    [second, conf],
    [third, blue],
  ] as const)
    assert.equal(await check(made, call, raw), undefined)
  assert.equal(await check(made, first, blue), 100)
  assert.equal(await codeOf(vrf.add(inputOf({ ...conf, vrfname: 'blue' }, first), made.host)), 7, 'it has a master')
  await del(made, first)
  assert.ok(names(first.netns).includes('red'))
  assert.equal(masterOf(first.netns, 'eth0'), undefined)
  assert.equal(await check(made, second), undefined)
  await del(made, second)
  assert.ok(!names(first.netns).includes('red'))
  await del(made, third, blue)
  const fixed = { ...conf, table: 4242 }
  const other = await pod(made, 'b')
  await add(made, other, fixed)
  assert.equal(tableOf(other.netns, 'red'), 4242)
  assert.equal(await check(made, other, fixed), undefined)
  assert.equal(await check(made, other, { ...conf, table: 4243 }), 100)
  const late = await attach(made, 'b', other.netns, 'net2', 2)
  assert.equal(await codeOf(add(made, late, { ...conf, table: 7 })), 7)
  await add(made, late)
  // The pod's own VRF is not ours to remove.
  const own = await pod(made, 'c')
  execIn(own.netns, 'ip', 'link', 'add', 'green', 'type', 'vrf', 'table', '9')
  execIn(own.netns, 'ip', 'link', 'set', 'green', 'up', 'alias', 'the pod’s own')
  const green = { ...conf, vrfname: 'green' }
  await add(made, own, green)
  await del(made, own, green)
  assert.ok(names(own.netns).includes('green'))
})

test('CHECK finds what is wrong; what is refused', { skip }, async () => {
  using made = new VrfHost()
  for (const [i, harm] of [
    'link set eth0 nomaster',
    'link set red down',
    'address del fd00:71::2/64 dev eth0',
    'link del red',
  ].entries()) {
    const call = await pod(made, `a${i}`)
    await add(made, call)
    assert.equal(await check(made, call), undefined)
    const address = call.prevResult.ips[1]?.address ?? ''
    execIn(call.netns, 'ip', ...harm.replace('fd00:71::2/64', address).split(' '))
    assert.equal(await check(made, call), 100, harm)
    await del(made, call)
  }
  const call = await pod(made, 'b')
  const bad: readonly (readonly [JsonObject, RegExp])[] = [
    [{ vrfname: '' }, /"vrfname" is missing/],
    [{ vrfname: 'a/b' }, /a\/b/],
    [{ vrfname: 'a name that is too long' }, /too long/],
    [{ vrfname: 'lo' }, /lo is a/],
    [{ table: 254 }, /"table" is 254/],
    [{ table: 'main' }, /table.*main/],
  ]
  for (const [raw, message] of bad)
    await assert.rejects(add(made, call, { ...conf, ...raw }), { code: 7, message }, JSON.stringify(raw))
  await assert.rejects(add(made, { ...call, ifname: 'net9' }), { code: 7, message: /net9/ })
  const { prevResult: _, ...first } = call
  await assert.rejects(vrf.add(inputOf(conf, first), made.host), { code: 7, message: /chained/ })
  assert.equal(await codeOf(vrf.status(inputOf({ ...conf, vrfname: '' }), made.host)), 7)
  await vrf.status(inputOf(conf), made.host)
  assert.deepEqual(names(call.netns), ['lo', 'eth0'])
  assert.deepEqual(vrf.versions, ['0.3.1', '0.4.0', '1.0.0', '1.1.0'])
  for (const cniVersion of vrf.versions) {
    const result = await add(made, call, { ...conf, cniVersion })
    assert.equal(encodeResult(result, cniVersion)['cniVersion'], cniVersion)
    await del(made, call, { ...conf, cniVersion })
  }
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC clean up after a kill',
  { skip, timeout: 600_000 },
  async () => {
    using made = new VrfHost()
    const call = await pod(made, 'a')
    const before = [names(call.netns), addresses(call.netns), routes(call.netns, 'main')]
    const points = ['vrf.make', 'vrf.made', 'vrf.joined']
    for (const point of points) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(add(made, call), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.deepEqual([names(call.netns), addresses(call.netns), routes(call.netns, 'main')], before, point)
    }
    const kills = [
      ['ADD', 'vrf.joined', 'DEL'],
      ['ADD', 'vrf.made', 'GC'],
      ['DEL', 'vrf.removed', 'DEL'],
    ] as const
    for (const [verb, point, how] of slowness > 1 ? kills.slice(0, 1) : kills) {
      const input = inputOf(conf, call)
      await recordAdd(vrf, input, made.recording, async () => {
        if (verb === 'DEL') await vrf.add(input, made.host)
        await killedAt(made, { verb, conf, call, point })
        return call.prevResult
      })
      if (how === 'GC') await gc(made, [])
      else await del(made, { containerId: 'a' })
      assert.deepEqual(names(call.netns), ['lo', 'eth0'], `${verb} killed at ${point}, then ${how}`)
    }
  },
)

test('GC spares others', { skip }, async () => {
  using made = new VrfHost()
  const [a, b] = [await pod(made, 'a'), await pod(made, 'b')]
  for (const call of [a, b]) await add(made, call)
  await gc(made, [], { ...conf, name: 'other' })
  await gc(made, [{ containerId: 'b', ifname: 'eth0' }])
  assert.deepEqual(names(a.netns), ['lo', 'eth0'])
  assert.equal(await check(made, b), undefined)
})

test('take-over from the reference plugin and back', { skip: skip || referenceMissing }, async () => {
  using made = new VrfHost()
  const version = '1.0.0'
  const [a, b] = [await pod(made, 'a'), await pod(made, 'b')]
  const shared = { ...conf, cniVersion: version }
  const call = ({ containerId, netns }: Made) => ({ containerId, netns, inNetns: made.path })
  const withResult = ({ prevResult }: Made): JsonObject => ({
    ...shared,
    prevResult: encodeResult(prevResult, version),
  })
  await reference('ADD', withResult(a), call(a))
  assert.equal(await check(made, a, shared), undefined)
  await del(made, a, shared)
  assert.deepEqual(names(a.netns), ['lo', 'eth0'])
  await add(made, b, shared)
  await reference('CHECK', withResult(b), call(b))
  await reference('DEL', withResult(b), call(b))
  assert.deepEqual(names(b.netns), ['lo', 'eth0'])
  await del(made, b, shared)
})
