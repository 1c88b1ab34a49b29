import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'

import { needsRoot, run, TestCluster, until } from './cluster.ts'

/** What issue and design promise. */
const PROMISE = 2_000

test('what an outsider removes or changes is back within 2 s, and counted', { skip: needsRoot }, async (t) => {
  await using cluster = await TestCluster.open({ nodes: 2 })
  cluster.startAll()
  await cluster.ready()
  const a = cluster.node(0)
  const b = cluster.node(1)
  const from = cluster.pod(a)
  cluster.pod(b)
  const mac = String(b.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
  const own = String(a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
  const route = (): string => a.run('ip', 'route', 'show', '10.244.1.0/24')
  const neigh = (): string => a.run('ip', 'neigh', 'show', '10.244.1.0')
  const fdb = (): string => a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1')
  const link = (): Record<string, unknown> => a.json('ip', 'link', 'show', 'flannel.1')[0] ?? {}
  const whole = (): boolean =>
    /dev flannel\.1 .*onlink/.test(route()) && /PERMANENT/.test(neigh()) && fdb().includes(`${mac} dst ${b.address}`)

  const damage: readonly (readonly [string, string, readonly string[], () => boolean])[] = [
    ['the route', 'ip', ['route', 'del', '10.244.1.0/24'], whole],
    ['the route, replaced by another', 'ip', ['route', 'replace', '10.244.1.0/24', 'via', '192.0.2.254'], whole],
    ['the neighbour', 'ip', ['neigh', 'del', '10.244.1.0', 'dev', 'flannel.1'], whole],
    [
      'the neighbour’s MAC',
      'ip',
      ['neigh', 'replace', '10.244.1.0', 'lladdr', '02:00:00:00:00:99', 'dev', 'flannel.1', 'nud', 'permanent'],
      () => neigh().includes(mac),
    ],
    ['the FDB entry', 'bridge', ['fdb', 'del', mac, 'dev', 'flannel.1', 'self'], whole],
    [
      'the FDB entry’s destination',
      'bridge',
      ['fdb', 'replace', mac, 'dst', '192.0.2.99', 'dev', 'flannel.1', 'self', 'permanent'],
      whole,
    ],
    ['the device', 'ip', ['link', 'del', 'flannel.1'], () => whole() && link()['address'] === own],
    ['the device down', 'ip', ['link', 'set', 'flannel.1', 'down'], whole],
    [
      'the device’s MAC',
      'ip',
      ['link', 'set', 'flannel.1', 'address', '02:00:00:00:00:98'],
      () => link()['address'] === own,
    ],
    ['the device’s MTU', 'ip', ['link', 'set', 'flannel.1', 'mtu', '1300'], () => link()['mtu'] === 1450],
    [
      'the address',
      'ip',
      ['addr', 'del', '10.244.0.0/32', 'dev', 'flannel.1'],
      () => a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.1').includes('10.244.0.0/32'),
    ],
    [
      'the nft table',
      'nft',
      ['delete', 'table', 'inet', 'heddle_flannel'],
      () => a.run('nft', 'list', 'tables').includes('heddle_flannel'),
    ],
    [
      'all of nft',
      'nft',
      ['flush', 'ruleset'],
      () => a.run('nft', 'list', 'ruleset').includes('masquerade fully-random'),
    ],
    [
      'a rule of the table',
      'nft',
      ['flush', 'chain', 'inet', 'heddle_flannel', 'postrouting'],
      () => a.run('nft', 'list', 'ruleset').includes('masquerade fully-random'),
    ],
    [
      'forwarding',
      'sysctl',
      ['-qw', 'net.ipv4.ip_forward=0'],
      () => a.run('cat', '/proc/sys/net/ipv4/ip_forward').trim() === '1',
    ],
  ]
  for (const [what, program, args, isMended] of damage) {
    await t.test(what, async () => {
      const before = await a.metric('heddle_repairs_total')
      a.run(program, ...args)
      const took = await until(`${what} is repaired`, isMended, PROMISE + 500)
      assert.ok(took <= PROMISE, `took ${Math.round(took)} ms`)
      await until('it is counted', async () => {
        const { body } = await a.get('/metrics')
        const sum = body
          .split('\n')
          .filter((line) => line.startsWith('heddle_repairs_total{'))
          .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0)
        return sum > before
      })
    })
  }
  assert.match(run(from, 'ping', '-c', '3', '-i', '0.05', '-W', '2', '10.244.1.2'), / 0% packet loss/)
})

test('what is not ours is left alone', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 1 })
  const a = cluster.node(0)
  a.run('ip', 'route', 'add', '203.0.113.0/24', 'via', '192.0.2.254')
  a.run('nft', 'add', 'table', 'ip', 'foreign')
  a.run('ip', 'link', 'add', 'vxlan9', 'type', 'vxlan', 'id', '9', 'dev', 'eth0', 'dstport', '4789')
  cluster.start(a)
  await cluster.ready()
  assert.match(a.run('ip', 'route'), /203\.0\.113\.0\/24 via 192\.0\.2\.254/)
  assert.match(a.run('nft', 'list', 'tables'), /table ip foreign/)
  assert.match(a.run('ip', 'link'), /vxlan9/)
})

test('the subnet file comes back, and follows the podCIDR', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 1 })
  const a = cluster.node(0)
  cluster.start(a)
  await cluster.ready()
  rmSync(a.subnetFile)
  await until(
    'subnet.env is back',
    () => {
      try {
        return a.run('cat', a.subnetFile).includes('FLANNEL_SUBNET=10.244.0.1/24')
      } catch {
        return false
      }
    },
    PROMISE,
  )
})

test('the underlay is followed: MTU and address', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2 })
  cluster.startAll()
  await cluster.ready()
  const a = cluster.node(0)
  a.run('ip', 'link', 'set', 'eth0', 'mtu', '1400')
  await until('the device follows the MTU', () => a.json('ip', 'link', 'show', 'flannel.1')[0]?.['mtu'] === 1350)
  await until('subnet.env too', () => a.run('cat', a.subnetFile).includes('FLANNEL_MTU=1350'))
  a.run('ip', 'addr', 'add', '192.0.2.200/24', 'dev', 'eth0')
  a.run('ip', 'addr', 'del', `${a.address}/24`, 'dev', 'eth0')
  // Deleting the primary address takes the secondary ones along, unless told otherwise: the route too.
  a.run('ip', 'addr', 'replace', '192.0.2.200/24', 'dev', 'eth0')
  await until(
    'the annotation follows the address',
    async () => (await cluster.annotations('node-0'))['public-ip'] === '192.0.2.200',
  )
  const b = cluster.node(1)
  await until('the peer follows', () => b.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').includes('dst 192.0.2.200'))
  const from = cluster.pod(a)
  cluster.pod(b)
  assert.match(run(from, 'ping', '-c', '3', '-i', '0.05', '-W', '2', '10.244.1.2'), / 0% packet loss/)
})
