import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { recordAdd, recordDel, recordGc } from '#cni/attachment/ledger.ts'
import { recordFolder } from '#cni/attachment/record.ts'
import type { JsonObject } from '#cni/json.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { sbr } from '#plugins/sbr/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { codeOf, execIn, NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { reference, referenceMissing } from './reference.ts'

const skip = needsRoot
const FAR = '198.51.100.1'
const FAR6 = '2001:db8:ffff::1'

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
const conf: JsonObject = { name: 'net1', type: 'sbr' }

interface Made {
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  readonly prevResult: Result
}

/** A host that believes a source only where it would answer (strict reverse path filtering), with addresses that are behind none of its bridges. */
class StrictHost extends NetworkHost {
  readonly recording: PluginHost

  constructor() {
    super()
    this.exec('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.default.rp_filter=1')
    this.exec('ip', 'address', 'add', `${FAR}/32`, 'dev', 'lo')
    this.exec('ip', 'address', 'add', `${FAR6}/128`, 'dev', 'lo')
    this.recording = {
      ...this.host,
      records: recordFolder(join(this.root)),
      failpoint: (name) => this.atFailpoint(name),
    }
  }
}

/** A pod on both networks; the call is about the second. */
async function pod(made: StrictHost, containerId: string): Promise<Made> {
  const netns = made.pod()
  await bridge.add(inputOf(network(0), { containerId, netns }), made.host)
  const call = { containerId, netns, ifname: 'net1' }
  return { ...call, prevResult: await bridge.add(inputOf(network(1), call), made.host) }
}

const add = (made: StrictHost, call: Made, raw = conf) => {
  const input = inputOf(raw, call)
  return recordAdd(sbr, input, made.recording, () => sbr.add(input, made.recording))
}
const del = (made: StrictHost, call: Partial<Made>, raw = conf) => {
  const input = inputOf(raw, { ifname: 'net1', ...call })
  return recordDel(sbr, input, made.recording, () => sbr.del(input, made.recording))
}
const gc = (made: StrictHost, valid: readonly { containerId: string; ifname: string }[], raw = conf) => {
  const input = gcInputOf(raw, valid)
  return recordGc(sbr, input, made.recording, () => sbr.gc(input, made.recording))
}
const check = (made: StrictHost, call: Made, raw = conf) => codeOf(sbr.check(inputOf(raw, call), made.host))

const rules = (netns: string): string =>
  [execIn(netns, 'ip', 'rule'), execIn(netns, 'ip', '-6', 'rule')].join('').replaceAll(/^\d+:\s+/gm, '')
/** A table that nothing was ever in does not exist. */
function table(netns: string, family: '-4' | '-6', name: string): string {
  try {
    return execIn(netns, 'ip', family, 'route', 'show', 'table', name)
  } catch {
    return ''
  }
}
const routes = (netns: string, name: string): string =>
  [table(netns, '-4', name), table(netns, '-6', name)].join('').replaceAll(/ (linkdown|pref medium|proto \S+)/g, '')
/** In one of five tries of a second each: the machine may be busy. */
async function reaches(...args: Parameters<typeof ping>): Promise<boolean> {
  for (let i = 0; i < 5; i++) if (await ping(...args)) return true
  return false
}
/** Everything that sbr could change. */
const state = (netns: string): string =>
  rules(netns) +
  routes(netns, 'all')
    .split('\n')
    .filter((line) => !/local|ff00|anycast/.test(line))
    .sort()
    .join('\n')

const [own, own6] = ['10.71.0.2', 'fd00:71::2']

