/** Agents that end, are killed and are exchanged for another version, while pods of both nodes ask each other without a pause. */

import { ipText } from '#ip/address.ts'
import { TestCluster, type ClusterShape, type TestNode } from '../agent/cluster.ts'
import { slowness } from '../slow.ts'
import { Prober, type Count } from './prober.ts'

export interface Survival {
  readonly backend: object
  /** At least so many requests in each round. */
  readonly probes: number
  readonly perSecond: number
  /** The `heddle` of another version; without one there is no upgrade. */
  readonly former: string | undefined
  readonly shape?: Partial<ClusterShape>
}

export interface Round extends Count {
  readonly what: 'restart' | 'kill -9' | 'upgrade and back'
  /** How often an agent was ended and started. */
  readonly starts: number
}

/** Throws where agents do not become ready, or where pods did not reach each other to begin with. */
export async function survive({ backend, probes, perSecond, former, shape }: Survival): Promise<readonly Round[]> {
  await using cluster = await TestCluster.open({ nodes: 2, backend, ...shape })
  cluster.startAll()
  await cluster.ready()
  const [a, b] = [cluster.node(0), cluster.node(1)]
  const netns = [cluster.pod(a), cluster.pod(b)].map((name) => `/run/netns/${name}`)
  using prober = new Prober(
    [
      { netns: netns[0] ?? '', to: ipText(`${b.subnet}.2`) },
      { netns: netns[1] ?? '', to: ipText(`${a.subnet}.2`) },
    ],
    perSecond,
  )
  await warmUp(prober)
  const rounds: Round[] = []
  const run = async (what: Round['what'], exchange: (node: TestNode, turn: number) => Promise<void>): Promise<void> => {
    prober.start()
    let starts = 0
    // Every node; what an upgrade began it takes back.
    const isOpen = (turn: number): boolean => prober.sent < probes || (what === 'upgrade and back' && turn % 2 === 1)
    for (let turn = 0; isOpen(turn); turn++)
      for (const node of [a, b]) {
        await exchange(node, turn)
        cluster.start(node)
        await cluster.ready(node)
        starts++
      }
    rounds.push({ what, starts, ...(await prober.stop()) })
  }
  await run('restart', (node) => cluster.stop(node))
  await run('kill -9', (node) => cluster.stop(node, 'SIGKILL'))
  if (former !== undefined)
    await run('upgrade and back', async (node, turn) => {
      await cluster.stop(node)
      node.program = turn % 2 === 0 ? former : undefined
    })
  return rounds
}

const WARM_UP_MS = 30_000

/** The first packets wait for neighbours, and with some backends for peers. */
async function warmUp(prober: Prober): Promise<void> {
  const deadline = Date.now() + WARM_UP_MS * slowness
  for (;;) {
    prober.start()
    await new Promise((resolve) => setTimeout(resolve, 500))
    const count = await prober.stop()
    if (count.sent > 0 && count.lost === 0) return
    if (Date.now() > deadline) throw new Error(`pods do not reach each other: ${count.lost} of ${count.sent} lost`)
  }
}
