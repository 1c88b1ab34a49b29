import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/json.ts'
import { decodeResult } from '#cni/result/decode.ts'
import { encodeResult } from '#cni/result/encode.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { tuning } from '#plugins/tuning/plugin.ts'
import { createNetns, deleteNetns } from '#sys/netns.ts'
import { needsRoot } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { codeOf, execIn, fileText, NetworkHost, ping } from './network-host.ts'
import { gcInputOf, inputOf } from './input.ts'
import { killedAt } from './kill-plugin.ts'
import { links } from './pod-link-suite.ts'
import { reference, referenceMissing } from './reference.ts'

const skip = needsRoot
const MAC = '02:00:00:00:00:0a'

const bridgeConf: JsonObject = {
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isGateway: true,
  ipam: { type: 'host-local', subnet: '10.77.0.0/24' },
}
const conf: JsonObject = {
  name: 'net1',
  type: 'tuning',
  mac: MAC,
  mtu: 1400,
  promisc: true,
  allmulti: true,
  txQLen: 77,
  sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net.ipv4.tcp_rmem': '4096 131072 6000000' },
}

interface Made {
  readonly containerId: string
  readonly netns: string
  readonly prevResult: Result
}

async function pod(made: NetworkHost, containerId: string): Promise<Made> {
  const call = { containerId, netns: made.pod() }
  return { ...call, prevResult: await bridge.add(inputOf(bridgeConf, call), made.host) }
}
const add = async (made: NetworkHost, call: Made, raw = conf): Promise<Made> => ({
  ...call,
  prevResult: await tuning.add(inputOf(raw, call), made.host),
})
const check = (made: NetworkHost, call: Made, raw = conf) => codeOf(tuning.check(inputOf(raw, call), made.host))
const del = (made: NetworkHost, call: Partial<Made>, raw = conf) => tuning.del(inputOf(raw, call), made.host)

/** What can be tuned, as the kernel has it now. */
function state(netns: string): readonly unknown[] {
  const [link] = links(netns, 'eth0')
  const sysctl = (key: string): string => execIn(netns, 'sysctl', '-n', key).trim()
  return [
    link?.['address'],
    link?.['mtu'],
    link?.['txqlen'],
    JSON.stringify(link?.['flags']).includes('PROMISC'),
    JSON.stringify(link?.['flags']).includes('ALLMULTI'),
    sysctl('net.ipv4.conf.eth0.arp_filter'),
    sysctl('net.ipv4.tcp_rmem').split(/\s+/).join(' '),
  ]
}
/** Without sysctls, which go with the namespace. */
const linkState = (netns: string): readonly unknown[] => state(netns).slice(0, 5)
const TUNED = [MAC, 1400, 77, true, true, '1', '4096 131072 6000000']
const files = (made: NetworkHost): readonly string[] => {
  const folder = join(made.root, 'run/cni/tuning')
  return existsSync(folder) ? readdirSync(folder) : []
}

test('ADD, CHECK, DEL, DEL again, DEL without anything: the interface is as it was', { skip }, async () => {
  using made = new NetworkHost()
  const call = await pod(made, 'a')
  const before = state(call.netns)
  const tuned = await add(made, call)
  assert.deepEqual(state(call.netns), TUNED)
  const [, , inside] = tuned.prevResult.interfaces
  assert.deepEqual([inside?.name, inside?.mac, inside?.mtu], ['eth0', MAC, 1400])
  assert.deepEqual(tuned.prevResult.interfaces.slice(0, 2), call.prevResult.interfaces.slice(0, 2))
  assert.deepEqual(files(made), ['a_eth0.json'])
  assert.equal(await check(made, tuned), undefined)
  await bridge.check(inputOf(bridgeConf, tuned), made.host)
  assert.ok(await ping(call.netns, '10.77.0.1'))
  for (const gone of [tuned, call, { containerId: 'a' }, { containerId: 'never' }]) {
    await del(made, gone)
    assert.deepEqual(linkState(call.netns), before.slice(0, 5))
    assert.deepEqual(files(made), [])
  }
  assert.equal(await check(made, tuned), 100)
})

test('twice, or by two plugins of one list: what comes back is what was there first', { skip }, async () => {
  using made = new NetworkHost()
  const call = await pod(made, 'a')
  const before = linkState(call.netns)
  const first = await add(made, call)
  await add(made, first, { ...conf, mtu: 1300, txQLen: 88, mac: '02:00:00:00:00:0b' })
  assert.equal(await check(made, first), 100)
  await del(made, first)
  await del(made, first)
  assert.deepEqual(linkState(call.netns), before)
})