test(
  'what comes from the second interface’s address leaves there; CHECK, DEL, DEL again, DEL without anything',
  { skip },
  async () => {
    using made = new StrictHost()
    const call = await pod(made, 'a')
    const before = rules(call.netns)
    // Without it, the answer's way is the first interface's: the host drops what comes there with the other's address.
    assert.equal(await ping(call.netns, '-I', own, FAR), false)
    const result = await add(made, call)
    assert.equal(result, call.prevResult)
    assert.ok(await reaches(call.netns, '-I', own, FAR))
    assert.ok(await reaches(call.netns, '-I', own6, FAR6))
    assert.ok(await reaches(call.netns, FAR), 'the first interface is the default as before')
    assert.match(execIn(call.netns, 'ip', 'route', 'get', FAR, 'from', own), /dev net1 table 100/)
    assert.match(execIn(call.netns, 'ip', '-6', 'route', 'get', FAR6, 'from', own6), /dev net1 table 100/)
    assert.doesNotMatch(routes(call.netns, 'main'), /net1(?! metric 256)/)
    assert.match(
      routes(call.netns, '100'),
      /default via 10\.71\.0\.1.*\n(.*\n)*10\.71\.0\.0\/24.*src 10\.71\.0\.2.*\n203\.0\.113\.0\/24/,
    )
    assert.equal(await check(made, call), undefined)
    // What the plugin before it checks is where sbr put it.
    await bridge.check(inputOf(network(1), call), made.host)
    for (const gone of [
      call,
      { containerId: 'a', netns: call.netns },
      { containerId: 'a' },
      { containerId: 'never' },
    ]) {
      await del(made, gone)
      assert.equal(rules(call.netns), before)
      assert.equal(routes(call.netns, '100').trim(), '')
    }
    assert.equal(await check(made, call), 100)
  },
)

test('tables: the next that is free, a fixed one; gateways and source hints', { skip }, async () => {
  using made = new StrictHost()
  const call = await pod(made, 'a')
  execIn(call.netns, 'ip', 'rule', 'add', 'from', '192.0.2.1', 'lookup', '100')
  execIn(call.netns, 'ip', '-6', 'route', 'add', 'fd00:99::/64', 'dev', 'net1', 'table', '101')
  const others = rules(call.netns)
  await add(made, call)
  assert.match(rules(call.netns), /from 10\.71\.0\.2 lookup 102/)
  await del(made, call)
  assert.equal(rules(call.netns), others)
  assert.match(routes(call.netns, '101'), /fd00:99/)
  const raw = { ...conf, table: 4242, gateways: ['10.71.0.77', 'fd00:71::77'], addSourceHints: true }
  const again = await pod(made, 'b')
  await add(made, again, raw)
  assert.equal(await check(made, again, raw), undefined)
  const fixed = routes(again.netns, '4242')
  assert.match(fixed, /^default via 10\.71\.0\.77 dev net1 src 10\.71\.0\.3/m)
  assert.match(fixed, /^default via fd00:71::77 dev net1 src fd00:71::3/m)
  assert.match(fixed, /^203\.0\.113\.0\/24 via 10\.71\.0\.1 dev net1 src 10\.71\.0\.3/m)
  assert.equal(await check(made, again, { ...raw, table: 4243 }), 100)
  assert.equal(await check(made, again, { ...raw, gateways: ['10.71.0.78'] }), 100)
})

test('two at once in one pod choose different tables', { skip }, async () => {
  using made = new StrictHost()
  const second = await pod(made, 'a')
  const third = { ...second, ifname: 'net2' }
  const { prevResult: _, ...fresh } = third
  const calls = [second, { ...third, prevResult: await bridge.add(inputOf(network(2), fresh), made.host) }]
  await Promise.all(calls.map((call) => add(made, call)))
  const tables = rules(second.netns).match(/lookup 1\d\d/g) ?? []
  assert.equal(tables.length, 4)
  assert.deepEqual(new Set(tables), new Set(['lookup 100', 'lookup 101']))
  for (const call of calls) await sbr.check(inputOf(conf, call), made.host)
  await del(made, calls[0] ?? second)
  assert.equal(await check(made, calls[1] ?? second), undefined)
})

