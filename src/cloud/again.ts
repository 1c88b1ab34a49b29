/** Asking again after a passing refusal: exponential, with jitter, never before the API wants to hear of it. */

import type { Clock } from '#sys/clock.ts'
import { isPassing } from './errors.ts'

export interface Patience {
  readonly clock: Clock
  /** From 0 up to 1. */
  readonly random: () => number
}

const TRIES = 5
const FIRST = 500
const LONGEST = 8_000
/** Who asks for more is left alone by giving up: the whole pass is tried again later. */
const LONGEST_ASKED = 20_000

/** Up to five tries. Throws what the last one threw, and the signal's reason. */
export async function again<T>({ clock, random }: Patience, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work()
    } catch (error) {
      if (!isPassing(error) || tries === TRIES || (error.retryAfterMs ?? 0) > LONGEST_ASKED) throw error
      await clock.sleep(backoff(tries, error.retryAfterMs ?? 0, random, LONGEST), signal)
    }
  }
}

/** Milliseconds before the next try after `failures` ≥ 1: half of them fixed, half by chance, so that nodes do not ask in step. */
export const backoff = (failures: number, least: number, random: () => number, longest: number): number => {
  const full = Math.min(longest, FIRST * 2 ** Math.min(failures - 1, 20))
  return Math.max(least * (1 + random() / 4), full / 2 + (full / 2) * random())
}
