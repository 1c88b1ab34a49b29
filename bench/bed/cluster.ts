/** A cluster seen from one node: the node's namespace with its tunnel, kept by our reconciler, and any number of peers. */

import { vxlan } from '#flannel/backend/vxlan.ts'
import { localNode, peerNode, vxlanConf } from '#flannel/fixture.ts'
import type { Lease } from '#flannel/lease.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { PeerTable } from '#flannel/peer-table.ts'
import type { Desired } from '#state/entry.ts'
import { NetlinkKernel } from '#state/kernel-netlink.ts'
import { Reconciler, type SyncReport } from '#state/reconciler.ts'
import { systemClock } from '#sys/clock.ts'
import type { Bed, Namespace } from './bed.ts'

export const DEVICE = 'flannel.1'

const local = localNode()
const backend = vxlan(vxlanConf)

/** Peers 1 to `count`. */
export const peerNodes = (count: number): NodeView[] => Array.from({ length: count }, (_, i) => peerNode(i + 1))

/** The entries of a peer: route, neighbour, FDB. */
export const peerEntries = (lease: Lease): readonly Desired[] => backend.peerPlan(local, lease)

/** A namespace with an underlay device, as a node has before anything of the pod network exists. */
export async function machine(bed: Bed, label: string): Promise<Namespace> {
  const netns = await bed.namespace(label)
  await netns.run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire')
  for (const dev of ['wire', 'eth0']) await netns.run('ip', 'link', 'set', dev, 'up')
  await netns.run('ip', 'address', 'add', '192.168.0.1/20', 'dev', 'eth0')
  return netns
}

/** The tunnel's device by hand, the same as ours. */
export async function addDevice(netns: Namespace): Promise<void> {
  const mac = local[4]?.mac ?? ''
  const kind = ['type', 'vxlan', 'id', '1', 'local', '192.168.0.1', 'dev', 'eth0', 'dstport', '8472', 'nolearning']
  await netns.run('ip', 'link', 'add', DEVICE, 'address', mac, 'mtu', '1450', ...kind)
  await netns.run('ip', 'address', 'add', '10.244.0.0/32', 'dev', DEVICE)
  await netns.run('ip', 'link', 'set', DEVICE, 'up')
}

/** One node's view of its cluster, down to its kernel. */
export class ClusterNode implements AsyncDisposable {
  readonly netns: Namespace
  readonly #peers = new PeerTable(local, backend)
  readonly #reconciler: Reconciler
  readonly #errors: Error[]

  private constructor(netns: Namespace, reconciler: Reconciler, errors: Error[]) {
    this.netns = netns
    this.#reconciler = reconciler
    this.#errors = errors
  }

  /** With its device in place, and no peers. */
  static async open(bed: Bed, label: string): Promise<ClusterNode> {
    const netns = await machine(bed, label)
    const errors: Error[] = []
    const onError = (error: Error): void => void errors.push(error)
    const kernel = new NetlinkKernel({ clock: systemClock, netns: netns.path, onError })
    const node = new ClusterNode(netns, Reconciler.open({ kernel, clock: systemClock, onError }), errors)
    node.#reconciler.set('flannel/device', backend.devicePlan(local))
    await node.settle()
    return node
  }

  /** What a whole list of Nodes asks for, computed and not applied. */
  plan(views: readonly NodeView[]): Map<string, readonly Desired[]> {
    const plans = new Map<string, readonly Desired[]>()
    for (const [name, lease] of this.#peers.replace(views).leases)
      if (lease !== undefined) plans.set(name, peerEntries(lease))
    return plans
  }

  /** Wants these plans; takes effect with `settle`. */
  want(plans: ReadonlyMap<string, readonly Desired[]>): void {
    for (const [name, entries] of plans) this.#reconciler.set(`flannel/peer/${name}`, entries)
  }

  /** A Node appeared: from what the API says to what the reconciler wants. */
  join(view: NodeView): void {
    for (const [name, lease] of this.#peers.update(view).leases)
      this.#reconciler.set(`flannel/peer/${name}`, lease === undefined ? [] : peerEntries(lease))
  }

  leave(name: string): void {
    this.#peers.remove(name)
    this.#reconciler.remove(`flannel/peer/${name}`)
  }

  /** Until the kernel is as wanted. Throws what kept it from that. */
  async settle(): Promise<SyncReport> {
    const report = await this.#reconciler.sync()
    const error = this.#errors[0] ?? report.failures[0]?.error
    if (error !== undefined) throw error
    return report
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reconciler[Symbol.asyncDispose]()
  }
}

/** How many entries of each kind a namespace has for the tunnel. */
export async function countEntries({
  run,
}: Namespace): Promise<Readonly<Record<'routes' | 'neighbours' | 'fdb', number>>> {
  const lines = (text: string): number => text.split('\n').filter((line) => line.trim() !== '').length
  return {
    routes: lines(await run('ip', '-4', 'route', 'show', 'dev', DEVICE)),
    neighbours: lines(await run('ip', '-4', 'neighbour', 'show', 'dev', DEVICE, 'nud', 'permanent')),
    fdb: lines(await run('bridge', 'fdb', 'show', 'dev', DEVICE)),
  }
}
