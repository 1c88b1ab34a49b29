/** What happens to a datastore must not happen to running pods. */

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { until } from '../agent/cluster.ts'
import { slowness } from '../slow.ts'
import { EtcdCluster, lost, PREFIX, reaches, type Pod } from './cluster.ts'
import { needsEtcdctl } from './server.ts'

const skip = needsEtcdctl

async function running(flags: readonly string[] = []): Promise<{ lab: EtcdCluster; pods: readonly [Pod, Pod] }> {
  const lab = await EtcdCluster.open({ nodes: 2, flags })
  try {
    await lab.startAll()
    const pods = [lab.pod(lab.cluster.node(0)), lab.pod(lab.cluster.node(1))] as const
    await reaches(...pods)
    return { lab, pods }
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

const wait = (ms: number): Promise<void> => delay(ms * slowness)

/** No packet may be lost, and there must have been some. */
function assertNone({ sent, lost: gone }: { readonly sent: number; readonly lost: number }): void {
  assert.ok(sent > 10, `only ${sent} packets were sent`)
  assert.equal(gone, 0, `${gone} of ${sent} packets were lost`)
}

test(
  'etcd killed, started again; paused and gone on; compacted under a watch: no packet is lost and nothing changes hands',
  { skip },
  async () => {
    const { lab, pods } = await running()
    await using _lab = lab
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    const before = lab.leases()
    assertNone(
      await lost(pods[0], pods[1], async () => {
        await lab.etcd.stop()
        await until('node-0 says that etcd is away', async () =>
          (await a.get('/readyz')).body.includes('"degraded": true'),
        )
        assert.equal((await a.get('/readyz')).status, 200, 'pods can still be made')
        await lab.etcd.start()
        await lab.cluster.ready()

        lab.etcd.signal('SIGSTOP')
        await until('node-0 notices', async () => (await a.metric('heddle_api_reachable')) === 0, 40_000)
        lab.etcd.signal('SIGCONT')
        await lab.cluster.ready()

        // An agent that is away while its place in history is thrown away.
        await lab.etcd.stop()
        await lab.etcd.start()
        for (let i = 0; i < 5; i++) lab.etcd.ctl('put', '/other', String(i))
        const [, revision = ''] = /"revision":(\d+)/.exec(lab.etcd.ctl('endpoint', 'status', '-w', 'json')) ?? []
        lab.etcd.ctl('compact', revision)
        await lab.cluster.ready()
      }),
    )
    assert.deepEqual(lab.leases(), before)
    // And it is followed again: a third node is seen.
    lab.etcd.ctl(
      'put',
      `${PREFIX}/subnets/10.5.250.0-24`,
      '{"PublicIP":"192.0.2.250","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:fa"}}',
    )
    await until('both see the new one', () => [a, b].every((node) => node.run('ip', 'route').includes('10.5.250.0/24')))
  },
)

test(
  'all leases deleted, then a copy from before the second node put in place: nobody is forgotten, and both publish again',
  { skip },
  async () => {
    const lab = await EtcdCluster.open({ nodes: 2 })
    await using _lab = lab
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    lab.start(a)
    await lab.cluster.ready(a)
    const old = lab.etcd.snapshot()
    lab.start(b)
    await lab.cluster.ready()
    const pods = [lab.pod(a), lab.pod(b)] as const
    await reaches(...pods)
    const before = lab.leases()
    assert.equal(before.size, 2)
    assertNone(
      await lost(pods[0], pods[1], async () => {
        lab.etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`)
        await until('both lease the same again', () => same(lab.leases(), before))
        await wait(4_000)

        await lab.etcd.restore(old)
        assert.equal(lab.leases().size, 1, 'the copy knows one node')
        await until('both lease the same again', () => same(lab.leases(), before), 15_000)
        await wait(4_000)

        // Nothing at all is left.
        lab.etcd.ctl('del', '--prefix', '/coreos.com')
        await until('both lease the same again', () => same(lab.leases(), before), 15_000)
      }),
    )
    await until('nobody is in doubt any more', async () => (await a.metric('heddle_leases_doubtful')) === 0)
  },
)

const same = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): true | string =>
  JSON.stringify([...a]) === JSON.stringify([...b]) || JSON.stringify([...a])

test(
  'a copy from before a node whose agent does not run: its pods keep their way until its lease is deleted',
  { skip },
  async () => {
    const lab = await EtcdCluster.open({ nodes: 2 })
    await using _lab = lab
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    lab.start(a)
    await lab.cluster.ready(a)
    const old = lab.etcd.snapshot()
    lab.start(b)
    await lab.cluster.ready()
    const pods = [lab.pod(a), lab.pod(b)] as const
    await reaches(...pods)
    await lab.cluster.stop(b)
    assertNone(
      await lost(pods[0], pods[1], async () => {
        await lab.etcd.restore(old)
        await until('node-1 is kept in doubt', async () => (await a.metric('heddle_leases_doubtful')) === 1, 15_000)
        await wait(4_000)
      }),
    )
    lab.start(b)
    await lab.cluster.ready()
    await until('node-1 is there again', async () => (await a.metric('heddle_leases_doubtful')) === 0)
    await lab.cluster.stop(b)
    const route = lab.subnet(b)
    lab.etcd.ctl('del', lab.key(b))
    await until('its way goes', () => !a.run('ip', 'route').includes(route), 10_000)
  },
)

test(
  'an agent that starts while etcd is away works from what it knew; a reboot keeps subnet and MAC',
  { skip },
  async () => {
    const { lab, pods } = await running()
    await using _lab = lab
    const [a] = [lab.cluster.node(0)]
    const before = [lab.leases(), a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address']]
    await delay(1_500)
    assertNone(
      await lost(pods[0], pods[1], async () => {
        await lab.cluster.stop(a, 'SIGKILL')
        await lab.etcd.stop()
        lab.start(a)
        await until('it has its place', async () => (await a.get('/readyz')).status === 200, 20_000)
        const route = lab.subnet(lab.cluster.node(1))
        await until('it knows its peer', () => a.run('ip', 'route').includes(route))
        await lab.etcd.start()
        await lab.cluster.ready()
      }),
    )
    assert.deepEqual(lab.leases(), before[0])
    await lab.cluster.stop(a)
    a.run('ip', 'link', 'del', 'flannel.1')
    rmSync(a.subnetFile)
    lab.start(a)
    await lab.cluster.ready()
    assert.deepEqual([lab.leases(), a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address']], before)
  },
)
