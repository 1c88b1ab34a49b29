/** Time, given to whoever needs it so that tests can give another. */

import { setTimeout as delay } from 'node:timers/promises'

export interface Clock {
  /** Milliseconds of a clock that never jumps; comparable only with itself. */
  now(): number
  /** Milliseconds since 1970, for what is written down. */
  wall(): number
  /** Resolves after `ms`; rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      // The reason, not the AbortError that carries it: the same contract as the fake's.
      signal?.throwIfAborted()
      throw error
    }
  },
}
