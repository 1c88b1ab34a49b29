/**
 * Two things measured in turns, so that whatever else the machine does hits both: A B A B …, and the ratio is taken inside each pair.
 */

import { median, percentile, spread, type Spread } from './statistics.ts'

export interface PairOptions {
  /** Pairs that count. */
  readonly pairs: number
  /** Pairs before them that do not: caches fill, code is compiled. Default 1. */
  readonly warmup?: number
  readonly signal: AbortSignal
  /** No pair starts later than this, as long as one has counted: on a busy machine fewer pairs have to do. Default 60 s. */
  readonly limitMs?: number
}

/** True once the time is over. */
export function timeLimit(ms: number): () => boolean {
  const end = performance.now() + ms
  return () => performance.now() > end
}

/** What both sides gave, in the order of measuring; `ours[i]` and `peer[i]` belong together. */
export interface Paired<T> {
  readonly ours: readonly T[]
  readonly peer: readonly T[]
}

/** Measures both in turns, ours first. Throws the signal's reason between two measurements. */
export async function interleave<T>(
  options: PairOptions,
  ours: (round: number) => Promise<T>,
  peer: (round: number) => Promise<T>,
): Promise<Paired<T>> {
  const { pairs, warmup = 1, signal, limitMs = 60_000 } = options
  const isLate = timeLimit(limitMs)
  const kept = { ours: [] as T[], peer: [] as T[] }
  for (let round = 0; round < warmup + pairs; round++) {
    if (isLate() && kept.ours.length > 0) break
    signal.throwIfAborted()
    const first = await ours(round)
    signal.throwIfAborted()
    const second = await peer(round)
    if (round < warmup) continue
    kept.ours.push(first)
    kept.peer.push(second)
  }
  return kept
}

export interface Comparison {
  /** Medians, in the unit of the samples. */
  readonly ours: number
  readonly peer: number
  /** Of ours divided by peer, pair by pair. */
  readonly ratio: Spread
}

/** Compares one sample of each side per pair. */
export function compare({ ours, peer }: Paired<number>): Comparison {
  return { ours: median(ours), peer: median(peer), ratio: spread(ratios(ours, peer)) }
}

/**
 * Compares percentiles where each pair is a round of many samples: the median of the rounds' ratios. For the far tail a round is too short,
 * so there all rounds are thrown together for the ratio, and the spread is that of the rounds.
 */
export function compareRounds(rounds: Paired<readonly number[]>, p: number): Comparison {
  const of = (side: readonly (readonly number[])[]): number[] => side.map((samples) => percentile(samples, p))
  const each = spread(ratios(of(rounds.ours), of(rounds.peer)))
  const ours = percentile(rounds.ours.flat(), p)
  const peer = percentile(rounds.peer.flat(), p)
  return { ours, peer, ratio: p > 0.9 ? { ...each, median: ours / peer } : each }
}

function ratios(ours: readonly number[], peer: readonly number[]): number[] {
  return ours.map((value, i) => value / (peer[i] ?? Number.NaN))
}
