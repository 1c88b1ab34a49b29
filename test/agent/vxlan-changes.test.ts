/** VXLAN's options, and what changes under a running network: VNI, port, MTU, addresses, the interface between nodes itself. */

import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'

import { needsRoot, run, TestCluster, until, type TestNode } from './cluster.ts'
import { repairs } from './damage.ts'

const pings = (ns: string, to: string, ...options: readonly string[]): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.1', '-W', '2', ...options, to), / 0% packet loss/, to)

const linkOf = (node: TestNode, dev: string): string => node.run('ip', '-d', 'link', 'show', dev)

const tooBig = (ns: string, to: string, size: number, mtu: number): void => {
  assert.throws(
    () => run(ns, 'ping', '-c', '1', '-W', '2', '-M', 'do', '-s', String(size), to),
    (error: Error & { stdout?: string }) =>
      new RegExp(`([Ff]rag needed|Packet too big).*mtu\\s*=\\s*${mtu}`).test(error.stdout ?? ''),
  )
}

test(
  'every option reaches the device; VNI and port change with a restart, and nothing of the old stays',
  { skip: needsRoot },
  async () => {
    const backend = {
      Type: 'VXLAN',
      vni: 7,
      Port: 4789,
      MTU: 1400,
      GBP: true,
      Learning: true,
      MacPrefix: '0E-2A',
      Name: 'x',
    }
    await using cluster = await TestCluster.open({ nodes: 2, backend })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const [from] = [cluster.pod(a), cluster.pod(b)]
    const device = linkOf(a, 'flannel.7')
    for (const part of [/mtu 1350 /, /vxlan id 7 local 192\.0\.2\.1 dev eth0 /, / dstport 4789 /, / gbp/])
      assert.match(device, part)
    assert.doesNotMatch(device, /nolearning/)
    assert.match(a.run('cat', a.subnetFile), /FLANNEL_MTU=1350/)
    pings(from, '10.244.1.2')
    run(from, 'ip', 'link', 'set', 'eth0', 'mtu', '1500')
    tooBig(from, '10.244.1.2', 1323, 1350)
    pings(from, '10.244.1.2', '-M', 'do', '-s', '1322')

    const mac = /link\/ether (\S+)/.exec(device)?.[1]
    await cluster.stop(b)
    cluster.configure(b, { backend: { Type: 'vxlan', VNI: 9, Port: 8472 } })
    cluster.start(b)
    await cluster.ready(b)
    await until(
      'the node with another VNI is refused',
      async () => (await a.metric('heddle_peers_refused{reason="vni-differs"}')) === 1,
    )
    await until('the old device is gone', () => !b.run('ip', '-br', 'link').includes('flannel.7'))
    await cluster.stop(a)
    cluster.configure(a, { backend: { Type: 'vxlan', VNI: 9, Port: 8472 } })
    cluster.start(a)
    await cluster.ready(a)
    await until('the tunnel is there', () =>
      a.run('ip', 'route').includes('10.244.1.0/24 via 10.244.1.0 dev flannel.9'),
    )
    assert.equal(/link\/ether (\S+)/.exec(linkOf(a, 'flannel.9'))?.[1], mac, 'the MAC is the node’s')
    await until('nothing of the old stays', () => !a.run('ip', '-br', 'link').includes('flannel.7'))
    await until('the peer believes us again', () =>
      b.run('ip', 'route').includes('10.244.0.0/24 via 10.244.0.0 dev flannel.9'),
    )
    pings(from, '10.244.1.2')
    for (const node of [a, b]) {
      await cluster.stop(node)
      cluster.configure(node, { backend: { Type: 'vxlan', VNI: 9, Port: 4790 } })
      cluster.start(node)
    }
    await cluster.ready()
    await until('another port makes the device anew', () => / dstport 4790 /.test(linkOf(a, 'flannel.9')))
    await until('with all that stands on it', () => / dstport 4790 /.test(linkOf(b, 'flannel.9')))
    pings(from, '10.244.1.2')
  },
)

