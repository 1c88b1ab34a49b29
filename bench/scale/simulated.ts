/** One node among thousands that exist as Node objects only: from the list to the real kernel. */

import { peerNode } from '#flannel/fixture.ts'
import { Bed } from '../bed/bed.ts'
import { ClusterNode, countEntries, peerNodes } from '../bed/cluster.ts'
import { median } from '../statistics.ts'
import type { Row } from './row.ts'

export interface Simulation {
  readonly peers: number
  /** How many of them leave and come back at once. */
  readonly flapping: number
  readonly runs: number
  readonly signal: AbortSignal
  readonly progress: (text: string) => void
}

const SINGLES = 25

export async function simulate({ peers, flapping, runs, signal, progress }: Simulation): Promise<readonly Row[]> {
  await using bed = new Bed(signal)
  const views = peerNodes(peers)
  const times: Record<'plan' | 'apply' | 'join' | 'leave' | 'flapAway' | 'flapBack' | 'idle', number[]> = {
    plan: [],
    apply: [],
    join: [],
    leave: [],
    flapAway: [],
    flapBack: [],
    idle: [],
  }
  const timed = async (of: keyof typeof times, work: () => unknown): Promise<void> => {
    const start = performance.now()
    await work()
    times[of].push(performance.now() - start)
  }
  // The first round is a warm-up.
  for (let round = 0; round <= runs; round++) {
    progress(round === 0 ? 'warm-up' : `round ${round} of ${runs}`)
    if (round === 1) for (const list of Object.values(times)) list.length = 0
    await using node = await ClusterNode.open(bed, `n${round}`)
    let plans = new Map<string, never[]>() as ReturnType<ClusterNode['plan']>
    await timed('plan', () => void (plans = node.plan(views)))
    await timed('apply', () => (node.want(plans), node.settle()))
    await requireEntries(node, peers)
    await timed('idle', () => node.settle())
    for (let i = 1; i <= SINGLES; i++) {
      const view = peerNode(peers + i)
      await timed('join', () => (node.join(view), node.settle()))
      await timed('leave', () => (node.leave(view.name), node.settle()))
    }
    const some = views.slice(0, flapping)
    await timed('flapAway', () => {
      for (const { name } of some) node.leave(name)
      return node.settle()
    })
    await requireEntries(node, peers - flapping)
    await timed('flapBack', () => {
      for (const view of some) node.join(view)
      return node.settle()
    })
    await requireEntries(node, peers)
  }
  const row = (what: string, of: keyof typeof times): Row => ({ what, value: median(times[of]), unit: 'ms' })
  return [
    row(`${peers} leases: from Node objects to the plan`, 'plan'),
    row(`${peers} leases: from the plan to the kernel, three entries each`, 'apply'),
    row('nothing changed: looking whether anything is to be done', 'idle'),
    row(`one node joins ${peers}`, 'join'),
    row(`one node leaves ${peers}`, 'leave'),
    row(`${flapping} of ${peers} leave at once`, 'flapAway'),
    row(`${flapping} come back at once`, 'flapBack'),
  ]
}

/** A figure of something that did not happen is none. */
async function requireEntries({ netns }: ClusterNode, peers: number): Promise<void> {
  const { routes, neighbours, fdb } = await countEntries(netns)
  if (routes !== peers || neighbours !== peers || fdb !== peers)
    throw new Error(`${peers} peers made ${routes} routes, ${neighbours} neighbours and ${fdb} FDB entries`)
}