test('alone in the pod: who holds the namespace’s lock, as the reference does, is waited for', { skip }, async () => {
  using made = new StrictHost()
  const call = await pod(made, 'a')
  const holder = spawn('flock', [call.netns, 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    holder.stdin.write('held')
    await once(holder.stdout, 'data')
    let isDone = false
    const adding = add(made, call).finally(() => (isDone = true))
    await sleep(300)
    assert.ok(!isDone && !rules(call.netns).includes('lookup 100'))
    holder.stdin.end()
    await adding
    assert.equal(await check(made, call), undefined)
  } finally {
    holder.kill('SIGKILL')
  }
})

test('CHECK finds what is wrong', { skip }, async () => {
  using made = new StrictHost()
  const harms = [
    'rule del from ADDRESS',
    '-6 rule flush table 100',
    'route del default table 100',
    '-6 route flush table 100',
    'link del net1',
  ]
  for (const [i, harm] of harms.entries()) {
    const call = await pod(made, `a${i}`)
    const [first] = call.prevResult.ips
    await add(made, call)
    assert.equal(await check(made, call), undefined)
    execIn(call.netns, 'ip', ...harm.replace('ADDRESS', first?.address.replace('/24', '') ?? '').split(' '))
    assert.equal(await check(made, call), 100, harm)
  }
})

test('what is refused', { skip }, async () => {
  using made = new StrictHost()
  const call = await pod(made, 'a')
  const before = state(call.netns)
  const bad: readonly (readonly [JsonObject, RegExp])[] = [
    [{ table: 254 }, /"table" is 254/],
    [{ table: -1 }, /table.*-1/],
    [{ gateways: ['10.71.0.1', '10.71.0.2'] }, /one family/],
    [{ gateways: ['10.71.0.1', 'fd00::1', 'fd00::2'] }, /gateways/],
    [{ gateways: ['here'] }, /here/],
    [{ addSourceHints: 'yes' }, /addSourceHints.*yes/],
  ]
  for (const [raw, message] of bad) {
    await assert.rejects(add(made, call, { ...conf, ...raw }), { code: 7, message }, JSON.stringify(raw))
    assert.equal(await codeOf(sbr.status(inputOf({ ...conf, ...raw }), made.host)), 7)
  }
  const { prevResult, ...first } = call
  await assert.rejects(sbr.add(inputOf(conf, first), made.host), { code: 7, message: /chained/ })
  await assert.rejects(add(made, { ...call, prevResult: { ...prevResult, ips: [] } }), {
    code: 7,
    message: /no address/,
  })
  const other = { ...call, ifname: 'net9' }
  await assert.rejects(add(made, other), { code: 7, message: /net9/ })
  // A gateway that nothing leads to: the kernel refuses it, and all is as before.
  await assert.rejects(add(made, call, { ...conf, gateways: ['192.0.2.254'] }), {
    code: 7,
    message: /192\.0\.2\.254/,
  })
  assert.equal(state(call.netns), before)
  await sbr.status(inputOf(conf), made.host)
})

test('a result in every version', { skip }, async () => {
  using made = new StrictHost()
  assert.deepEqual(sbr.versions, specVersions)
  for (const cniVersion of specVersions) {
    const call = await pod(made, `a${cniVersion}`)
    const result = await add(made, call, { ...conf, cniVersion })
    assert.equal(encodeResult(result, cniVersion)['cniVersion'], cniVersion)
    await del(made, call, { ...conf, cniVersion })
  }
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC clean up after a kill',
  { skip, timeout: 300_000 },
  async () => {
    using made = new StrictHost()
    const call = await pod(made, 'a')
    const before = state(call.netns)
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    await add(made, call)
    const ofAdd = points.splice(0)
    await del(made, call)
    const ofDel = points.splice(0)
    assert.deepEqual([ofAdd.length, ofDel.length], [4, 2])
    const afterDel = state(call.netns)
    const again = await pod(made, 'b')
    const fresh = state(again.netns)
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(add(made, again), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.equal(state(again.netns), fresh, point)
    }
    assert.notEqual(before, afterDel, 'the interface’s routes are gone, as it is about to be')
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    const killAt = slowness > 1 ? ofAdd.slice(-1) : [...ofAdd, ...ofDel]
    for (const [i, point] of killAt.entries()) {
      const verb = i < ofAdd.length ? 'ADD' : 'DEL'
      const victim = await pod(made, `c${i}`)
      const clean = rules(victim.netns)
      const { containerId, netns, ifname } = victim
      const input = inputOf(conf, victim)
      // The record is what a killed ADD has written before all else.
      await assert.rejects(recordAdd(sbr, input, made.recording, () => Promise.reject(new Error('x'))))
      await recordAdd(sbr, input, made.recording, async () => {
        if (verb === 'DEL') await sbr.add(input, made.host)
        await killedAt(made, { verb, conf, call: victim, point })
        return victim.prevResult
      })
      const how = ways[i % ways.length] ?? 'GC'
      if (how === 'GC') await gc(made, [])
      else await del(made, how === 'DEL' ? { containerId, netns } : { containerId })
      assert.equal(rules(netns), clean, `${verb} killed at ${point}, then ${how}`)
      assert.doesNotMatch(routes(netns, '100'), new RegExp(ifname), `${verb} killed at ${point}, then ${how}`)
    }
  },
)

test('GC spares others; DEL finds its rules when the interface is gone, and nobody else’s', { skip }, async () => {
  using made = new StrictHost()
  const [a, b] = [await pod(made, 'a'), await pod(made, 'b')]
  const clean = rules(a.netns)
  for (const call of [a, b]) await add(made, call)
  await gc(made, [], { ...conf, name: 'other' })
  await gc(made, [{ containerId: 'b', ifname: 'net1' }])
  assert.equal(rules(a.netns), clean)
  assert.equal(await check(made, b), undefined)
  execIn(b.netns, 'ip', 'rule', 'add', 'from', '192.0.2.1', 'lookup', '77')
  execIn(b.netns, 'ip', 'link', 'del', 'net1')
  const { prevResult: _, ...bare } = b
  await del(made, bare)
  assert.equal(rules(b.netns).replace(/from 192\.0\.2\.1 lookup 77.*\n/, ''), clean)
  // Another namespace in its place.
  const c = await pod(made, 'c')
  await add(made, c)
  deleteNetns(c.netns)
  createNetns(c.netns)
  execIn(c.netns, 'ip', 'rule', 'add', 'from', own, 'lookup', '100', 'proto', '200')
  await gc(made, [])
  assert.match(rules(c.netns), /lookup 100/)
})

test('take-over from the reference plugin and back', { skip: skip || referenceMissing }, async () => {
  using made = new StrictHost()
  const version = '1.0.0'
  const [a, b] = [await pod(made, 'a'), await pod(made, 'b')]
  const clean = rules(a.netns)
  const shared = { ...conf, cniVersion: version }
  const call = ({ containerId, netns }: Made) => ({ containerId, netns, ifname: 'net1', inNetns: made.path })
  const withResult = ({ prevResult }: Made): JsonObject => ({
    ...shared,
    prevResult: encodeResult(prevResult, version),
  })
  // Without IPv6, whose routes in the main table it cannot move.
  await reference('ADD', withResult(a), call(a)).catch(() => undefined)
  assert.match(rules(a.netns), /from 10\.71\.0\.2 lookup 100/)
  await del(made, a, shared)
  assert.equal(rules(a.netns), clean)

  await add(made, b, shared)
  await reference('CHECK', withResult(b), call(b))
  await reference('DEL', withResult(b), call(b))
  assert.equal(rules(b.netns), clean)
  await del(made, b, shared)
})
