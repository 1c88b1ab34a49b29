/** Agents with leases in a real etcd. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { until } from '../agent/cluster.ts'
import { EtcdCluster, PREFIX, reaches } from './cluster.ts'
import { needsEtcdctl, subnetEnv } from './server.ts'

test(
  'two nodes lease a subnet each, as flannel writes it, and their pods reach each other',
  { skip: needsEtcdctl },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 2 })
    await lab.startAll()
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    const leases = lab.leases()
    assert.deepEqual([...leases.keys()].toSorted(), [lab.key(a), lab.key(b)].toSorted())
    const mac = a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address']
    assert.equal(
      leases.get(lab.key(a)),
      `{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${String(mac)}"}}`,
    )
    const gateway = lab.subnet(a).replace('.0/', '.1/')
    assert.equal(
      readFileSync(a.subnetFile, 'utf8'),
      `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${gateway}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n`,
    )
    await reaches(lab.pod(a), lab.pod(b))
  },
)

test('both families in one lease', { skip: needsEtcdctl }, async () => {
  const conf = {
    Network: '10.5.0.0/16',
    EnableIPv6: true,
    IPv6Network: 'fd00:5::/48',
    Backend: { Type: 'vxlan' },
  }
  await using lab = await EtcdCluster.open({ nodes: 2, conf, ipv6: true })
  await lab.startAll()
  const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
  const leases = [...lab.leases()]
  assert.equal(leases.length, 2)
  for (const [key, value] of leases) {
    assert.match(key, /\/subnets\/10\.5\.\d+\.0-24&fd00:5:0:[0-9a-f]+::-64$/)
    assert.match(
      value,
      /^\{"PublicIP":"192\.0\.2\.[12]","PublicIPv6":"2001:db8::[12]","BackendType":"vxlan","BackendData":\{"VNI":1,"VtepMAC":"[^"]+"\},"BackendV6Data":\{"VNI":1,"VtepMAC":"[^"]+"\}\}$/,
    )
  }
  const env = subnetEnv(b.subnetFile)
  assert.equal(env.get('FLANNEL_IPV6_NETWORK'), 'fd00:5::/48')
  const subnet6 = String(env.get('FLANNEL_IPV6_SUBNET')).replace('::1/', '::/')
  assert.ok(leases.some(([key]) => key.endsWith(`&${subnet6.replace('/', '-')}`)))
  assert.ok(a.run('ip', '-6', 'route').includes(`${subnet6} via`), 'the peer of IPv6')
})

test(
  "what flanneld writes is a peer like ours, and its key's end is its end; what cannot be one harms nobody",
  { skip: needsEtcdctl },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 1 })
    const node = lab.cluster.node(0)
    lab.start(node)
    await lab.cluster.ready()
    const key = `${PREFIX}/subnets/10.5.250.0-24`
    const [, id = ''] = /lease (\w+) granted/.exec(lab.etcd.ctl('lease', 'grant', '3600')) ?? []
    const write = (value: string, to = key): string => lab.etcd.ctl('put', `--lease=${id}`, to, value)
    const value = (mac: string, ip = '192.0.2.250'): string =>
      `{"PublicIP":"${ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"}}`
    write(value('0e:00:00:00:00:fa'))
    const holds = (mac: string): boolean =>
      node.run('ip', 'route').includes('10.5.250.0/24 via 10.5.250.0 dev flannel.1 proto') &&
      node.run('ip', 'neigh', 'show', 'dev', 'flannel.1').includes(`10.5.250.0 lladdr ${mac} PERMANENT`) &&
      node.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').includes(`${mac} dst 192.0.2.250 self permanent`)
    await until('route, neighbour and FDB', () => holds('0e:00:00:00:00:fa'))
    // flanneld takes another MAC with each boot.
    write(value('0e:00:00:00:00:fb'))
    await until('the new MAC', () => holds('0e:00:00:00:00:fb'))
    assert.ok(
      !node.run('bridge', 'fdb', 'show', 'dev', 'flannel.1').includes('0e:00:00:00:00:fa'),
      'the old one is gone',
    )
    // Another node's subnet, our own address, everything, a MAC of another, shell, and nothing at all.
    write(value('0e:00:00:00:00:01', '192.0.2.251'), `${PREFIX}/subnets/10.5.250.128-25`)
    write(value('0e:00:00:00:00:02', '192.0.2.1'), `${PREFIX}/subnets/10.5.251.0-24`)
    write(value('0e:00:00:00:00:03', '192.0.2.252'), `${PREFIX}/subnets/0.0.0.0-1`)
    write(value('0e:00:00:00:00:fb', '192.0.2.253'), `${PREFIX}/subnets/10.5.252.0-24`)
    write(value('$(reboot)', '; reboot'), `${PREFIX}/subnets/10.5.253.0-24`)
    write('x'.repeat(100_000), `${PREFIX}/subnets/10.5.254.0-24`)
    await until('they are counted', async () => (await node.metric('heddle_peer_refusals_total')) > 0)
    await until('and nothing else has changed', () => holds('0e:00:00:00:00:fb'))
    assert.equal((await node.metric('heddle_peers')) === 1, true)
    lab.etcd.ctl('lease', 'revoke', id)
    await until('it goes', () => !node.run('ip', 'route').includes('10.5.250.0/24'), 10_000)
  },
)
