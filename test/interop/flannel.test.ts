/**
 * One cluster of two kinds: Heddle on all nodes but the last, the released flanneld there. `npm run test:interop` builds flanneld and names it
 * in HEDDLE_FLANNELD; with `--vm` it does the same under Debian's kernel, for the backends that this machine's lacks.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { nodes } from '#kube/resources.ts'
import { run, TestCluster, until, type TestNode } from '../agent/cluster.ts'
import { needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'
import { Flanneld, needsFlanneld as skip } from './flanneld.ts'

/** All pods by ping, each way; what is lost on the first tries is told when nothing helps. */
async function reachEachOther(cluster: TestCluster, pods: readonly string[]): Promise<void> {
  for (const from of pods)
    for (const { subnet } of cluster.nodes)
      await until(
        `${from} reaches ${subnet}.2`,
        () => / 0% packet loss/.test(run(from, 'ping', '-c', '3', '-i', '0.1', '-W', '5', `${subnet}.2`)),
        15_000,
      )
}

const fromKubernetes = (node: TestNode): readonly string[] => [
  '--kube-subnet-mgr',
  '--kube-api-url=http://192.0.2.254:6443',
  `--net-config-path=${join(node.root, 'etc/kube-flannel/net-conf.json')}`,
]

/** flanneld's own way: nftables, because iptables mode asks for br_netfilter. */
const conf = { EnableNFTables: true }

/** What a node holds of its peers. */
const routes = (node: TestNode): string => node.run('ip', 'route')
const allowed = (node: TestNode): string => node.run('wg', 'show', 'flannel-wg', 'allowed-ips')

interface Kind {
  readonly backend: { readonly Type: string; readonly DirectRouting?: boolean }
  readonly peers: (node: TestNode) => string
  /** Fewer where all is emulated. */
  readonly nodes: number
  readonly skip: string | false
}

const kinds: readonly Kind[] = [
  { backend: { Type: 'vxlan' }, peers: routes, nodes: 3, skip },
  { backend: { Type: 'vxlan', DirectRouting: true }, peers: routes, nodes: 3, skip },
  { backend: { Type: 'host-gw' }, peers: routes, nodes: 3, skip },
  { backend: { Type: 'ipip' }, peers: routes, nodes: 2, skip: skip || needsKernel('ipip') },
  {
    backend: { Type: 'wireguard' },
    peers: allowed,
    nodes: 2,
    skip: skip || needsProgram('wg', 'wireguard-tools') || needsKernel('wireguard'),
  },
]

/** The virtual machine is for those that need its kernel. */
const here = slowness > 1 ? kinds.filter(({ nodes: count }) => count === 2) : kinds

for (const { backend, peers, nodes: count, skip: why } of here) {
  test(
    `flanneld joins ${JSON.stringify(backend)}, changes, and is replaced`,
    { skip: why, timeout: 120_000 * slowness },
    async () => {
      await using cluster = await TestCluster.open({ nodes: count, backend, conf })
      const ours = cluster.nodes.slice(0, -1)
      const [a, c] = [cluster.node(0), cluster.node(count - 1)]
      for (const node of ours) cluster.start(node)
      await cluster.ready(...ours)
      // Every real Node has some annotation; without any, flanneld v0.27.4 panics (assignment to entry in nil map).
      await cluster.client.patch(
        nodes,
        { name: c.name },
        { type: 'merge', body: { metadata: { annotations: { 'node.alpha.kubernetes.io/ttl': '0' } } } },
      )
      // flanneld leaves that to kubelet and the bridge plugin.
      c.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
      const pods = cluster.nodes.map((node) => cluster.pod(node))
      const knowEachOther = async (): Promise<void> => {
        await until('we know it', () => ours.every((node) => peers(node).includes(`${c.subnet}.0/24`)), 15_000)
        await until('it knows us', () => ours.every(({ subnet }) => peers(c).includes(`${subnet}.0/24`)), 15_000)
      }
      {
        await using first = new Flanneld(c, fromKubernetes(c))
        await first.ready()
        await knowEachOther()
        await reachEachOther(cluster, pods)
        const { 'node.alpha.kubernetes.io/ttl': _, ...theirs } = await cluster.annotations(c.name)
        const own = await cluster.annotations('node-0')
        assert.deepEqual(Object.keys(own).toSorted(), Object.keys(theirs).toSorted(), 'the same annotations')
        const shape = (text = ''): string =>
          text.replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/, 'MAC').replace(/[A-Za-z0-9+/]{43}=/, 'KEY')
        assert.equal(shape(own['backend-data']), shape(theirs['backend-data']))
        assert.equal(
          readFileSync(a.subnetFile, 'utf8'),
          readFileSync(c.subnetFile, 'utf8').replaceAll(`${c.subnet}.`, `${a.subnet}.`),
          'the same subnet.env',
        )
      }
      // flanneld is gone, its node is not: nothing changes. Then Heddle takes the node over, with flanneld's MAC or key.
      await reachEachOther(cluster, pods)
      const data = (await cluster.annotations(c.name))['backend-data']
      cluster.start(c)
      await cluster.ready(c)
      await reachEachOther(cluster, pods)
      assert.equal((await cluster.annotations(c.name))['backend-data'], data, 'what flanneld published stays true')
      // And back: flanneld finds everything as it left it.
      await cluster.stop(c)
      await using second = new Flanneld(c, fromKubernetes(c))
      await second.ready()
      await knowEachOther()
      await reachEachOther(cluster, pods)
      assert.equal((await cluster.annotations(c.name))['backend-data'], data)
    },
  )
}
