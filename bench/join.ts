/** One peer that joins: what it costs among thousands, against what it costs in an empty cluster. */

import { peerNode } from '#flannel/fixture.ts'
import type { Benchmark } from './benchmark.ts'
import { Bed } from './bed/bed.ts'
import { ClusterNode, countEntries, peerNodes } from './bed/cluster.ts'
import { atMost, compared } from './measurement.ts'
import { compareRounds, interleave } from './pairs.ts'

const PEERS = 5000
const ROUNDS = 15
/** Joins in a round, one after the other. */
const JOINS = 20

export const join: Benchmark = {
  name: 'join',
  about: `one peer joins among ${PEERS}, from its Node object to the kernel`,
  async run({ runs = ROUNDS, signal, progress }) {
    await using bed = new Bed(signal)
    progress(`a cluster of ${PEERS}, and an empty one`)
    await using crowded = await ClusterNode.open(bed, 'crowded')
    await using empty = await ClusterNode.open(bed, 'empty')
    crowded.want(crowded.plan(peerNodes(PEERS)))
    await crowded.settle()
    const joins = (node: ClusterNode) => async () => {
      const times: number[] = []
      for (let i = 1; i <= JOINS; i++) {
        const view = peerNode(PEERS + i)
        const start = performance.now()
        node.join(view)
        await node.settle()
        times.push(performance.now() - start)
        if (i === 1) await requireOneMore(node, view.name)
        node.leave(view.name)
        await node.settle()
      }
      return times
    }
    progress(`${runs} rounds of ${JOINS}`)
    const rounds = await interleave({ pairs: runs, warmup: 3, signal, limitMs: 20_000 }, joins(crowded), joins(empty))
    const about = { what: `a peer joins ${PEERS}`, against: 'an empty cluster', unit: 'ms' } as const
    return [compared({ ...about, budget: atMost(1.5) }, compareRounds(rounds, 0.5))]
  },
}

/** Whether the join has reached the kernel, seen from outside. */
async function requireOneMore(node: ClusterNode, name: string): Promise<void> {
  const before = await countEntries(node.netns)
  node.leave(name)
  await node.settle()
  const after = await countEntries(node.netns)
  if (before.routes !== after.routes + 1 || before.fdb !== after.fdb + 1)
    throw new Error(`a peer that joins made ${JSON.stringify({ before, after })}`)
}
