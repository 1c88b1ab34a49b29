import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readlinkSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { createWork } from '#agent/cni/work.ts'
import { LeakFinder, type Round } from '#agent/leaks/finder.ts'
import { judge } from '#agent/leaks/judge.ts'
import { observeLeaks } from '#agent/leaks/observe.ts'
import { removeLeftover } from '#agent/leaks/remove.ts'
import { containerIdOf } from '#cli/cni.ts'
import { listRecords, recordFolder, removeRecord, writeRecord } from '#cni/attachment/record.ts'
import { parseConfList } from '#cni/runtime/conflist.ts'
import { aliasOf } from '#plugins/link/owner.ts'
import { registry } from '#plugins/registry.ts'
import { needsRoot } from '../namespace.ts'
import { connects, difference, execIn, serve } from '../plugins/network-host.ts'
import { slowness } from '../slow.ts'
import { until } from './cluster.ts'
import { listOf, TestNode, type TestPod } from './node.ts'

const heddle = join(import.meta.dirname, '../../bin/heddle')

function finderOf(node: TestNode): LeakFinder {
  const work = createWork({ running: 4, waiting: 100 })
  return new LeakFinder({
    look: async () => judge(await observeLeaks({ host: node.base, withAddresses: true })),
    remove: (leftover) =>
      removeLeftover(leftover, {
        host: node.base,
        registry,
        alone: ({ network, containerId, ifname }, job) => work.run(`${network} ${containerId} ${ifname}`, job),
      }),
  })
}

const objects = (round: Round): readonly string[] => round.leftovers.map(({ object }) => object)

/** The sandbox ends without DEL; the kernel removes it and its links some time later. */
async function vanish(node: TestNode, pod: TestPod): Promise<void> {
  node.end(pod)
  const links = (): string => node.made.exec('ip', '-o', 'link')
  await until('its link is gone', () => !links().includes(`:${pod.containerId}:`) || links(), 10_000 * slowness)
}

/** Nothing was made yet but what stays: bridge, tables. */
async function warm(node: TestNode, pod: TestPod): Promise<string> {
  await node.add(listOf(), pod, 7999)
  await node.runtime.del(listOf(), pod)
  return node.made.dump()
}

test(
  'a pod that vanished without DEL is taken away whole after two looks; its neighbour notices nothing',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    const live = node.pod('live')
    const before = await warm(node, live)
    const dead = node.pod('dead')
    await node.add(listOf(), dead, 8000)
    await vanish(node, dead)
    await node.add(listOf('other', { bridge: 'br1', ipam: { type: 'host-local', subnet: '10.78.0.0/24' } }), live, 8001)
    const server = await serve(live.netns, 8080, 'live')
    const all = ['firewall dead eth0', 'portmap dead eth0', 'bridge dead eth0']
    // A namespace of another test may have the number of the one that is gone, for as long as it lives. A new finder each time: it has seen nothing before.
    let finder = finderOf(node)
    let first = await finder.round()
    await until('the first look sees that it is gone', async () => {
      if (objects(first).length >= all.length) return true
      finder = finderOf(node)
      first = await finder.round()
      return objects(first)
    })
    assert.deepEqual(objects(first), all)
    assert.deepEqual([first.removed, first.unclaimed], [[], []])
    const second = await finder.round()
    assert.equal(second.removed.length, 3)
    assert.deepEqual(await finder.round().then(objects), [])
    assert.equal(await connects(node.made.path, '10.78.0.1', 8001), 'live')
    await node.runtime.check(listOf('other', { bridge: 'br1', ipam: { type: 'host-local', subnet: '10.78.0.0/24' } }), {
      ...live,
      capabilityArgs: { portMappings: [{ hostPort: 8001, containerPort: 8080, protocol: 'tcp' }] },
    })
    await node.runtime.del(
      listOf('other', { bridge: 'br1', ipam: { type: 'host-local', subnet: '10.78.0.0/24' } }),
      live,
    )
    node.made.exec('ip', 'link', 'delete', 'br1')
    assert.deepEqual(
      difference(before, node.made.dump()).filter(
        (line) => !line.includes('br1') && !line.endsWith('networks/other/lock'),
      ),
      [],
    )
    server.kill()
  },
)

