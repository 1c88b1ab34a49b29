/** The backends without a tunnel: host-gw in both families, alloc, and extension, whose commands make the network. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { needsRoot, run, TestCluster, until } from './cluster.ts'
import { repairs } from './damage.ts'

const pings = (ns: string, to: string, ...options: readonly string[]): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.1', '-W', '2', ...options, to), / 0% packet loss/, to)

test('host-gw in both families: routes, the whole MTU, drift', { skip: needsRoot }, async (t) => {
  await using cluster = await TestCluster.open({ nodes: 2, ipv6: true, backend: { Type: 'host-gw' } })
  cluster.startAll()
  await cluster.ready()
  const [a, b] = [cluster.node(0), cluster.node(1)]
  const own = await cluster.annotations('node-0')
  assert.deepEqual([own['backend-data'], own['backend-v6-data'], own['public-ipv6']], ['null', 'null', a.address6])
  const isWhole = (): boolean =>
    /10\.244\.1\.0\/24 via 192\.0\.2\.2 dev eth0/.test(a.run('ip', 'route')) &&
    /fd00:244:0:1::\/64 via 2001:db8::2 dev eth0/.test(a.run('ip', '-6', 'route'))
  await until('the routes are there', isWhole)
  const [from, to] = [cluster.pod(a), cluster.pod(b)]
  for (const [peer, most] of [
    ['10.244.1.2', 1472],
    ['fd00:244:0:1::2', 1452],
  ] as const) {
    pings(from, peer, '-M', 'do', '-s', String(most))
    assert.throws(() => run(from, 'ping', '-c', '1', '-M', 'do', '-s', String(most + 1), peer))
  }
  await repairs(
    t,
    a,
    [
      ['the route', 'ip', ['route', 'del', '10.244.1.0/24'], isWhole],
      ['the route, led elsewhere', 'ip', ['route', 'replace', '10.244.1.0/24', 'via', '192.0.2.254'], isWhole],
      ['the IPv6 route', 'ip', ['-6', 'route', 'del', 'fd00:244:0:1::/64'], isWhole],
      [
        'the interface down and up',
        'sh',
        ['-c', 'ip link set eth0 down; ip link set eth0 up'],
        () => a.run('ip', 'route').includes('10.244.1.0/24 via 192.0.2.2'),
      ],
    ],
    () => a.run('ip', 'route', 'show', '10.244.1.0/24'),
  )
  pings(to, '10.244.0.2')
})

test('alloc: subnets, annotations and rules; not one route', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: 'alloc' } })
  const a = cluster.node(0)
  const before = a.run('ip', 'route')
  cluster.startAll()
  await cluster.ready()
  assert.equal((await cluster.annotations('node-0'))['backend-type'], 'alloc')
  assert.match(a.run('cat', a.subnetFile), /FLANNEL_SUBNET=10\.244\.0\.1\/24\nFLANNEL_MTU=1500\n/)
  await until('the peer is known', async () => (await a.metric('heddle_peers')) === 1)
  assert.equal(a.run('ip', 'route'), before)
})

const extension = {
  Type: 'extension',
  PreStartupCommand: ['printf', 'key "%s"', 'of this node'],
  PostStartupCommand: ['sh', '-c', 'echo "$SUBNET of $NETWORK at $PUBLIC_IP" >>"$0"', 'ROOT/post'],
  SubnetAddCommand: [
    'sh',
    '-c',
    'echo "add $1 $2 $(cat)" >>"$0"; exec ip route add "$1" via "$2"',
    'ROOT/log',
    '$SUBNET',
    '$PUBLIC_IP',
  ],
  SubnetRemoveCommand: 'ip route del $SUBNET via $PUBLIC_IP',
  ShutdownCommand: ['sh', '-c', 'echo "end of $SUBNET" >>"$0"', 'ROOT/log'],
}

test(
  'extension: off unless allowed; then the commands make the network, and follow it',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2, backend: extension })
    const [a, b] = [cluster.node(0), cluster.node(1)]
    for (const node of cluster.nodes)
      cluster.configure(node, { backend: JSON.parse(JSON.stringify(extension).replaceAll('ROOT', node.root)) })
    cluster.start(a)
    await until(
      'it is refused, and why',
      async () => {
        const { body } = await a.get('/readyz')
        return body.includes('--allow-extension-commands') || body
      },
      15_000,
    )
    await cluster.stop(a)
    for (const node of cluster.nodes) cluster.start(node, '--allow-extension-commands')
    await cluster.ready()
    assert.deepEqual(await cluster.annotations('node-0'), {
      'kube-subnet-manager': 'true',
      'backend-type': 'extension',
      'backend-data': '"key \\"of this node\\""',
      'public-ip': a.address,
    })
    await until(
      'each has a route to the other',
      () =>
        a.run('ip', 'route').includes('10.244.1.0/24 via 192.0.2.2') &&
        b.run('ip', 'route').includes('10.244.0.0/24 via 192.0.2.1'),
    )
    const [from] = [cluster.pod(a), cluster.pod(b)]
    pings(from, '10.244.1.2')
    const log = (): string[] => readFileSync(join(a.root, 'log'), 'utf8').trim().split('\n')
    assert.equal(readFileSync(join(a.root, 'post'), 'utf8'), '10.244.0.0/24 of 10.244.0.0/16 at 192.0.2.1\n')
    assert.deepEqual(log(), ['add 10.244.1.0/24 192.0.2.2 key "of this node"'])

    // Killed and started again: nothing is done twice, and traffic goes on.
    await cluster.stop(a, 'SIGKILL')
    pings(from, '10.244.1.2')
    cluster.start(a, '--allow-extension-commands')
    await cluster.ready(a)
    assert.deepEqual(log(), ['add 10.244.1.0/24 192.0.2.2 key "of this node"'])

    // What a peer says is data: a shell in it is text on standard input, and what is no JSON string is refused.
    await cluster.stop(b)
    await cluster.annotate('node-1', { 'backend-data': '"; touch /tmp/x #"' })
    await until(
      'the new word is passed on',
      () => log().at(-1) === 'add 10.244.1.0/24 192.0.2.2 ; touch /tmp/x #' || log(),
    )
    await cluster.annotate('node-1', { 'backend-data': '{"x":1}' })
    await until('it is refused', async () => (await a.metric('heddle_peers_refused{reason="unreadable"}')) === 1)
    pings(from, '10.244.1.2')

    // A peer that goes while no agent runs is undone by the next one.
    await cluster.stop(a)
    assert.equal(log().at(-1), 'end of 10.244.0.0/24')
    const { nodes } = await import('#kube/resources.ts')
    await cluster.client.delete(nodes, { name: 'node-1' })
    cluster.start(a, '--allow-extension-commands')
    await cluster.ready(a)
    await until('its route is gone', () => !a.run('ip', 'route').includes('10.244.1.0/24'))
  },
)
