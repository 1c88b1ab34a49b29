/** The released flanneld and Heddle with their leases in one etcd. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { until, type TestNode } from '../agent/cluster.ts'
import { EtcdCluster, PREFIX, reaches, type Pod } from '../etcd/cluster.ts'
import { needsEtcdctl } from '../etcd/server.ts'
import { slowness } from '../slow.ts'
import { Flanneld, needsFlanneld } from './flanneld.ts'

const conf = { Network: '10.5.0.0/16', EnableNFTables: true, Backend: { Type: 'vxlan' } }

test(
  'leases in etcd: flanneld joins, is replaced with its subnet, and comes back',
  { skip: needsFlanneld || needsEtcdctl, timeout: 120_000 * slowness },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 3, conf })
    const [a, b, c] = [lab.cluster.node(0), lab.cluster.node(1), lab.cluster.node(2)]
    lab.start(a)
    lab.start(b)
    await lab.cluster.ready(a, b)
    c.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
    const flags = [`--etcd-endpoints=${lab.etcd.url}`, `--etcd-prefix=${PREFIX}`]
    const peersOf = (node: TestNode): readonly string[] =>
      [...node.run('ip', 'route').matchAll(/^(10\.5\.\S+) via \S+ dev flannel\.1/gm)]
        .flatMap(([, to]) => to ?? [])
        .toSorted()
    const others = (node: TestNode): readonly string[] =>
      lab.nodes
        .filter((one) => one !== node)
        .map((one) => lab.subnet(one))
        .toSorted()
    const knowEachOther = (): Promise<number> =>
      until(
        'all know each other',
        () => lab.nodes.every((node) => peersOf(node).join() === others(node).join()) || lab.nodes.map(peersOf),
        15_000,
      )
    const shape = (text = ''): string =>
      text.replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/, 'MAC').replace(/192\.0\.2\.\d+/, 'IP')
    let pods: readonly Pod[]
    const reachEachOther = async (): Promise<void> => {
      for (const from of pods) for (const to of pods) if (from !== to) await reaches(from, to)
    }
    let subnet: string
    let lease: string | undefined
    {
      await using first = new Flanneld(c, flags)
      await first.ready()
      await knowEachOther()
      pods = lab.nodes.map((node) => lab.pod(node))
      await reachEachOther()
      subnet = lab.subnet(c)
      lease = lab.leases().get(lab.key(c))
      assert.equal(shape(lab.leases().get(lab.key(a))), shape(lease), 'the same form of a lease')
    }
    await reachEachOther()
    lab.start(c)
    await lab.cluster.ready(c)
    assert.equal(lab.subnet(c), subnet, 'the same subnet')
    assert.equal(lab.leases().get(lab.key(c)), lease, 'what flanneld wrote stays true')
    await reachEachOther()
    await lab.cluster.stop(c)
    await using second = new Flanneld(c, flags)
    await second.ready()
    await knowEachOther()
    assert.equal(lab.subnet(c), subnet)
    assert.equal(lab.leases().size, 3)
    await reachEachOther()
  },
)
