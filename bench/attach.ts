/** ADD and DEL of the whole chain, one after the other, against the reference plugins. */

import type { Benchmark } from './benchmark.ts'
import { Bed } from './bed/bed.ts'
import { CniNode, type Pod } from './bed/attach.ts'
import { own, reference, referenceMissing } from './bed/plugins.ts'
import { atMost, compared, type Measurement } from './measurement.ts'
import { compareRounds, timeLimit, type Paired } from './pairs.ts'

const PODS = 30
const ROUNDS = 5
const LIMIT_MS = 75_000

export const attach: Benchmark = {
  name: 'attach',
  about: 'ADD and DEL of bridge + host-local + portmap, pod by pod',
  obstacle: referenceMissing,
  async run({ runs = ROUNDS, signal, progress }) {
    await using bed = new Bed(signal)
    progress('two nodes with their pods')
    const ours = await CniNode.make(bed, 'ours', PODS, own(bed))
    const peer = await CniNode.make(bed, 'peer', PODS, reference)
    const adds: Rounds = { ours: [], peer: [] }
    const dels: Rounds = { ours: [], peer: [] }
    const isLate = timeLimit(LIMIT_MS)
    for (let round = 0; round < 1 + runs; round++) {
      if (round > 1 && isLate()) break
      progress(round === 0 ? 'warm-up' : `round ${round} of ${runs}: ${PODS} pods`)
      const add = await inTurns(signal, ours, peer, (node, pod) => node.add([pod]))
      for (const node of [ours, peer]) for (const pod of node.pods) requireAddress(node, pod)
      const del = await inTurns(signal, ours, peer, (node, pod) => node.del([pod]))
      if (round === 0) continue
      for (const [to, from] of [
        [adds, add],
        [dels, del],
      ] as const) {
        to.ours.push(from.ours)
        to.peer.push(from.peer)
      }
    }
    return [...lines('ADD', adds, 0.25), ...lines('DEL', dels, 0.5)]
  },
}

interface Rounds extends Paired<readonly number[]> {
  readonly ours: number[][]
  readonly peer: number[][]
}

/** One pod of ours, one of the peer, and so on. */
export async function inTurns(
  signal: AbortSignal,
  ours: CniNode,
  peer: CniNode,
  act: (node: CniNode, pod: Pod) => Promise<{ readonly each: readonly number[] }>,
): Promise<{ ours: number[]; peer: number[] }> {
  const times = { ours: [] as number[], peer: [] as number[] }
  for (const [i, pod] of ours.pods.entries()) {
    signal.throwIfAborted()
    times.ours.push(...(await act(ours, pod)).each)
    const other = peer.pods[i]
    if (other !== undefined) times.peer.push(...(await act(peer, other)).each)
  }
  return times
}

/** A chain that answers fast and makes nothing is no contender. */
export function requireAddress(node: CniNode, pod: Pod): void {
  const { ips } = node.resultOf(pod)
  if (!Array.isArray(ips) || ips.length === 0) throw new Error(`ADD of ${pod.id} gave no address`)
}

function lines(verb: 'ADD' | 'DEL', rounds: Rounds, budget: number): Measurement[] {
  return [50, 99].map((p) =>
    compared(
      { what: `${verb}, p${p}`, against: 'reference plugins', unit: 'ms', budget: atMost(budget) },
      compareRounds(rounds, p / 100),
    ),
  )
}
