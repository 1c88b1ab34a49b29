import assert from 'node:assert/strict'
import { availableParallelism, loadavg } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'

import { agentMetrics } from '#agent/agent-metrics.ts'
import { silentLog } from '#agent/log.ts'
import { RulesKeeper } from '#agent/rules-keeper.ts'
import { needsRoot } from '../namespace.ts'
import { connects, connectsOnce, serve } from '../plugins/network-host.ts'
import { slowness } from '../slow.ts'
import { listOf, TestNode } from './node.ts'
import { until } from './cluster.ts'

const metrics = () => agentMetrics({ version: '0', node: '0' })

/** All tables, in an order that does not tell which was made first. */
const rulesOf = (node: TestNode): string =>
  node.made
    .exec('nft', '-s', 'list', 'ruleset')
    .split(/^(?=table )/m)
    .toSorted()
    .join('')

/** The elements of a pod in all tables. */
const elementsOf = (node: TestNode, containerId: string): number =>
  rulesOf(node).split(`eth0 ${containerId}"`).length - 1

test(
  'host ports, masquerade and spoof check are back within two seconds after a flush',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    const list = listOf()
    const a = node.pod('a')
    await node.add(list, a, 8000)
    const server = await serve(a.netns, 8080, 'a')
    const before = rulesOf(node)
    assert.ok(elementsOf(node, 'a') >= 10, before)
    const counted = metrics()
    await using _keeper = new RulesKeeper({ host: node.base, metrics: counted, log: silentLog })
    assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'a')

    node.made.exec('nft', 'flush', 'ruleset')
    const flushed = performance.now()
    await until('all is back', () => rulesOf(node) === before || rulesOf(node), 10_000 * slowness)
    const [load = 0] = loadavg()
    // Where many others wait for a processor, it takes as long as they let it.
    if (load < 2 * availableParallelism()) assert.ok(performance.now() - flushed < 2_000 * slowness)
    assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'a', 'with real packets')
    const value = (table: string): number => counted.rulesRestored.value({ table })
    assert.ok(value('inet heddle_cni_hostports') >= 3 && value('bridge heddle_cni_spoof') === 2)

    for (const harm of [
      ['delete', 'table', 'inet', 'heddle_cni_masq'],
      ['flush', 'set', 'inet', 'heddle_cni_masq', 'pods4'],
      ['flush', 'map', 'inet', 'heddle_cni_hostports', 'any4'],
      ['flush', 'chain', 'inet', 'heddle_cni_hostports', 'prerouting'],
      ['flush', 'set', 'bridge', 'heddle_cni_spoof', 'checked'],
    ]) {
      node.made.exec('nft', ...harm)
      assert.notEqual(rulesOf(node), before, harm.join(' '))
      await until(harm.join(' '), () => rulesOf(node) === before || rulesOf(node), 4_000 * slowness)
    }
    server.kill()
  },
)

test(
  'an agent that starts after the flush puts it back too, with the conditions of its network',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    const list = listOf('net1')
    const conditional = {
      ...list,
      plugins: list.plugins.map(({ type, raw }) =>
        type === 'portmap' ? { type, raw: { ...raw, conditionsV4: ['ip saddr != 192.0.2.0/24'] } } : { type, raw },
      ),
    }
    await node.add(conditional, node.pod('a'), 8000)
    const before = rulesOf(node)
    assert.match(before, /heddle_cni_hostports_[0-9a-f]{12}/)
    node.made.exec('nft', 'flush', 'ruleset')
    await using _keeper = new RulesKeeper({ host: node.base, metrics: metrics(), log: silentLog })
    await until('all is back', () => rulesOf(node) === before || rulesOf(node), 4_000 * slowness)
  },
)

test('what a DEL or a GC has removed does not come back, whichever program ran it', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  const pods = ['a', 'b', 'c', 'd'].map((id) => node.pod(id))
  for (const [i, pod] of pods.entries()) await node.add(list, pod, 8000 + i)
  const [a, b, , d] = pods
  assert.ok(a !== undefined && b !== undefined && d !== undefined)
  await using _keeper = new RulesKeeper({ host: node.base, metrics: metrics(), log: silentLog })
  await node.runtime.del(list, a)
  // Another program, whose changes are not the agent's own.
  const other = node.runtimeOf(node.another())
  await other.del(list, b)
  await other.gc(list, [{ containerId: 'd', ifname: 'eth0' }])
  const before = rulesOf(node)
  node.made.exec('nft', 'flush', 'ruleset')
  await until('d is back', () => elementsOf(node, 'd') > 0, 4_000 * slowness)
  await sleep(300)
  assert.equal(rulesOf(node), before)
  assert.deepEqual(
    ['a', 'b', 'c'].map((id) => elementsOf(node, id)),
    [0, 0, 0],
  )
  assert.equal(await connectsOnce(node.made.path, '10.77.0.1', 8001), undefined)
})

