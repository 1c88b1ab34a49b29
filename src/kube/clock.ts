/** Time as the client uses it; tests bring their own. */
export interface Clock {
  /** Milliseconds that only ever grow: a change of the wall clock must not expire or prolong anything. */
  readonly now: () => number
  /** Resolves after a time, or at once when the signal is (or becomes) aborted. Never rejects. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
}

/** The machine's monotonic clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve()
        return
      }
      const done = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}

/** How waits between attempts grow: `base`, doubled each time, at most `cap`; in milliseconds. */
export interface BackoffOptions {
  readonly base: number
  readonly cap: number
}

/** The wait before attempt `n` (from 1), spread over ±50 % so that many clients do not come back together. */
export function backoff(attempt: number, options: BackoffOptions, random: () => number): number {
  const exponent = Math.min(Math.max(attempt - 1, 0), 30)
  const wait = Math.min(options.cap, options.base * 2 ** exponent)
  return Math.round(wait * (0.5 + random()))
}
