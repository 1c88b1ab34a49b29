import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { run, TestCluster, until, type TestNode } from './cluster.ts'
import { repairs, type Damage } from './damage.ts'

const skip = needsProgram('wg', 'wireguard-tools') || needsKernel('wireguard')

const pings = (ns: string, to: string, ...options: readonly string[]): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.2', '-W', '5', ...options, to), / 0% packet loss/, to)

const PSK = Buffer.alloc(32, 0x51).toString('base64')

/** `wg show DEV dump` without what changes by itself: public key, secret, endpoint, allowed IPs, keepalive of each peer. */
const peersOf = (node: TestNode, dev = 'flannel-wg'): string[][] =>
  node
    .run('wg', 'show', dev, 'dump')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .map(([key = '', psk = '', endpoint = '', allowed = '', , , , keepalive = '']) => [
      key,
      psk,
      endpoint,
      allowed,
      keepalive,
    ])

const byKey = ([a = '']: string[], [b = '']: string[]): number => (a < b ? -1 : 1)

const keyOf = (node: TestNode): string => node.run('wg', 'show', 'flannel-wg', 'public-key').trim()

const keyC = Buffer.alloc(32, 3).toString('base64')

/** Two agents, and a third node that is only what it says of itself. */
async function open() {
  const backend = { Type: 'wireguard', PSK, PersistentKeepaliveInterval: 25 }
  const cluster = await TestCluster.open({ nodes: 3, farFrom: 2, backend })
  try {
    const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
    cluster.start(a)
    cluster.start(b)
    await cluster.ready(a, b)
    const [keyA, keyB] = [keyOf(a), keyOf(b)]
    const honest = {
      'kube-subnet-manager': 'true',
      'backend-type': 'wireguard',
      'backend-data': `{"PublicKey":"${keyC}","Port":51820}`,
      'public-ip': c.address,
    }
    await cluster.annotate('node-2', honest)
    const wanted = [
      [keyB, PSK, '192.0.2.2:51820', '10.244.1.0/24', '25'],
      [keyC, PSK, '198.51.100.3:51820', '10.244.2.0/24', '25'],
    ].toSorted(byKey)
    const peers = (): string => JSON.stringify(peersOf(a).toSorted(byKey))
    await until('both peers are there', () => peers() === JSON.stringify(wanted) || peers())
    return { cluster, a, b, keyA, keyB, honest, wanted, peers, pod: cluster.pod(a), podB: cluster.pod(b) }
  } catch (error) {
    await cluster[Symbol.asyncDispose]()
    throw error
  }
}

const LIMIT_MS = 120_000 * slowness

/** One cluster for all of it: where every instruction is emulated, a cluster takes most of a minute to begin with. */
test('wireguard, one family', { skip, timeout: LIMIT_MS }, async (t) => {
  const made = await open()
  await using _ = made.cluster
  await t.test('key, peers, secret, MTU', () => basics(made))
  await t.test('what an outsider does to device and peers is mended', (inner) => mended(inner, made))
  await t.test('a kill and a start lose nothing', () => restarted(made))
  await t.test('a hostile node, another key, a node that goes', () => hostile(made))
})

type Made = Awaited<ReturnType<typeof open>>

const secretOf = (node: TestNode): string => readFileSync(join(node.root, 'var/lib/heddle/wgkey'), 'utf8')