test('CHECK finds what is wrong, and only that', { skip }, async () => {
  using made = new NetworkHost()
  const call = await pod(made, 'a')
  const tuned = await add(made, call)
  const harms: readonly (readonly [readonly string[], readonly string[]])[] = [
    [
      ['ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:0b'],
      ['ip', 'link', 'set', 'eth0', 'address', MAC],
    ],
    [
      ['ip', 'link', 'set', 'eth0', 'mtu', '1300'],
      ['ip', 'link', 'set', 'eth0', 'mtu', '1400'],
    ],
    [
      ['ip', 'link', 'set', 'eth0', 'promisc', 'off'],
      ['ip', 'link', 'set', 'eth0', 'promisc', 'on'],
    ],
    [
      ['ip', 'link', 'set', 'eth0', 'allmulticast', 'off'],
      ['ip', 'link', 'set', 'eth0', 'allmulticast', 'on'],
    ],
    [
      ['ip', 'link', 'set', 'eth0', 'txqueuelen', '9'],
      ['ip', 'link', 'set', 'eth0', 'txqueuelen', '77'],
    ],
    [
      ['sysctl', '-qw', 'net.ipv4.conf.eth0.arp_filter=0'],
      ['sysctl', '-qw', 'net.ipv4.conf.eth0.arp_filter=1'],
    ],
    [
      ['sysctl', '-qw', 'net.ipv4.tcp_rmem=4096 131072 6000001'],
      ['sysctl', '-qw', 'net.ipv4.tcp_rmem=4096 131072 6000000'],
    ],
  ]
  for (const [harm, mend] of harms) {
    execIn(call.netns, ...harm)
    assert.equal(await check(made, tuned), 100, harm.join(' '))
    execIn(call.netns, ...mend)
    assert.equal(await check(made, tuned), undefined, mend.join(' '))
  }
  // What nobody asked for is nobody's fault.
  const { promisc: _, ...calm } = conf
  assert.equal(await check(made, tuned, calm), undefined)
  execIn(call.netns, 'ip', 'link', 'del', 'eth0')
  assert.equal(await check(made, tuned), 100)
})