/** `heddle cni VERB`, dying at a fail point: whatever it holds and knows ends with it. */
function cniKilled(node: TestNode, verb: 'add' | 'del', pod: TestPod, point: string): void {
  const conf = join(node.root, 'net.d')
  const { signal, status, stderr } = spawnSync(
    'nsenter',
    [`--net=${node.made.path}`, heddle, 'cni', verb, 'net1', pod.netns],
    {
      encoding: 'utf8',
      timeout: 60_000,
      env: {
        ...process.env,
        HEDDLE_ROOT: node.root,
        HEDDLE_FAILPOINT: point,
        NETCONFPATH: conf,
        CNI_PATH: '/nonexistent',
        CAP_ARGS: '{"portMappings":[{"hostPort":8000,"containerPort":8080,"protocol":"tcp"}]}',
      },
    },
  )
  assert.ok(signal === 'SIGKILL' || status === 137, `${verb} was to die at ${point}: ${status} ${stderr}`)
}

test(
  'killed in the middle of ADD and DEL, and then the sandbox ends: everything goes',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    mkdirSync(join(node.root, 'net.d'))
    writeFileSync(join(node.root, 'net.d/10.conflist'), listOf().text)
    const before = await warm(node, node.pod('first'))
    const steps = ['veth.created', 'host-local.reserved', 'bridge.masqueraded', 'bridge.configured', 'portmap.mapped']
    for (const step of steps) {
      const pod = node.pod('')
      cniKilled(node, 'add', pod, step)
      node.end(pod)
    }
    for (const step of ['portmap.unmapped', 'bridge.unlinked', 'host-local.release']) {
      const pod = node.pod('')
      const at = { ...pod, containerId: containerIdOf(pod.netns) }
      await node.add(listOf(), at, 8000)
      cniKilled(node, 'del', at, step)
      node.end(at)
    }
    const links = (): string => node.made.exec('ip', '-o', 'link')
    await until(
      'the kernel has removed their links',
      () => !links().includes('heddle:net1:') || links(),
      10_000 * slowness,
    )
    assert.notDeepEqual(difference(before, node.made.dump()), [])
    const finder = finderOf(node)
    // A namespace of somebody else may have the number of one that is gone, for as long as it lives.
    await until(
      'all is removed',
      async () => {
        const { leftovers, unclaimed, failed } = await finder.round()
        assert.deepEqual(failed, [])
        return leftovers.length + unclaimed.length === 0 && listRecords(recordFolder(node.root)).length === 0
      },
      20_000 * slowness,
    )
    assert.deepEqual(difference(before, node.made.dump()), [])
  },
)

test('nothing is taken from whoever lives, however it looks', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  // Its name is gone, a process lives on in it.
  const nameless = node.pod('nameless')
  await node.add(list, nameless, 8000)
  const process = spawn('nsenter', [`--net=${nameless.netns}`, 'sleep', '60'], { stdio: 'ignore' })
  const inode = /\d+/.exec(execIn(nameless.netns, 'readlink', '/proc/self/ns/net'))?.[0] ?? 'none'
  await until('it is in', () => readlinkSync(`/proc/${process.pid}/ns/net`).includes(inode))
  node.end(nameless)
  // Its record is lost; the runtime's result and the link are there.
  const recordless = node.pod('recordless')
  await node.add(list, recordless, 8001)
  // The result is lost too.
  const markOnly = node.pod('mark-only')
  await node.add(list, markOnly, 8002)
  for (const record of listRecords(recordFolder(node.root)))
    if (record.containerId !== 'nameless') removeRecord(recordFolder(node.root), record)
  rmSync(join(node.root, 'var/lib/cni/results/net1-mark-only-eth0'))
  // Seen from another mount namespace, a path may lead nowhere.
  const [record] = listRecords(recordFolder(node.root))
  assert.ok(record !== undefined)
  writeRecord(recordFolder(node.root), { ...record, containerId: 'unseen', netns: '/nonexistent/netns/x' })
  const before = node.made.dump()
  const finder = finderOf(node)
  for (let i = 0; i < 3; i++) assert.deepEqual(objects(await finder.round()), [])
  const { unclaimed } = await finder.round()
  assert.deepEqual(unclaimed.map(({ kind, owner }) => `${kind} ${owner.containerId}`).toSorted(), ['link mark-only'])
  assert.deepEqual(difference(before, node.made.dump()), [])
  process.kill()
})

