/** Backends without data of their own: hostile nodes, packets that are too long, and each family for itself. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { needsRoot, run, TestCluster, until } from './cluster.ts'
import { hostileNode } from './hostile.ts'

test('host-gw: a hostile node changes nothing for others', { skip: needsRoot }, () =>
  hostileNode({ backend: { Type: 'host-gw' }, type: 'host-gw', more: [['not-on-link', '198.51.100.9']] }),
)

test('udp: a hostile node changes nothing for others', { skip: needsRoot }, () =>
  hostileNode({ backend: { Type: 'udp' }, type: '' }),
)

test(
  'host-gw: pods with longer packets are told by ICMP; each family follows by itself',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2, ipv6: true, backend: { Type: 'host-gw' } })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const from = cluster.pod(a)
    cluster.pod(b)
    // As after the interface between nodes has become narrower than pods know.
    a.run('ip', 'link', 'set', 'pod0', 'mtu', '1600')
    run(from, 'ip', 'link', 'set', 'eth0', 'mtu', '1600')
    for (const [peer, most, said] of [
      ['10.244.1.2', 1472, /Frag needed.*mtu = 1500/i],
      ['fd00:244:0:1::2', 1452, /Packet too big.*mtu\s*=\s*1500/i],
    ] as const) {
      const ping = (size: number): string =>
        run(from, 'ping', '-c', '1', '-W', '3', '-M', 'do', '-s', String(size), peer)
      await until(`${peer} is reached`, () => / 0% packet loss/.test(ping(most)), 10_000)
      assert.throws(
        () => ping(most + 1),
        (error: Error & { stdout?: string }) => said.test(error.stdout ?? ''),
      )
    }

    await cluster.stop(b)
    const routes = (family: '-4' | '-6', subnet: string): string => a.run('ip', family, 'route', 'show', subnet).trim()
    const v4 = (): string => routes('-4', '10.244.1.0/24')
    const v6 = (): string => routes('-6', 'fd00:244:0:1::/64')
    const [first4, first6] = [v4(), v6()]
    await cluster.annotate(b.name, { 'public-ip': '192.0.2.77' })
    await until('IPv4 follows', () => v4().includes('via 192.0.2.77'), 10_000)
    assert.equal(v6(), first6)
    await cluster.annotate(b.name, { 'public-ip': b.address, 'public-ipv6': '2001:db8::77' })
    await until('IPv6 follows', () => v6().includes('via 2001:db8::77') && v4() === first4, 10_000)
    // Nonsense in one family keeps what it had, and the other one still follows.
    await cluster.annotate(b.name, { 'public-ipv6': 'nonsense', 'public-ip': '192.0.2.78' })
    await until('IPv4 follows', () => v4().includes('via 192.0.2.78'), 10_000)
    assert.match(v6(), /via 2001:db8::77/)
  },
)
