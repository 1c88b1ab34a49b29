/** The life of an agent's own lease: renewed in time, had again when it was lost, followed when the node changes. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { run, until } from '../agent/cluster.ts'
import { slowness } from '../slow.ts'
import { EtcdCluster, PREFIX, reaches } from './cluster.ts'
import { needsEtcdctl } from './server.ts'

const skip = needsEtcdctl
/** Seconds. */
const TTL = 10 * slowness

test(
  'a lease is renewed as long as its agent lives, ends when it does not, and is then given to others',
  { skip },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 2, flags: ['--subnet-lease-ttl', String(TTL)] })
    await lab.startAll()
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    const before = lab.leases()
    await until(
      'renewed twice',
      async () => (await a.metric('heddle_lease_renewals_total{outcome="done"}')) >= 2,
      TTL * 2_000,
    )
    assert.deepEqual(lab.leases(), before, 'no peer heard of it')
    await lab.cluster.stop(b, 'SIGKILL')
    const route = lab.subnet(b)
    assert.ok(a.run('ip', 'route').includes(route))
    await until('it ends', () => !a.run('ip', 'route').includes(route), TTL * 3_000)
    assert.deepEqual([...lab.leases().keys()], [lab.key(a)])
    // Where it was is where it comes back to.
    lab.start(b)
    await lab.cluster.ready()
    assert.equal(lab.subnet(b), route)
    assert.deepEqual(lab.leases(), before)
  },
)

test('a lease that was revoked, and one that somebody wrote over, are had again', { skip }, async () => {
  await using lab = await EtcdCluster.open({ nodes: 1 })
  await lab.startAll()
  const node = lab.cluster.node(0)
  const before = lab.leases()
  const [, id = ''] = /\n([0-9a-f]+)\n/.exec(lab.etcd.ctl('lease', 'list')) ?? []
  lab.etcd.ctl('lease', 'revoke', id)
  await until('there again', () => JSON.stringify([...lab.leases()]) === JSON.stringify([...before]))
  lab.etcd.ctl('put', lab.key(node), '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}')
  await until('true again', () => JSON.stringify([...lab.leases()]) === JSON.stringify([...before]))
  // Taken by somebody else: this node insists for a while, then its subnet is another one.
  const was = lab.key(node)
  lab.etcd.ctl(
    'put',
    was,
    '{"PublicIP":"192.0.2.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:77"}}',
  )
  await until('said', async () => (await node.get('/readyz')).body.includes('in use here, and leased by 192.0.2.77'))
  await until('another one', () => lab.key(node) !== was, 90_000)
  await lab.cluster.ready()
  assert.match(node.log, /its pods must be made anew/)
  const [taken, own] = [lab.leases().get(was), lab.leases().get(lab.key(node))]
  assert.match(String(taken), /192\.0\.2\.77/, 'not touched')
  assert.match(String(own), /192\.0\.2\.1"/)
})

test(
  "a changed address is published; flanneld's flags; a configuration that changes is followed, or said",
  { skip },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 2 })
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    lab.cluster.startFlanneld(
      a,
      [`-etcd-endpoints=http://127.0.0.1:1,${lab.etcd.url}`, '--etcd-prefix', `${PREFIX}/`, '-iface=eth0', '--ip-masq'],
      {},
    )
    lab.start(b)
    await lab.cluster.ready(b)
    await until('subnet.env', () => readFileSync(a.subnetFile, 'utf8').includes('FLANNEL_IPMASQ=true'), 20_000)
    const pods = [lab.pod(a), lab.pod(b)] as const
    await reaches(...pods)
    b.run('ip', 'addr', 'del', '192.0.2.2/24', 'dev', 'eth0')
    b.run('ip', 'addr', 'add', '192.0.2.200/24', 'dev', 'eth0')
    b.run('ip', 'route', 'replace', 'default', 'via', '192.0.2.254')
    await until('published', () => lab.leases().get(lab.key(b))?.includes('"PublicIP":"192.0.2.200"'), 20_000)
    await reaches(...pods)
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}')
    await until('said', async () => (await b.get('/readyz')).body.includes('is not inside the pod network 10.6.0.0/16'))
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16","SubnetLen":25,"Backend":{"Type":"host-gw"}}')
    await until('said', async () => (await b.get('/readyz')).body.includes('SubnetLen'))
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"nonsense"}')
    await until('said', async () => (await b.get('/readyz')).body.includes('nonsense'))
    await reaches(...pods)
    const held = [lab.key(a), lab.key(b)]
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16", "Backend":{"Type":"host-gw"}}')
    await until('the tunnel is gone', () => !/flannel\.1/.test(a.run('ip', 'link') + b.run('ip', 'link')), 20_000)
    await lab.cluster.ready(b)
    await reaches(...pods)
    assert.deepEqual([lab.key(a), lab.key(b)], held)
  },
)

test(
  'without a configuration, or one that etcd cannot have, the agent waits and says what is missing',
  { skip },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 1 })
    const node = lab.cluster.node(0)
    lab.etcd.ctl('del', `${PREFIX}/config`)
    lab.start(node)
    const says = (text: string): Promise<number> =>
      until(text, async () => (await node.get('/readyz')).body.includes(text), 20_000)
    await says(`etcd has no key ${PREFIX}/config`)
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16","SubnetLen":17,"Backend":{"Type":"vxlan"}}')
    await says('17 does not divide 10.5.0.0/16')
    lab.etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
    await lab.cluster.ready()
    assert.match(run(node.ns, 'ip', '-4', 'addr', 'show', 'flannel.1'), /10\.5\.\d+\.0\/32/)
  },
)
