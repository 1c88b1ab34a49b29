import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

import { needsRoot, run, TestCluster, until } from './cluster.ts'

const pings = (ns: string, to: string): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.05', '-W', '2', to), / 0% packet loss/, to)

test('DirectRouting: plain routes within a network, the tunnel across', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({
    nodes: 3,
    farFrom: 2,
    backend: { Type: 'vxlan', DirectRouting: true },
  })
  cluster.startAll()
  await cluster.ready()
  const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  await until(
    'all peers are there',
    () =>
      a.run('ip', 'route').includes('10.244.2.0/24') &&
      c.run('ip', 'route').includes('10.244.0.0/24') &&
      c.run('ip', 'route').includes('10.244.1.0/24') &&
      b.run('ip', 'route').includes('10.244.0.0/24'),
  )
  assert.match(a.run('ip', 'route', 'show', '10.244.1.0/24'), /via 192\.0\.2\.2 dev eth0/)
  assert.match(a.run('ip', 'route', 'show', '10.244.2.0/24'), /via 10\.244\.2\.0 dev flannel\.1/)
  assert.equal(
    a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').trim().split('\n').length,
    1,
    'no FDB entry for a direct peer',
  )
  const pods = cluster.nodes.map((node) => cluster.pod(node))
  for (const from of pods) for (const node of cluster.nodes) pings(from, `${node.subnet}.2`)
})

test(
  'host-gw: routes only; a peer that is not on-link is refused, logged and counted',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 3, farFrom: 2, backend: { Type: 'host-gw' } })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    assert.match(a.run('ip', 'route', 'show', '10.244.1.0/24'), /via 192\.0\.2\.2 dev eth0/)
    assert.match(a.run('cat', a.subnetFile), /FLANNEL_MTU=1500/)
    assert.equal(a.run('ip', '-br', 'link').includes('flannel'), false)
    const own = await cluster.annotations('node-0')
    assert.deepEqual([own['backend-type'], own['backend-data']], ['host-gw', 'null'])
    await until(
      'the refusal is counted',
      async () => (await a.metric('heddle_peers_refused{reason="not-on-link"}')) === 1,
    )
    assert.match(a.log, /node node-2: IPv4 lease refused: 198\.51\.100\.3 is not on the network of eth0/)
    const from = cluster.pod(a)
    cluster.pod(b)
    pings(from, '10.244.1.2')
  },
)

test('dual stack: both families, each by itself, with the MTU that IPv6 leaves', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2, ipv6: true })
  cluster.startAll()
  await cluster.ready()
  const [a, b] = [cluster.node(0), cluster.node(1)]
  assert.equal(
    a.run('cat', a.subnetFile),
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_IPV6_NETWORK=fd00:244::/32\nFLANNEL_IPV6_SUBNET=fd00:244::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n',
  )
  const own = await cluster.annotations('node-0')
  assert.equal(own['public-ipv6'], '2001:db8::1')
  assert.match(own['backend-v6-data'] ?? '', /^\{"VNI":1,"VtepMAC":"[0-9a-f:]{17}"\}$/)
  assert.match(a.run('ip', '-6', 'route', 'show', 'fd00:244:0:1::/64'), /via fd00:244:0:1:: dev flannel-v6\.1 .*onlink/)
  const from = cluster.pod(a)
  cluster.pod(b)
  pings(from, '10.244.1.2')
  pings(from, 'fd00:244:0:1::2')
  // A change of IPv4 alone is seen in spite of an unchanged IPv6 half.
  await cluster.stop(b)
  await cluster.annotate('node-1', { 'backend-data': '{"VNI":1,"VtepMAC":"02:aa:bb:cc:dd:01"}' })
  await until('the IPv4 entry follows', () =>
    a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').includes('02:aa:bb:cc:dd:01'),
  )
  pings(from, 'fd00:244:0:1::2')
})

test(
  'masquerade: pods leave with the node’s address, and stay themselves among pods',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const from = cluster.pod(a)
    const to = cluster.pod(b)
    const seenBy = async (ns: string, target: string): Promise<string> => {
      const listen = promisify(execFile)('nsenter', [
        `--net=/run/netns/${ns}`,
        'timeout',
        '5',
        'python3',
        '-c',
        'import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(("0.0.0.0",9000))\nprint(s.recvfrom(9)[1][0])',
      ])
      await until('the listener is there', () => run(ns, 'ss', '-Hlun').includes(':9000'))
      run(
        from,
        'python3',
        '-c',
        `import socket\nsocket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b"x",("${target}",9000))`,
      )
      return (await listen).stdout.trim()
    }
    assert.equal(await seenBy(cluster.switch, '192.0.2.254'), a.address)
    assert.equal(await seenBy(to, '10.244.1.2'), '10.244.0.2')
  },
)

