/** Nodes with agents whose leases lie in a real etcd, and pods on them. */

import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { createNetns, deleteNetns } from '#sys/netns.ts'
import { run, TestCluster, until, type TestNode } from '../agent/cluster.ts'
import { slowness } from '../slow.ts'
import { EtcdServer, subnetEnv } from './server.ts'

export const PREFIX = '/coreos.com/network'

export interface EtcdClusterShape {
  readonly nodes: number
  /** Value of the key config. */
  readonly conf?: object
  readonly ipv6?: boolean
  readonly flags?: readonly string[]
}

const CONF = { Network: '10.5.0.0/16', Backend: { Type: 'vxlan' } }

export class EtcdCluster implements AsyncDisposable {
  readonly cluster: TestCluster
  readonly etcd: EtcdServer
  readonly #flags: readonly string[]
  readonly #pods: string[] = []

  private constructor(cluster: TestCluster, etcd: EtcdServer, flags: readonly string[]) {
    this.cluster = cluster
    this.etcd = etcd
    this.#flags = flags
  }

  /** Everything but the agents runs. */
  static async open({ nodes, conf = CONF, ipv6 = false, flags = [] }: EtcdClusterShape): Promise<EtcdCluster> {
    const cluster = await TestCluster.open({ nodes, ipv6 })
    const folder = mkdtempSync(join(tmpdir(), 'hdlj-etcd-'))
    try {
      const etcd = await EtcdServer.start({ folder, ns: cluster.switch, host: '192.0.2.254', ports: [2379, 2380] })
      etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(conf))
      return new EtcdCluster(cluster, etcd, flags)
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  get nodes(): readonly TestNode[] {
    return this.cluster.nodes
  }

  start(node: TestNode, ...flags: readonly string[]): void {
    this.cluster.start(node, '--etcd-endpoints', this.etcd.url, ...this.#flags, ...flags)
  }

  async startAll(): Promise<void> {
    for (const node of this.nodes) this.start(node)
    await this.cluster.ready()
  }

  /** `10.5.7.0/24`, as the node's subnet.env says. */
  subnet(node: TestNode): string {
    const [gateway = '', length] = (subnetEnv(node.subnetFile).get('FLANNEL_SUBNET') ?? '').split('/')
    return `${gateway.replace(/\.\d+$/, '.0')}/${length}`
  }

  /** The key of the node's lease. */
  key(node: TestNode): string {
    return `${PREFIX}/subnets/${this.subnet(node).replace('/', '-')}`
  }

  leases(): ReadonlyMap<string, string> {
    return this.etcd.keys(`${PREFIX}/subnets/`)
  }

  /** A pod on the node: its namespace and address. */
  pod(node: TestNode): Pod {
    const base = this.subnet(node).replace(/\.0\/\d+$/, '')
    const ns = `${node.ns}-pod`
    createNetns(`/run/netns/${ns}`)
    this.#pods.push(ns)
    node.run('ip', 'link', 'add', 'pod0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns)
    node.run('ip', 'addr', 'add', `${base}.1/24`, 'dev', 'pod0')
    node.run('ip', 'link', 'set', 'pod0', 'up')
    run(ns, 'ip', 'addr', 'add', `${base}.2/24`, 'dev', 'eth0')
    run(ns, 'ip', 'link', 'set', 'eth0', 'up')
    run(ns, 'ip', 'route', 'add', 'default', 'via', `${base}.1`)
    return { ns, address: `${base}.2` }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const ns of this.#pods) deleteNetns(`/run/netns/${ns}`)
    for (const node of this.nodes) await this.cluster.stop(node, 'SIGKILL')
    await this.etcd[Symbol.asyncDispose]()
    await this.cluster[Symbol.asyncDispose]()
  }
}

export interface Pod {
  readonly ns: string
  readonly address: string
}

/** Until the one reaches the other. */
export const reaches = (from: Pod, to: Pod): Promise<number> =>
  until(`${from.ns} reaches ${to.address}`, () => run(from.ns, 'ping', '-c1', '-W1', to.address) !== '', 10_000)

/** Of so many packets, 100 ms apart, those that were lost. The machine goes on meanwhile, unlike with `run`. */
export async function lost(from: Pod, to: Pod, during: () => Promise<void>): Promise<{ sent: number; lost: number }> {
  const ping = spawn(
    'nsenter',
    [`--net=/run/netns/${from.ns}`, 'ping', '-n', '-i', '0.1', '-W', String(2 * slowness), to.address],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  )
  let text = ''
  ping.stdout.on('data', (data: Buffer) => (text += data.toString()))
  const ended = new Promise((resolve) => ping.once('exit', resolve))
  try {
    await during()
  } finally {
    ping.kill('SIGINT')
    await ended
  }
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? []
  return { sent: Number(sent), lost: Number(sent) - Number(received) }
}