test('a DEL that fails half way has begun: what it removed stays away', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  const [a, b] = [node.pod('a'), node.pod('b')]
  await node.add(list, a, 8000)
  await node.add(list, b, 8001)
  await using _keeper = new RulesKeeper({ host: node.base, metrics: metrics(), log: silentLog })
  node.made.atFailpoint = (name) => {
    if (name === 'portmap.unmapped') throw new Error('here')
  }
  await assert.rejects(node.runtime.del(list, a), /here/)
  const left = elementsOf(node, 'a')
  node.made.exec('nft', 'flush', 'table', 'inet', 'heddle_cni_hostports')
  node.made.exec('nft', 'delete', 'table', 'inet', 'heddle_cni_hostports')
  await until('b is back', () => /tcp . 8001/.test(rulesOf(node)), 4_000 * slowness)
  await sleep(300)
  assert.doesNotMatch(rulesOf(node), /tcp . 8000/)
  assert.equal(elementsOf(node, 'a'), left, "the bridge's, of which no DEL has begun")
})

test('flushes between and during DELs of another program: nothing of theirs stays', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  const pods = Array.from({ length: 12 }, (_, i) => node.pod(`p${i}`))
  for (const [i, pod] of pods.entries()) await node.add(list, pod, 8000 + i)
  const kept = pods.slice(0, 2)
  const other = node.runtimeOf(node.another())
  {
    await using _keeper = new RulesKeeper({ host: node.base, metrics: metrics(), log: silentLog })
    const flushing = (async () => {
      for (let i = 0; i < 6; i++) {
        node.made.exec('nft', 'flush', 'ruleset')
        await sleep(60)
      }
    })()
    for (const pod of pods.slice(2)) await other.del(list, pod)
    await flushing
    await until(
      'the two are back',
      () => kept.every(({ containerId }) => elementsOf(node, containerId) >= 10),
      10_000 * slowness,
    )
    await sleep(500)
  }
  for (const { containerId } of pods.slice(2)) assert.equal(elementsOf(node, containerId), 0, containerId)
  for (const pod of kept) await node.runtime.check(list, { ...pod, capabilityArgs: { portMappings: [] } })
})

test('of two pods that want one port the newer has it, also after a flush', { skip: needsRoot }, async () => {
  using node = new TestNode()
  const list = listOf()
  const [a, b] = [node.pod('a'), node.pod('b')]
  await node.add(list, a, 8000)
  await node.add(list, b, 8000)
  const servers = [await serve(a.netns, 8080, 'a'), await serve(b.netns, 8080, 'b')]
  await using _keeper = new RulesKeeper({ host: node.base, metrics: metrics(), log: silentLog })
  node.made.exec('nft', 'flush', 'ruleset')
  await until('both are back', () => elementsOf(node, 'a') > 4 && elementsOf(node, 'b') > 4, 4_000 * slowness)
  assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'b')
  for (const server of servers) server.kill()
})

test(
  'an older pod gets its port back when the newer one goes, by DEL, GC or a failed ADD',
  { skip: needsRoot },
  async () => {
    using node = new TestNode()
    const list = listOf()
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((id) => node.pod(id))
    assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined)
    const leadsTo = (): string | undefined =>
      /tcp . 8000 comment "[^"]* eth0 (\w+)"/.exec(
        node.made.exec('nft', 'list', 'map', 'inet', 'heddle_cni_hostports', 'any4'),
      )?.[1]
    for (const pod of [a, b, c, d]) await node.add(list, pod, 8000)
    assert.equal(leadsTo(), 'd')
    // Another program, as the standalone one is.
    await node.runtimeOf(node.another()).del(list, d)
    assert.equal(leadsTo(), 'c')
    await node.runtime.del(list, b)
    assert.equal(leadsTo(), 'c', "not the port's owner")
    node.made.atFailpoint = (name) => {
      if (name === 'portmap.mapped') throw new Error('here')
    }
    const e = node.pod('e')
    await assert.rejects(node.add(list, e, 8000), /here/)
    node.made.atFailpoint = () => undefined
    assert.equal(leadsTo(), 'c', 'after an ADD that took it and failed')
    await node.runtime.gc(list, [{ containerId: 'a', ifname: 'eth0' }])
    assert.equal(leadsTo(), 'a')
    const server = await serve(a.netns, 8080, 'a')
    assert.equal(await connects(node.made.path, '10.77.0.1', 8000), 'a', 'with real packets')
    server.kill()
    await node.runtime.del(list, a)
    assert.equal(leadsTo(), undefined)
  },
)
