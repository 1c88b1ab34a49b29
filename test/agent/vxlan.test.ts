import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { needsRoot, run, TestCluster, until } from './cluster.ts'

test(
  'two agents make a VXLAN network: annotations, device, entries, subnet.env, condition',
  { skip: needsRoot },
  async () => {
    await using cluster = await TestCluster.open({ nodes: 2 })
    cluster.startAll()
    await cluster.ready()
    const a = cluster.node(0)
    const b = cluster.node(1)
    const own = await cluster.annotations('node-0')
    const mac = String(a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
    assert.deepEqual(own, {
      'kube-subnet-manager': 'true',
      'backend-type': 'vxlan',
      'backend-data': `{"VNI":1,"VtepMAC":"${mac}"}`,
      'public-ip': a.address,
    })
    const condition = (await cluster.getNode('node-0')).status?.conditions?.find(
      ({ type }) => type === 'NetworkUnavailable',
    )
    assert.deepEqual([condition?.status, condition?.reason], ['False', 'FlannelIsUp'])
    assert.equal(
      readFileSync(a.subnetFile, 'utf8'),
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    )
    const peerMac = String(b.json('ip', 'link', 'show', 'flannel.1')[0]?.['address'])
    assert.match(a.run('ip', 'route', 'show', '10.244.1.0/24'), /via 10\.244\.1\.0 dev flannel\.1 .*onlink/)
    assert.match(a.run('ip', 'neigh', 'show', '10.244.1.0'), new RegExp(`lladdr ${peerMac} .*PERMANENT`))
    assert.match(
      a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1'),
      new RegExp(`${peerMac} dst ${b.address} self permanent`),
    )
    assert.equal(a.run('cat', '/proc/sys/net/ipv6/conf/flannel.1/accept_ra').trim(), '0')
    assert.equal(a.run('cat', '/proc/sys/net/ipv4/ip_forward').trim(), '1')
    assert.match(
      a.run('nft', 'list', 'table', 'inet', 'heddle_flannel'),
      /ip saddr 10\.244\.0\.0\/16 ip daddr != 224\.0\.0\.0\/4 masquerade fully-random/,
    )
    const from = cluster.pod(a)
    cluster.pod(b)
    assert.match(run(from, 'ping', '-c', '3', '-i', '0.05', '-W', '2', '10.244.1.2'), / 0% packet loss/)
  },
)

test('flannel.1 is exactly what one makes by hand', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 2 })
  const [a, b] = [cluster.node(0), cluster.node(1)]
  cluster.start(a)
  await cluster.ready(a)
  b.run(
    'ip',
    'link',
    'add',
    'flannel.1',
    'mtu',
    '1450',
    'type',
    'vxlan',
    'id',
    '1',
    'local',
    b.address,
    'dev',
    'eth0',
    'dstport',
    '8472',
    'nolearning',
  )
  b.run('ip', 'addr', 'add', '10.244.1.0/32', 'dev', 'flannel.1')
  b.run('ip', 'link', 'set', 'flannel.1', 'up')
  const comparable = (node: typeof a): unknown => {
    const [link] = node.json('ip', 'link', 'show', 'flannel.1')
    const { ifindex: _i, address: _a, ifalias: _f, linkinfo, ...rest } = link ?? {}
    return { ...rest, linkinfo: JSON.parse(JSON.stringify(linkinfo).replaceAll(node.address, 'LOCAL')) }
  }
  assert.deepEqual(comparable(a), comparable(b))
  const addresses = (node: typeof a): unknown =>
    node
      .json('ip', '-4', 'addr', 'show', 'dev', 'flannel.1')
      .map((link) => JSON.stringify(link['addr_info']).replaceAll(`10.244.${node.index}.0`, 'S0'))
  assert.deepEqual(addresses(a), addresses(b))
})

test('peers join, change and leave', { skip: needsRoot }, async () => {
  await using cluster = await TestCluster.open({ nodes: 3 })
  const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
  cluster.start(a)
  cluster.start(b)
  await cluster.ready(a, b)
  const routes = (): string => a.run('ip', 'route')
  assert.doesNotMatch(routes(), /10\.244\.2\.0/)
  cluster.start(c)
  await until('node-2 is programmed', () => routes().includes('10.244.2.0/24 via 10.244.2.0 dev flannel.1'), 10_000)
  await cluster.stop(c)
  // As if its device had been made anew: another MAC, and another address.
  await cluster.annotate('node-2', {
    'backend-data': '{"VNI":1,"VtepMAC":"02:aa:bb:cc:dd:ee"}',
    'public-ip': '192.0.2.77',
  })
  await until('the new MAC', () =>
    a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').includes('02:aa:bb:cc:dd:ee dst 192.0.2.77'),
  )
  assert.match(a.run('ip', 'neigh', 'show', '10.244.2.0'), /02:aa:bb:cc:dd:ee/)
  assert.equal(a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').trim().split('\n').length, 2, 'no old FDB entry')
  const { nodes } = await import('#kube/resources.ts')
  await cluster.client.delete(nodes, { name: 'node-2' })
  await until('node-2 is gone', () => !routes().includes('10.244.2.0'))
  assert.doesNotMatch(a.run('bridge', 'fdb', 'show', 'dev', 'flannel.1'), /02:aa/)
  assert.doesNotMatch(a.run('ip', 'neigh', 'show', 'dev', 'flannel.1'), /10\.244\.2\.0/)
  assert.match(routes(), /10\.244\.1\.0\/24/)
})