test(
  'IPv6 alone: annotations, subnet.env, MTU, drift, another address',
  { skip: needsRoot },
  async (t: TestContext) => {
    await using cluster = await TestCluster.open({ nodes: 2, ipv6: true, conf: { EnableIPv4: false } })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const own = await cluster.annotations('node-0')
    assert.deepEqual(Object.keys(own).toSorted(), [
      'backend-data',
      'backend-type',
      'backend-v6-data',
      'kube-subnet-manager',
      'public-ipv6',
    ])
    assert.equal(
      a.run('cat', a.subnetFile),
      'FLANNEL_IPV6_NETWORK=fd00:244::/32\nFLANNEL_IPV6_SUBNET=fd00:244::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n',
    )
    assert.equal(a.run('ip', '-br', 'link').includes('flannel.1 '), false)
    const from = cluster.pod(a)
    cluster.pod(b)
    const peer = 'fd00:244:0:1::2'
    await until('the route is there', () =>
      a.run('ip', '-6', 'route').includes('fd00:244:0:1::/64 via fd00:244:0:1:: dev flannel-v6.1'),
    )
    pings(from, peer)
    pings(from, peer, '-M', 'do', '-s', '1382')
    tooBig(from, peer, 1383, 1430)
    const mac = /link\/ether (\S+)/.exec(linkOf(b, 'flannel-v6.1'))?.[1] ?? ''
    const isWhole = (): boolean =>
      /fd00:244:0:1::\/64 via fd00:244:0:1:: dev flannel-v6\.1 .*onlink/.test(a.run('ip', '-6', 'route')) &&
      a.run('ip', '-6', 'neigh', 'show', 'fd00:244:0:1::').includes(`${mac} PERMANENT`) &&
      a.run('bridge', 'fdb', 'show', 'dev', 'flannel-v6.1').includes(`${mac} dst ${b.address6}`) &&
      a.run('ip', '-6', 'addr', 'show', 'dev', 'flannel-v6.1').includes('fd00:244::/128') &&
      a.run('cat', '/proc/sys/net/ipv6/conf/flannel-v6.1/accept_ra').trim() === '0' &&
      a.run('cat', '/proc/sys/net/ipv6/conf/all/forwarding').trim() === '1'
    const neigh = ['neigh', 'del', 'fd00:244:0:1::', 'dev', 'flannel-v6.1']
    await repairs(
      t,
      a,
      [
        ['the route', 'ip', ['-6', 'route', 'del', 'fd00:244:0:1::/64'], isWhole],
        ['the neighbour', 'ip', ['-6', ...neigh], isWhole],
        ['the FDB entry', 'bridge', ['fdb', 'del', mac, 'dev', 'flannel-v6.1', 'self'], isWhole],
        ['the address', 'ip', ['-6', 'addr', 'del', 'fd00:244::/128', 'dev', 'flannel-v6.1'], isWhole],
        ['the device', 'ip', ['link', 'del', 'flannel-v6.1'], isWhole],
        ['accept_ra', 'sysctl', ['-qw', 'net.ipv6.conf.flannel-v6/1.accept_ra=1'], isWhole],
        ['forwarding', 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=0'], isWhole],
      ],
      () => a.run('ip', '-6', 'route', 'show', 'fd00:244:0:1::/64'),
    )
    pings(from, peer)
    a.run('ip', 'addr', 'add', '2001:db8::99/64', 'dev', 'eth0', 'nodad')
    a.run('ip', 'addr', 'del', `${a.address6}/64`, 'dev', 'eth0')
    await until(
      'the annotation follows',
      async () => (await cluster.annotations('node-0'))['public-ipv6'] === '2001:db8::99',
    )
    await until('the device follows', () => linkOf(a, 'flannel-v6.1').includes('local 2001:db8::99'))
    await until('the peer follows', () =>
      b.run('bridge', 'fdb', 'show', 'dev', 'flannel-v6.1').includes('dst 2001:db8::99'),
    )
    pings(from, peer)
  },
)

test(
  'the interface between nodes is taken away and made anew: everything comes back',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const from = cluster.pod(a)
    cluster.pod(b)
    pings(from, '10.244.1.2')
    a.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:aa:01')
    b.run('ip', 'neigh', 'flush', 'dev', 'eth0')
    pings(from, '10.244.1.2')
    a.run('ip', 'link', 'del', 'eth0')
    await until('the tunnel goes with it', () => !a.run('ip', '-br', 'link').includes('flannel.1'))
    const link = [
      'link',
      'add',
      'v0',
      'mtu',
      '1400',
      'master',
      'near',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'mtu',
      '1400',
    ]
    run(cluster.switch, 'ip', ...link, 'netns', a.ns)
    run(cluster.switch, 'ip', 'link', 'set', 'v0', 'up')
    a.run('ip', 'addr', 'add', `${a.address}/24`, 'dev', 'eth0')
    a.run('ip', 'link', 'set', 'eth0', 'up')
    a.run('ip', 'route', 'add', 'default', 'via', '192.0.2.254')
    await until('the device is back, with the new MTU', () => /mtu 1350 /.test(linkOf(a, 'flannel.1')), 10_000)
    await until(
      'and the route',
      () => a.run('ip', 'route').includes('10.244.1.0/24 via 10.244.1.0 dev flannel.1'),
      10_000,
    )
    pings(from, '10.244.1.2')
  },
)
