/** 200 pods, 50 at once: a node that comes back, against the reference plugins. */

import type { Benchmark } from './benchmark.ts'
import { requireAddress } from './attach.ts'
import { Bed } from './bed/bed.ts'
import { CniNode } from './bed/attach.ts'
import { own, reference, referenceMissing } from './bed/plugins.ts'
import { atMost, compared } from './measurement.ts'
import { compare, interleave } from './pairs.ts'

const PODS = 200
const AT_ONCE = 50
const ROUNDS = 3

export const burst: Benchmark = {
  name: 'burst',
  about: `${PODS} ADD, ${AT_ONCE} at once`,
  obstacle: referenceMissing,
  async run({ runs = ROUNDS, signal, progress }) {
    await using bed = new Bed(signal)
    progress(`a node with ${PODS} pods, and its agent`)
    const ours = await CniNode.make(bed, 'ours', PODS, own(bed))
    const addAll = async (node: CniNode, pods = node.pods): Promise<number> => {
      const { all } = await node.add(pods, AT_ONCE)
      for (const pod of pods) requireAddress(node, pod)
      return all
    }
    const ownRound = async (round: number): Promise<number> => {
      progress(round === 0 ? 'warm-up' : `round ${round} of ${runs}`)
      const took = await addAll(ours)
      await ours.del(ours.pods, AT_ONCE)
      return took
    }
    // The reference takes half a minute to delete them all: each round has a fresh node, and the warm-up a small one.
    const peerRound = async (round: number): Promise<number> => {
      await using fresh = new Bed(signal)
      const node = await CniNode.make(fresh, 'peer', (round === 0 ? AT_ONCE : PODS) + 1, reference)
      // One that does not count goes first: where many find no chain of portmap's, all make it, and all but one fail.
      const [first, ...others] = node.pods
      if (first !== undefined) await node.add([first])
      return await addAll(node, others)
    }
    const times = await interleave({ pairs: runs, signal }, ownRound, peerRound)
    const about = { what: `${PODS} ADD, ${AT_ONCE} at once`, against: 'reference plugins', unit: 'ms' } as const
    return [compared({ ...about, budget: atMost(0.25) }, compare(times))]
  },
}
