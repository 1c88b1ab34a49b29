import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsKernel } from '../kernel-features.ts'
import { run, TestCluster, until } from './cluster.ts'
import { hostileNode } from './hostile.ts'
import { repairs } from './damage.ts'

const pings = (ns: string, to: string, ...options: readonly string[]): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.2', '-W', '5', ...options, to), / 0% packet loss/, to)

test('ipip: device, routes, MTU; what outsiders do to it is mended', { skip: needsKernel('ipip') }, async (t) => {
  await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: 'ipip' } })
  cluster.startAll()
  await cluster.ready()
  const [a, b] = [cluster.node(0), cluster.node(1)]
  const own = await cluster.annotations('node-0')
  assert.deepEqual(own, {
    'kube-subnet-manager': 'true',
    'backend-type': 'ipip',
    'backend-data': 'null',
    'public-ip': a.address,
  })
  const route = (): string => a.run('ip', 'route', 'show', '10.244.1.0/24')
  const link = (): string => a.run('ip', '-d', 'link', 'show', 'flannel.ipip')
  await until('the route is there', () => /via 192\.0\.2\.2 dev flannel\.ipip .*onlink/.test(route()))
  assert.match(link(), /mtu 1480 /)
  assert.match(link(), /ipip (ipip )?remote any local 192\.0\.2\.1 .*nopmtudisc/)
  assert.match(a.run('cat', a.subnetFile), /FLANNEL_MTU=1480/)

  const from = cluster.pod(a)
  const to = cluster.pod(b)
  for (const ns of [from, to]) run(ns, 'ip', 'link', 'set', 'eth0', 'mtu', '1480')
  pings(from, '10.244.1.2')
  pings(from, '10.244.1.2', '-M', 'do', '-s', '1452')
  run(from, 'ip', 'link', 'set', 'eth0', 'mtu', '1500')
  assert.throws(
    () => run(from, 'ping', '-c', '1', '-W', '2', '-M', 'do', '-s', '1453', '10.244.1.2'),
    (error: Error & { stdout?: string }) => /[Ff]rag needed.*mtu = 1480/.test(error.stdout ?? ''),
  )
  // From the node itself to a pod: by the tunnel's own address, which the peer can answer.
  assert.match(a.run('ping', '-c', '2', '-i', '0.2', '-W', '5', '10.244.1.2'), / 0% packet loss/)

  const isWhole = (): boolean =>
    /via 192\.0\.2\.2 dev flannel\.ipip .*onlink/.test(route()) &&
    /[<,]UP[,>].* mtu 1480 /.test(link()) &&
    /remote any local 192\.0\.2\.1 /.test(link()) &&
    a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.ipip').includes('10.244.0.0/32')
  await repairs(
    t,
    a,
    [
      ['the route', 'ip', ['route', 'del', '10.244.1.0/24'], isWhole],
      ['the route, led elsewhere', 'ip', ['route', 'replace', '10.244.1.0/24', 'via', '192.0.2.254'], isWhole],
      ['the device', 'ip', ['link', 'del', 'flannel.ipip'], isWhole],
      ['the device down', 'ip', ['link', 'set', 'flannel.ipip', 'down'], isWhole],
      ['its MTU', 'ip', ['link', 'set', 'flannel.ipip', 'mtu', '1300'], isWhole],
      [
        'its local end',
        'ip',
        ['link', 'change', 'flannel.ipip', 'type', 'ipip', 'local', '192.0.2.77', 'remote', 'any'],
        isWhole,
      ],
      ['its address', 'ip', ['addr', 'del', '10.244.0.0/32', 'dev', 'flannel.ipip'], isWhole],
    ],
    route,
  )
  pings(from, '10.244.1.2')

  a.run('ip', 'addr', 'add', '192.0.2.200/24', 'dev', 'eth0')
  a.run('ip', 'addr', 'del', `${a.address}/24`, 'dev', 'eth0')
  a.run('ip', 'addr', 'replace', '192.0.2.200/24', 'dev', 'eth0')
  await until('the device follows the node’s address', () => link().includes('local 192.0.2.200 '))
  await until('so does the peer', () =>
    b.run('ip', 'route', 'show', '10.244.0.0/24').includes('via 192.0.2.200 dev flannel.ipip'),
  )
  pings(from, '10.244.1.2')
})

test(
  'ipip with DirectRouting: plain within a network, tunnel across, and it may be one-sided',
  { skip: needsKernel('ipip') },
  async () => {
    await using cluster = await TestCluster.open({
      nodes: 3,
      farFrom: 2,
      backend: { Type: 'ipip', DirectRouting: true },
    })
    const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
    cluster.configure(b, { backend: { Type: 'ipip' } })
    cluster.startAll()
    await cluster.ready()
    await until(
      'the routes are there',
      () =>
        a.run('ip', 'route', 'show', '10.244.1.0/24').includes('via 192.0.2.2 dev eth0') &&
        a.run('ip', 'route', 'show', '10.244.2.0/24').includes('via 198.51.100.3 dev flannel.ipip') &&
        b.run('ip', 'route', 'show', '10.244.0.0/24').includes('via 192.0.2.1 dev flannel.ipip') &&
        b.run('ip', 'route', 'show', '10.244.2.0/24').includes('dev flannel.ipip') &&
        c.run('ip', 'route', 'show', '10.244.0.0/24').includes('dev flannel.ipip') &&
        c.run('ip', 'route', 'show', '10.244.1.0/24').includes('dev flannel.ipip'),
    )
    const pods = cluster.nodes.map((node) => cluster.pod(node))
    for (const from of pods) for (const node of cluster.nodes) pings(from, `${node.subnet}.2`)
  },
)

test('ipip: a hostile node changes nothing for others', { skip: needsKernel('ipip') }, () =>
  hostileNode({ backend: { Type: 'ipip' }, type: 'ipip' }),
)