test('rules, links and files without any record', { skip: needsRoot }, async () => {
  using node = new TestNode()
  await warm(node, node.pod('first'))
  const before = node.made.dump()
  const dead = node.pod('dead')
  await node.add(listOf(), dead, 8000)
  await vanish(node, dead)
  for (const record of listRecords(recordFolder(node.root))) removeRecord(recordFolder(node.root), record)
  const alias = aliasOf('net1', { containerId: 'lost', ifname: 'eth0' })
  node.made.exec('ip', 'link', 'add', 'lost0', 'type', 'veth', 'peer', 'name', 'lost1')
  node.made.exec('ip', 'link', 'set', 'lost0', 'alias', alias)
  const torn = join(recordFolder(node.root), 'x.json.01234567.tmp')
  writeFileSync(torn, '')
  utimesSync(torn, 1, 1)
  const finder = finderOf(node)
  await finder.round()
  const { removed, unclaimed } = await finder.round()
  assert.deepEqual(
    Object.entries(Object.groupBy(removed, ({ kind }) => kind)).map(([kind, some]) => `${kind} ${some.length}`),
    ['rules 4', 'link 1', 'file 1'],
  )
  // Whose they were cannot be proved: they are told, and stay.
  assert.deepEqual(unclaimed.map(({ kind }) => kind).toSorted(), ['address', 'address', 'cache'])
  const left = difference(before, node.made.dump())
  assert.ok(left.length === 3 && left.every((line) => line.startsWith('+ /')), left.join('\n'))
})

test('a link that lived in the pod alone: its address and its records go', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = parseConfList(
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'tapped',
      plugins: [{ type: 'tap', ipam: { type: 'host-local', subnet: '10.79.0.0/24' } }],
    }),
    'test',
  )
  const before = node.made.dump()
  const pod = node.pod('t')
  await node.runtime.add(list, pod)
  node.end(pod)
  const finder = finderOf(node)
  await finder.round()
  assert.equal((await finder.round()).removed.length, 1)
  const left = difference(before, node.made.dump()).filter((line) => !line.endsWith('/lock'))
  assert.deepEqual(left, [])
})

test(
  'a pod with limited bandwidth: the device of the host that its shaping needs goes too',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    const raw = {
      type: 'bandwidth',
      ingressRate: 1_000_000,
      ingressBurst: 100_000,
      egressRate: 1_000_000,
      egressBurst: 100_000,
    }
    const usual = listOf()
    const list = { ...usual, plugins: [...usual.plugins, { type: raw.type, raw }] }
    const before = await warm(node, node.pod('first'))
    const [live, dead] = [node.pod('live'), node.pod('dead')]
    await node.add(list, live)
    const withOne = node.made.dump()
    await node.add(list, dead)
    assert.equal(node.made.exec('ip', '-o', 'link', 'show', 'type', 'ifb').trim().split('\n').length, 2)
    node.end(dead)
    const finder = finderOf(node)
    await until(
      'all of it is removed',
      async () => (await finder.round()).failed.length === 0 && listRecords(recordFolder(node.root)).length === 4,
      20_000 * slowness,
    )
    assert.deepEqual(difference(withOne, node.made.dump()), [])
    await node.runtime.del(list, live)
    assert.deepEqual(difference(before, node.made.dump()), [])
  },
)

test('the container comes back in another sandbox between the two looks', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  const first = node.pod('again')
  await node.add(list, first, 8000)
  await vanish(node, first)
  const finder = finderOf(node)
  assert.equal((await finder.round()).leftovers.length, 3)
  const second = node.pod('again')
  await node.runtime.del(list, first)
  await node.add(list, second, 8000)
  const before = node.made.dump()
  assert.deepEqual((await finder.round()).removed, [])
  assert.deepEqual(difference(before, node.made.dump()), [])
})

