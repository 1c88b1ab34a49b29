/**
 * One cluster of two kinds: Heddle on two nodes, the released flanneld on the third. `npm run test:interop` builds flanneld and names it
 * in HEDDLE_FLANNELD.
 */

import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { nodes } from '#kube/resources.ts'
import { inNetns } from '#sys/netns.ts'
import { needsRoot, run, TestCluster, until, type TestNode } from '../agent/cluster.ts'

const flanneld = process.env['HEDDLE_FLANNELD'] ?? ''
const skip = needsRoot || (existsSync(flanneld) ? false : 'needs flanneld: npm run test:interop builds it')

/** The released program on a node, as its manifest starts it. */
class Flanneld implements AsyncDisposable {
  readonly #node: TestNode
  readonly #log: string
  readonly #child: ChildProcess

  constructor(node: TestNode) {
    this.#node = node
    this.#log = join(node.root, 'flanneld.log')
    const log = openSync(this.#log, 'a')
    const args = [
      '--kube-subnet-mgr',
      '--kube-api-url=http://192.0.2.254:6443',
      '--iface=eth0',
      '--ip-masq',
      `--net-config-path=${join(node.root, 'etc/kube-flannel/net-conf.json')}`,
      `--subnet-file=${node.subnetFile}`,
    ]
    this.#child = inNetns(`/run/netns/${node.ns}`, () =>
      spawn(flanneld, args, { env: { PATH: process.env['PATH'], NODE_NAME: node.name }, stdio: ['ignore', log, log] }),
    )
    closeSync(log)
  }

  async ready(): Promise<void> {
    await until(
      `flanneld on ${this.#node.name} has written subnet.env`,
      () => existsSync(this.#node.subnetFile) || `ended with ${this.#child.exitCode}: ${this.log.slice(-2000)}`,
      30_000,
    )
  }

  get log(): string {
    return readFileSync(this.#log, 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await ended
  }
}

const pings = (ns: string, to: string): void =>
  assert.match(run(ns, 'ping', '-c', '3', '-i', '0.1', '-W', '2', to), / 0% packet loss/, `${ns} to ${to}`)

/** flanneld's own way: nftables, because iptables mode asks for br_netfilter. */
const conf = { EnableNFTables: true }

for (const backend of [{ Type: 'vxlan' }, { Type: 'vxlan', DirectRouting: true }, { Type: 'host-gw' }]) {
  test(`flanneld joins ${JSON.stringify(backend)}, changes, and is replaced`, { skip }, async () => {
    await using cluster = await TestCluster.open({ nodes: 3, backend, conf })
    const [a, b, c] = [cluster.node(0), cluster.node(1), cluster.node(2)]
    cluster.start(a)
    cluster.start(b)
    await cluster.ready(a, b)
    // Every real Node has some annotation; without any, flanneld v0.27.4 panics (assignment to entry in nil map).
    await cluster.client.patch(
      nodes,
      { name: 'node-2' },
      { type: 'merge', body: { metadata: { annotations: { 'node.alpha.kubernetes.io/ttl': '0' } } } },
    )
    // flanneld leaves that to kubelet and the bridge plugin.
    c.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
    const pods = cluster.nodes.map((node) => cluster.pod(node))
    const all = (): void => {
      for (const from of pods) for (const node of cluster.nodes) pings(from, `${node.subnet}.2`)
    }
    {
      await using first = new Flanneld(c)
      await first.ready()
      await until(
        'we know it',
        () => a.run('ip', 'route').includes('10.244.2.0/24') && b.run('ip', 'route').includes('10.244.2.0/24'),
      )
      await until(
        'it knows us',
        () => c.run('ip', 'route').includes('10.244.0.0/24') && c.run('ip', 'route').includes('10.244.1.0/24'),
        15_000,
      )
      all()
      const { 'node.alpha.kubernetes.io/ttl': _, ...theirs } = await cluster.annotations('node-2')
      const ours = await cluster.annotations('node-0')
      assert.deepEqual(Object.keys(ours).toSorted(), Object.keys(theirs).toSorted(), 'the same annotations')
      const shape = (text = ''): string => text.replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/, 'MAC')
      assert.equal(shape(ours['backend-data']), shape(theirs['backend-data']))
      assert.equal(
        readFileSync(a.subnetFile, 'utf8'),
        readFileSync(c.subnetFile, 'utf8').replaceAll('10.244.2.', '10.244.0.'),
        'the same subnet.env',
      )
    }
    // flanneld is gone, its node is not: nothing changes. Then Heddle takes the node over, with flanneld's MAC.
    all()
    const mac = (await cluster.annotations('node-2'))['backend-data']
    cluster.start(c)
    await cluster.ready(c)
    all()
    assert.equal((await cluster.annotations('node-2'))['backend-data'], mac, 'what flanneld published stays true')
    // And back: flanneld finds everything as it left it.
    await cluster.stop(c)
    await using second = new Flanneld(c)
    await second.ready()
    await until(
      'it still knows us',
      () => c.run('ip', 'route').includes('10.244.0.0/24') && c.run('ip', 'route').includes('10.244.1.0/24'),
      15_000,
    )
    all()
    assert.equal((await cluster.annotations('node-2'))['backend-data'], mac)
  })
}