async function basics({ cluster, a, keyA, pod, podB }: Made): Promise<void> {
  assert.deepEqual(await cluster.annotations('node-0'), {
    'kube-subnet-manager': 'true',
    'backend-type': 'wireguard',
    'backend-data': `{"PublicKey":"${keyA}","Port":51820}`,
    'public-ip': a.address,
  })
  assert.match(a.run('ip', 'route', 'show', '10.244.0.0/16'), /dev flannel-wg .*scope link/)
  assert.match(a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel-wg'), /10\.244\.0\.0\/32/)
  assert.match(a.run('ip', 'link', 'show', 'flannel-wg'), /mtu 1420 /)
  assert.match(a.run('cat', a.subnetFile), /FLANNEL_MTU=1420/)
  assert.equal(statSync(join(a.root, 'var/lib/heddle/wgkey')).mode & 0o777, 0o600)
  assert.equal(a.run('wg', 'show', 'flannel-wg', 'private-key').trim(), secretOf(a))

  for (const ns of [pod, podB]) run(ns, 'ip', 'link', 'set', 'eth0', 'mtu', '1420')
  pings(podB, '10.244.0.2')
  pings(pod, '10.244.1.2', '-M', 'do', '-s', '1392')
  run(pod, 'ip', 'link', 'set', 'eth0', 'mtu', '1500')
  assert.throws(
    () => run(pod, 'ping', '-c', '1', '-W', '2', '-M', 'do', '-s', '1393', '10.244.1.2'),
    (error: Error & { stdout?: string }) => /[Ff]rag needed.*mtu = 1420/.test(error.stdout ?? ''),
  )
}

async function restarted({ cluster, a, keyA, pod }: Made): Promise<void> {
  const index = (): unknown => a.json('ip', 'link', 'show', 'flannel-wg')[0]?.['ifindex']
  const device = index()
  await cluster.stop(a, 'SIGKILL')
  pings(pod, '10.244.1.2')
  cluster.start(a)
  await cluster.ready(a)
  assert.equal(keyOf(a), keyA, 'the same key')
  assert.equal(index(), device, 'the same device, and with it the same sessions')
  pings(pod, '10.244.1.2')
  for (const node of cluster.nodes)
    for (const word of [secretOf(a), PSK]) assert.ok(!node.log.includes(word), `${node.name}: no secret in the log`)
}

async function mended(t: TestContext, { a, keyA, keyB, wanted, peers, pod }: Made): Promise<void> {
  const isWhole = (): boolean =>
    peers() === JSON.stringify(wanted) &&
    keyOf(a) === keyA &&
    a.run('wg', 'show', 'flannel-wg', 'listen-port').trim() === '51820' &&
    /[<,]UP[,>].* mtu 1420 /.test(a.run('ip', 'link', 'show', 'flannel-wg')) &&
    /dev flannel-wg .*scope link/.test(a.run('ip', 'route', 'show', '10.244.0.0/16')) &&
    a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel-wg').includes('10.244.0.0/32')
  const wg = (what: string, ...args: readonly string[]): Damage => [what, 'wg', ['set', 'flannel-wg', ...args], isWhole]
  await repairs(
    t,
    a,
    [
      wg('a peer', 'peer', keyB, 'remove'),
      wg('a peer’s endpoint', 'peer', keyC, 'endpoint', '192.0.2.99:51820'),
      wg('what a peer may send', 'peer', keyB, 'allowed-ips', '10.244.1.0/25'),
      wg('what another peer took from it', 'peer', keyC, 'allowed-ips', '10.244.1.0/24,10.244.2.0/24'),
      wg('a peer’s secret', 'peer', keyB, 'preshared-key', '/dev/null'),
      wg('a peer’s keepalive', 'peer', keyB, 'persistent-keepalive', '0'),
      wg('the port', 'listen-port', '4000'),
      wg('the key', 'private-key', '/dev/null'),
      ['the device', 'ip', ['link', 'del', 'flannel-wg'], isWhole],
      ['the device down', 'ip', ['link', 'set', 'flannel-wg', 'down'], isWhole],
      ['its MTU', 'ip', ['link', 'set', 'flannel-wg', 'mtu', '1300'], isWhole],
      ['the network’s route', 'ip', ['route', 'del', '10.244.0.0/16'], isWhole],
      ['the address', 'ip', ['addr', 'del', '10.244.0.0/32', 'dev', 'flannel-wg'], isWhole],
    ],
    peers,
  )
  a.run('wg', 'set', 'flannel-wg', 'peer', Buffer.alloc(32, 9).toString('base64'), 'allowed-ips', '10.244.9.0/24')
  await until('a foreign peer is taken away', isWhole)
  pings(pod, '10.244.1.2')
}

async function hostile({ cluster, a, keyA, keyB, honest, wanted, peers, pod }: Made): Promise<void> {
  for (const [reason, annotations] of [
    ['key-taken', { 'backend-data': `{"PublicKey":"${keyB}","Port":51820}` }],
    ['own-key', { 'backend-data': `{"PublicKey":"${keyA}","Port":51820}` }],
    ['unreadable', { 'backend-data': `{"PublicKey":"${'$(reboot)'.padEnd(44, 'A')}"}` }],
    // As long as all annotations of an object may be together.
    ['unreadable', { 'backend-data': 'x'.repeat(250_000) }],
    ['own-address', { 'public-ip': a.address }],
  ] as const) {
    const metric = `heddle_peer_refusals_total{reason="${reason}"}`
    const counted = await a.metric(metric)
    await cluster.annotate('node-2', { ...honest, ...annotations })
    await until(`refused: ${reason}`, async () => (await a.metric(metric)) > counted)
    const [others, all] = [peersOf(a), wanted].map((list) => JSON.stringify(list.filter(([key]) => key === keyB)))
    assert.equal(others, all, reason)
  }
  // More than that the API server itself refuses.
  await assert.rejects(cluster.annotate('node-2', { 'backend-data': 'x'.repeat(10_000_000) }), { status: 413 })
  pings(pod, '10.244.1.2')
  await cluster.annotate('node-2', honest)
  await until('the honest word is believed again', () => peers() === JSON.stringify(wanted) || peers())

  // Another key, as after a lost disk: the old peer goes.
  const fresh = Buffer.alloc(32, 9).toString('base64')
  await cluster.annotate('node-2', { 'backend-data': `{"PublicKey":"${fresh}","Port":51830}` })
  const expected = JSON.stringify([[fresh, PSK, '198.51.100.3:51830', '10.244.2.0/24', '25']])
  const others = (): string => JSON.stringify(peersOf(a).filter(([key]) => key !== keyB))
  await until('the new key has taken over', () => others() === expected || others())
  const { nodes } = await import('#kube/resources.ts')
  await cluster.client.delete(nodes, { name: 'node-2' })
  await until('a peer that goes leaves nothing', () => peersOf(a).length === 1)
  pings(pod, '10.244.1.2')
}

const modes = [
  { mode: 'separate', endpoint: '192.0.2.2:51820' },
  { mode: 'auto', endpoint: '192.0.2.2:51820' },
  { mode: 'ipv6', endpoint: '[2001:db8::2]:51820' },
] as const

test('wireguard, both families, from one mode to the next', { skip, timeout: LIMIT_MS }, async (t) => {
  const backend = (mode: string): object => ({ Type: 'wireguard', Mode: mode })
  await using cluster = await TestCluster.open({ nodes: 2, ipv6: true, backend: backend('separate') })
  const [a, b] = [cluster.node(0), cluster.node(1)]
  const from = cluster.pod(a)
  cluster.pod(b)
  for (const { mode, endpoint } of modes)
    await t.test(mode, async () => {
      for (const node of cluster.nodes) {
        await cluster.stop(node)
        cluster.configure(node, { backend: backend(mode) })
      }
      cluster.startAll()
      await cluster.ready()
      const keyB = keyOf(b)
      await until('the peer is there', () => peersOf(a)[0]?.[2] === endpoint || JSON.stringify(peersOf(a)))
      if (mode === 'separate') {
        assert.deepEqual(peersOf(a), [[keyB, '(none)', endpoint, '10.244.1.0/24', 'off']])
        await until('the other peer is there', () => peersOf(a, 'flannel-wg-v6').length === 1)
        assert.deepEqual(peersOf(a, 'flannel-wg-v6'), [
          [keyB, '(none)', '[2001:db8::2]:51821', 'fd00:244:0:1::/64', 'off'],
        ])
      } else {
        assert.deepEqual(peersOf(a)[0]?.[3]?.split(',').toSorted(), ['10.244.1.0/24', 'fd00:244:0:1::/64'])
        await until('no other device is left', () => !a.run('ip', '-br', 'link').includes('flannel-wg-v6'))
      }
      pings(from, '10.244.1.2')
      pings(from, 'fd00:244:0:1::2')
    })
})
