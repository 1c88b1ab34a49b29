/** What a benchmark finds, and what is to be reached. */

import type { Comparison } from './pairs.ts'
import type { Spread } from './statistics.ts'

/** One line of the table. */
export interface Measurement {
  readonly what: string
  /** What it is compared with; absent where the value itself has a budget. */
  readonly against?: string
  readonly unit: 'ms' | 'Gbit/s' | 'MB'
  /** Medians, in `unit`. */
  readonly ours: number
  readonly peer?: number
  readonly ratio?: Spread
  /** Of the ratio, or without one of our value. */
  readonly budget?: Budget
}

export interface Budget {
  readonly is: 'at-most' | 'at-least'
  readonly value: number
}

export const atMost = (value: number): Budget => ({ is: 'at-most', value })
export const atLeast = (value: number): Budget => ({ is: 'at-least', value })

/** A line that compares. */
export const compared = (
  about: Pick<Measurement, 'what' | 'against' | 'unit' | 'budget'>,
  comparison: Comparison,
): Measurement => ({ ...about, ...comparison })

/** Undefined where there is no budget. */
export function met({ ours, ratio, budget }: Measurement): boolean | undefined {
  if (budget === undefined) return undefined
  const value = ratio?.median ?? ours
  return budget.is === 'at-most' ? value <= budget.value : value >= budget.value
}
