import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { nodes as nodeResource } from '#kube/resources.ts'
import { needsRoot, nodeObject, TestCluster, until, type TestNode } from './cluster.ts'

/** Everything of the data path, in a form that compares. */
const dump = (node: TestNode): string =>
  [
    node.run('ip', '-d', 'link', 'show', 'flannel.1').replaceAll(/promiscuity \d+/g, ''),
    node.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.1'),
    node.run('ip', 'route'),
    node.run('ip', 'neigh', 'show', 'nud', 'permanent'),
    node.run('bridge', 'fdb', 'show', 'dev', 'flannel.1'),
    node.run('nft', 'list', 'ruleset'),
  ].join('\n')

test(
  'kill -9 and restart of every agent: the same device, nothing rewritten, no ping lost',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const from = cluster.pod(a)
    cluster.pod(b)
    const before = [dump(a), dump(b)]
    const ping = spawn('nsenter', [`--net=/run/netns/${from}`, 'ping', '-i', '0.01', '-W', '1', '10.244.1.2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    ping.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const ended = new Promise((resolve) => ping.once('exit', resolve))
    for (const node of [a, b, a, b]) {
      await cluster.stop(node, 'SIGKILL')
      await delay(200)
      cluster.start(node)
      await cluster.ready(node)
    }
    for (const node of [a, b]) {
      await cluster.stop(node, 'SIGTERM')
      await delay(100)
      cluster.start(node)
    }
    await cluster.ready()
    ping.kill('SIGINT')
    await ended
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? []
    assert.ok(Number(sent) > 200, said.slice(-200))
    assert.equal(received, sent)
    assert.equal(dump(a), before[0])
    assert.equal(dump(b), before[1])
  },
)

test(
  'a stop leaves the data path, and a stale peer of a former life goes with the next start',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 3 })
    cluster.startAll()
    await cluster.ready()
    const a = cluster.node(0)
    const before = dump(a)
    await cluster.stop(a)
    assert.equal(dump(a), before)
    await cluster.client.delete(nodeResource, { name: 'node-2' })
    cluster.start(a)
    await cluster.ready(a)
    await until('the peer that left meanwhile is gone', () => !dump(a).includes('10.244.2.0'))
    assert.match(dump(a), /10\.244\.1\.0\/24/)
  },
)

test(
  'the API server goes away: the data path stays, is repaired, survives restarts, and nobody is lost on an empty list',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 3 })
    cluster.startAll()
    await cluster.ready()
    const a = cluster.node(0)
    const before = dump(a)
    await delay(1_500) // for the last-known cluster to be on disk
    await cluster.stopApi()
    await until('readyz says so', async () => {
      const { status, body } = await a.get('/readyz')
      return status === 200 && /"name": "api-server",\s+"weight": "degraded",\s+"ok": false/.test(body)
    })
    assert.equal(dump(a), before)

    await cluster.stop(a, 'SIGKILL')
    a.run('ip', 'route', 'del', '10.244.2.0/24')
    cluster.start(a)
    await until('the route is repaired from the last-known cluster', () => dump(a) === before || dump(a), 10_000)
    await until('and pods can be made', async () => (await a.get('/readyz')).status === 200, 5_000)

    await cluster.startApi()
    cluster.api.faults.inject({ action: { kind: 'empty-list' } })
    await delay(3_000)
    assert.equal(dump(a), before, 'an empty list deletes nobody')
  },
)

test('an API server that is half-open, slow or failing costs nothing', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2 })
  cluster.startAll()
  await cluster.ready()
  const a = cluster.node(0)
  const before = dump(a)
  cluster.api.faults.inject({ action: { kind: 'status', code: 500 } })
  await delay(1_000)
  assert.equal(dump(a), before)
  a.run('ip', 'route', 'del', '10.244.1.0/24')
  await until('repairs go on', () => dump(a) === before, 2_000)
})

test('two agents on one root: the second one refuses and names the first', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 1 })
  const a = cluster.node(0)
  cluster.start(a)
  await cluster.ready()
  const first = a.agent
  cluster.start(a)
  const second = a.agent
  a.agent = first
  const code = await new Promise((resolve) => second?.once('exit', resolve))
  assert.equal(code, 1)
  assert.match(a.log, new RegExp(`another agent \\(process ${first?.pid}\\) holds .*--root`))
})

test(
  'before there is a subnet the agent is not ready, says why, and CNI calls are told to try again',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 1 })
    const a = cluster.node(0)
    await cluster.client.delete(nodeResource, { name: a.name })
    cluster.start(a)
    await until('it says what is missing', async () => {
      const { status, body } = await a.get('/readyz')
      return status === 503 && body.includes('there is no Node named') ? true : body
    })
    assert.equal((await a.get('/healthz')).status, 200)
    assert.equal(existsSync(a.subnetFile), false)
    await cluster.register(a)
    await cluster.ready()
    assert.match(readFileSync(a.subnetFile, 'utf8'), /FLANNEL_SUBNET=10\.244\.0\.1\/24/)
  },
)

test(
  'a half-open connection to the API server costs nothing, and what comes afterwards is heard',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const a = cluster.node(0)
    const before = dump(a)
    const heal = cluster.api.faults.inject({ action: { kind: 'silent' } })
    await delay(2_000)
    assert.equal(dump(a), before)
    assert.equal((await a.get('/readyz')).status, 200)
    heal()
    await cluster.stopApi()
    await cluster.startApi()
    await cluster.client.create(nodeResource, nodeObject('node-7', ['10.244.7.0/24']))
    await cluster.annotate('node-7', {
      'kube-subnet-manager': 'true',
      'backend-type': 'vxlan',
      'backend-data': '{"VNI":1,"VtepMAC":"02:aa:bb:cc:dd:07"}',
      'public-ip': '192.0.2.70',
    })
    await until('what comes after is heard', () => dump(a).includes('02:aa:bb:cc:dd:07 dst 192.0.2.70'), 20_000)
  },
)
