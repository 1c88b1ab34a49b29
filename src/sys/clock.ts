/** Time, given to whoever needs it so that tests can give another. */

import { setTimeout as delay } from 'node:timers/promises'

export interface Clock {
  /** Milliseconds of a clock that never jumps; comparable only with itself. */
  now(): number
  /** Milliseconds since 1970, for what is written down. */
  wall(): number
  /** Resolves after `ms`; rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Calls back once after `ms`; disposing cancels. Keeps no process alive. */
  timeout(ms: number, callback: () => void): Disposable
  /** Calls back every `ms`; disposing ends it. Keeps no process alive. */
  interval(ms: number, callback: () => void): Disposable
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
  timeout(ms, callback) {
    const timer = setTimeout(callback, ms).unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
  interval(ms, callback) {
    const timer = setInterval(callback, ms).unref()
    return { [Symbol.dispose]: () => clearInterval(timer) }
  },
}