test('heddle agent looks by itself, counts and says what it did', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const pod = node.pod('dead')
  await node.add(listOf(), pod, 8000)
  node.end(pod)
  await node.add(listOf(), node.pod('live'), 8001)
  // Another network's files are of the boot before.
  const old = join(node.root, 'var/lib/cni/networks/old')
  mkdirSync(old)
  writeFileSync(join(old, 'lock'), '00000000-0000-4000-8000-000000000000')
  writeFileSync(join(old, '10.9.0.2'), 'x\r\neth0')
  utimesSync(join(old, '10.9.0.2'), 1, 1)
  const health = join(node.root, 'health.sock')
  const agent = spawn(
    'nsenter',
    [
      `--net=${node.made.path}`,
      heddle,
      'agent',
      '--until-stdin-closes',
      '--cni-only',
      '--root',
      node.root,
      '--leak-interval',
      '1',
      '--health-listen',
      health,
    ],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  )
  let log = ''
  agent.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  try {
    await until(
      'all of it is removed',
      () => log.split('removed what an attachment left').length === 4 || log,
      20_000 * slowness,
    )
    assert.match(
      execFileSync('curl', ['-s', '--unix-socket', health, 'http://x/metrics'], { encoding: 'utf8' }),
      /heddle_leaks_removed_total\{kind="attachment"\} 3/,
    )
    assert.deepEqual(
      new Set(listRecords(recordFolder(node.root)).map((record) => record.containerId)),
      new Set(['live']),
    )
    assert.deepEqual(readdirSync(old), ['lock'], 'before it answered any call')
    node.made.exec('nft', 'flush', 'ruleset')
    const rules = (): string => node.made.exec('nft', 'list', 'ruleset')
    await until('the rules are back', () => rules().includes('tcp . 8001') || rules(), 2_000 * slowness)
    assert.doesNotMatch(rules(), /tcp \. 8000/)
  } finally {
    agent.stdin.end()
    agent.kill()
  }
})

test('heddle doctor leaks prints, exits with 1, mends with --fix, in both languages', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const doctor = (...args: readonly string[]) => {
    const command = ['doctor', 'leaks', '--root', node.root, '--wait', '0.1', ...args]
    const ran = spawnSync('nsenter', [`--net=${node.made.path}`, heddle, ...command], {
      encoding: 'utf8',
      timeout: 60_000,
      env: { ...process.env, LC_ALL: 'C' },
    })
    return { code: ran.status, out: ran.stdout, err: ran.stderr }
  }
  assert.deepEqual(doctor(), { code: 0, out: 'nothing is left behind\n', err: '' })
  const before = await warm(node, node.pod('first'))
  const dead = node.pod('dead')
  await node.add(listOf(), dead, 8000)
  await vanish(node, dead)
  const printed = doctor()
  assert.equal(printed.code, 1, printed.err)
  assert.match(printed.out, /attachment +net1 +dead +eth0 +portmap dead eth0 +its sandbox \S+ is gone +left/)
  assert.match(doctor('--lang', 'zh').out, /接入 +net1 +dead +eth0 .*已不存在/)
  const told: unknown = JSON.parse(doctor('--json').out)
  assert.deepEqual(told, {
    leftovers: ['firewall', 'portmap', 'bridge'].map((type) => ({
      kind: 'attachment',
      network: 'net1',
      containerID: 'dead',
      ifname: 'eth0',
      object: `${type} dead eth0`,
      reason: 'sandbox-gone',
      detail: dead.netns,
      outcome: 'left',
    })),
    unclaimed: [],
  })
  const fixed = doctor('--fix')
  assert.deepEqual([fixed.code, fixed.err], [0, ''])
  assert.match(fixed.out, /3 removed/)
  assert.deepEqual(doctor(), { code: 0, out: 'nothing is left behind\n', err: '' })
  assert.deepEqual(difference(before, node.made.dump()), [])
  // What cannot be removed is told, and the exit code says it.
  const stuck = node.pod('stuck')
  await node.add(listOf(), stuck, 8000)
  await vanish(node, stuck)
  const record = listRecords(recordFolder(node.root)).find(({ type }) => type === 'bridge')
  assert.ok(record !== undefined)
  writeRecord(recordFolder(node.root), { ...record, config: { ...record.config, ipam: { type: 'absent' } } })
  const failed = doctor('--fix')
  assert.equal(failed.code, 1)
  assert.match(failed.out, /failed: .*absent/)
  assert.equal(doctor('--wait', 'x').code, 2)
})