test(
  'the own podCIDR changes at run time: device, annotations of peers, subnet.env follow',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const [a, b] = [cluster.node(0), cluster.node(1)]
    const { nodes } = await import('#kube/resources.ts')
    const { metadata } = await cluster.getNode('node-0')
    await cluster.client.delete(nodes, { name: 'node-0' })
    await until('the peer forgets the deleted Node', () => !b.run('ip', 'route').includes('10.244.0.0/24'))
    assert.match(a.run('ip', 'route'), /10\.244\.1\.0\/24/, 'our own Node deleted: everything is kept')
    await cluster.client.create(nodes, {
      metadata: { name: metadata?.name ?? '' },
      spec: { podCIDR: '10.244.9.0/24', podCIDRs: ['10.244.9.0/24'] },
    })
    await until('subnet.env', () => a.run('cat', a.subnetFile).includes('FLANNEL_SUBNET=10.244.9.1/24'))
    assert.match(a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.1'), /10\.244\.9\.0\/32/)
    assert.doesNotMatch(a.run('ip', '-4', 'addr', 'show', 'dev', 'flannel.1'), /10\.244\.0\.0\/32/)
    await until('the peer follows', () => b.run('ip', 'route').includes('10.244.9.0/24 via 10.244.9.0'))
  },
)

test('a hostile node changes nothing for others', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 3 })
  const [a, b, evil] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  cluster.start(a)
  cluster.start(b)
  await cluster.ready(a, b)
  const from = cluster.pod(a)
  cluster.pod(b)
  const state = (): string =>
    [
      a.run('ip', 'route'),
      a.run('ip', 'neigh', 'show', 'nud', 'permanent'),
      a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1'),
      a.run('nft', 'list', 'ruleset'),
    ].join('\n')
  const before = state()
  const macB = String(b.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
  const macA = String(a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
  const good = {
    'kube-subnet-manager': 'true',
    'backend-type': 'vxlan',
    'backend-data': '{"VNI":1,"VtepMAC":"02:ee:ee:ee:ee:ee"}',
    'public-ip': evil.address,
  }
  const attacks: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
    ['mac-taken', { ...good, 'backend-data': `{"VNI":1,"VtepMAC":"${macB}"}` }],
    ['own-mac', { ...good, 'backend-data': `{"VNI":1,"VtepMAC":"${macA}"}` }],
    ['own-address', { ...good, 'public-ip': a.address }],
    ['address-in-pod-network', { ...good, 'public-ip': '10.244.1.2' }],
    ['unreadable', { ...good, 'public-ip': '$(touch /tmp/x)' }],
    ['unreadable', { ...good, 'backend-data': '{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}' }],
    ['unreadable', { ...good, 'backend-data': '['.repeat(100_000) }],
    ['vni-differs', { ...good, 'backend-data': '{"VNI":4096,"VtepMAC":"02:ee:ee:ee:ee:ee"}' }],
    ['other-backend', { ...good, 'backend-type': 'extension', 'backend-data': '"; reboot #"' }],
  ]
  for (const [reason, annotations] of attacks) {
    const counted = await a.metric(`heddle_peer_refusals_total{reason="${reason}"}`)
    await cluster.annotate('node-2', annotations)
    await until(
      `refused: ${reason}`,
      async () => (await a.metric(`heddle_peer_refusals_total{reason="${reason}"}`)) > counted,
    )
    assert.equal(state(), before, reason)
  }
  const { nodes } = await import('#kube/resources.ts')
  for (const podCIDR of ['10.244.1.0/24', '10.244.0.0/16', '0.0.0.0/0', '10.244.0.128/25', '203.0.113.0/24']) {
    await cluster.client.delete(nodes, { name: 'node-2' })
    await cluster.client.create(nodes, { metadata: { name: 'node-2' }, spec: { podCIDR, podCIDRs: [podCIDR] } })
    const counted = a.log.split('lease refused').length
    await cluster.annotate('node-2', good)
    await until(`refused: ${podCIDR}`, () => a.log.split('lease refused').length > counted)
    assert.equal(state(), before, podCIDR)
  }
  pings(from, '10.244.1.2')
})