test('what the kernel or the list refuses undoes all; nothing is asked, nothing is done', { skip }, async () => {
  using made = new NetworkHost()
  const call = await pod(made, 'a')
  const before = state(call.netns)
  const bad: readonly (readonly [JsonObject, number, RegExp])[] = [
    [{ mtu: 10 }, 7, /eth0.*does not take it/],
    [{ sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net.ipv4.conf.IFNAME.no_such': '1' } }, 7, /no_such/],
    [{ sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net.ipv4.tcp_rmem': 'much' } }, 7, /tcp_rmem.*much/],
    [{ sysctl: { 'net.ipv4.conf.IFNAME.proxy_arp': '1' } }, 2, /proxy_arp.*not allowed/],
  ]
  for (const [raw, code, message] of bad) {
    await assert.rejects(add(made, call, { ...conf, ...raw }), { code, message }, JSON.stringify(raw))
    assert.deepEqual(state(call.netns), before, JSON.stringify(raw))
    assert.deepEqual(files(made), [])
    await del(made, call, { ...conf, ...raw })
  }
  mkdirSync(join(made.root, 'etc/cni/tuning'), { recursive: true })
  writeFileSync(join(made.root, 'etc/cni/tuning/allowlist.conf'), '^net\\.ipv4\\.conf\\.IFNAME\\.proxy_arp$\n')
  await add(made, call, { name: 'net1', type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.proxy_arp': '1' } })
  assert.equal(execIn(call.netns, 'sysctl', '-n', 'net.ipv4.conf.eth0.proxy_arp').trim(), '1')
  assert.equal(await codeOf(tuning.status(inputOf(conf), made.host)), 2)
  const bare = { name: 'net1', type: 'tuning' }
  assert.equal(await tuning.add(inputOf(bare, call), made.host), call.prevResult)
  assert.deepEqual(files(made), [])
  await tuning.status(inputOf(bare), made.host)
  const { prevResult: _, ...first } = call
  await assert.rejects(tuning.add(inputOf(bare, first), made.host), { code: 7, message: /chained/ })
  await assert.rejects(tuning.add(inputOf({ ...bare, mtu: 1400 }, { ...call, ifname: 'net9' }), made.host), {
    code: 7,
    message: /net9/,
  })
  await del(made, call, { ...bare, mac: 'no MAC', sysctl: { 'net..x': '1' }, dataDir: 'nowhere' })
})

test('a result in every version', { skip }, async () => {
  using made = new NetworkHost()
  assert.deepEqual(tuning.versions, specVersions)
  const call = await pod(made, 'a')
  for (const cniVersion of specVersions) {
    const tuned = await add(made, call, { ...conf, cniVersion })
    assert.equal(encodeResult(tuned.prevResult, cniVersion)['cniVersion'], cniVersion)
    await del(made, tuned, { ...conf, cniVersion })
  }
})

test(
  'an ADD that fails at any step undoes itself; DEL and GC restore after a kill',
  { skip, timeout: 300_000 },
  async () => {
    using made = new NetworkHost()
    const call = await pod(made, 'a')
    const before = state(call.netns)
    const points: string[] = []
    made.atFailpoint = (name) => void points.push(name)
    const tuned = await add(made, call)
    const ofAdd = points.splice(0)
    await del(made, tuned)
    const ofDel = points.splice(0)
    assert.deepEqual([ofAdd.length, ofDel.length], [3, 2])
    const sysctls = ['net.ipv4.conf.eth0.arp_filter=0', `net.ipv4.tcp_rmem=${String(before[6])}`]
    for (const one of sysctls) execIn(call.netns, 'sysctl', '-qw', one)
    for (const point of ofAdd) {
      made.atFailpoint = (name) => {
        if (name === point) throw new Error(`failed on purpose at ${point}`)
      }
      await assert.rejects(add(made, call), /failed on purpose/)
      made.atFailpoint = () => {}
      assert.deepEqual(state(call.netns), before, point)
      assert.deepEqual(files(made), [], point)
    }
    const ways = ['GC', 'DEL', 'DEL without a namespace'] as const
    const killAt = slowness > 1 ? ofAdd.slice(-1) : [...ofAdd, ...ofDel]
    for (const [i, point] of killAt.entries()) {
      const verb = i < ofAdd.length ? 'ADD' : 'DEL'
      if (verb === 'DEL') await add(made, call)
      await killedAt(made, { verb, conf, call, point })
      const how = ways[i % ways.length] ?? 'GC'
      if (how === 'GC') await tuning.gc(gcInputOf(conf, []), made.host)
      else await del(made, how === 'DEL' ? call : { containerId: 'a' })
      assert.deepEqual(linkState(call.netns), before.slice(0, 5), `${verb} killed at ${point}, then ${how}`)
      assert.deepEqual(files(made), [])
    }
  },
)

test('GC spares others; a namespace that another took the place of is not touched', { skip }, async () => {
  using made = new NetworkHost()
  const [a, b] = [await add(made, await pod(made, 'a')), await add(made, await pod(made, 'b'))]
  await tuning.gc(gcInputOf({ ...conf, name: 'other' }, []), made.host)
  await tuning.gc(gcInputOf(conf, [{ containerId: 'b', ifname: 'eth0' }]), made.host)
  assert.deepEqual(files(made), ['b_eth0.json'])
  assert.equal(await check(made, a), 100)
  assert.equal(await check(made, b), undefined)
  deleteNetns(b.netns)
  createNetns(b.netns)
  execIn(b.netns, 'ip', 'link', 'add', 'eth0', 'mtu', '1350', 'type', 'veth', 'peer', 'name', 'other')
  const stranger = linkState(b.netns)
  await del(made, b)
  assert.deepEqual(linkState(b.netns), stranger)
  assert.deepEqual(files(made), [])
  // Not readable: as if there were none, and gone afterwards.
  const broken = join(made.root, 'run/cni/tuning/b_eth0.json')
  writeFileSync(broken, '{"mtu":')
  await del(made, b)
  assert.ok(!existsSync(broken))
})

test('take-over from the reference plugin and back', { skip: skip || referenceMissing }, async () => {
  using made = new NetworkHost()
  const version = '1.0.0'
  const call = await pod(made, 'a')
  const before = linkState(call.netns)
  // Older versions know no txQLen.
  const { txQLen: _, ...known } = conf
  const shared = { ...known, cniVersion: version }
  const dataDir = join(made.root, 'run/cni/tuning')
  const theirCall = { containerId: 'a', netns: call.netns, inNetns: made.path }
  // It compares the text of sysctls, and the kernel has tabs.
  const sysctl = { 'net.ipv4.conf.IFNAME.arp_filter': '1' }
  const withResult = (result: Result): JsonObject => ({
    ...shared,
    sysctl,
    dataDir,
    prevResult: encodeResult(result, version),
  })
  const answer = await reference('ADD', withResult(call.prevResult), theirCall)
  const theirs = { ...call, prevResult: decodeResult(answer, version, 'the reference result') }
  assert.deepEqual(linkState(call.netns).slice(0, 2), [MAC, 1400])
  assert.deepEqual(files(made), ['a_eth0.json'])
  assert.equal(await check(made, theirs, { ...shared, sysctl }), undefined)
  await del(made, theirs, shared)
  assert.deepEqual(linkState(call.netns), before)
  assert.deepEqual(files(made), [])

  const ours = await add(made, call, shared)
  // That version tells no mtu.
  const told = ({ interfaces, ips }: Result) => [
    interfaces.map(({ name, mac, sandbox }) => ({ name, mac, sandbox })),
    ips,
  ]
  assert.deepEqual(told(ours.prevResult), told(theirs.prevResult))
  const kept = JSON.parse(fileText(join(dataDir, 'a_eth0.json'))) as JsonObject
  assert.deepEqual(
    { ...kept, heddle: null },
    { mac: before[0], promisc: false, mtu: 1500, allmulti: false, heddle: null },
  )
  // Its CHECK does not replace IFNAME.
  const literal = { 'net.ipv4.conf.eth0.arp_filter': '1' }
  await reference('CHECK', { ...withResult(ours.prevResult), sysctl: literal }, theirCall)
  await reference('DEL', withResult(ours.prevResult), theirCall)
  assert.deepEqual(linkState(call.netns), before)
  await del(made, ours, shared)
  assert.deepEqual(files(made), [])
})
