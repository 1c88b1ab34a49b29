/** What failed, and when it is tried again: exponential, bounded, with jitter; one timer for all. */

import type { Clock } from '#sys/clock.ts'

const FIRST_MS = 250
const LONGEST_MS = 30_000

interface Attempt {
  readonly failures: number
  readonly due: number
}

export class RetrySchedule<K> implements Disposable {
  readonly #clock: Clock
  readonly #retry: (keys: readonly K[]) => void
  readonly #random: () => number
  readonly #attempts = new Map<K, Attempt>()
  #timer: { readonly at: number; readonly handle: Disposable } | undefined

  constructor(clock: Clock, retry: (keys: readonly K[]) => void, random: () => number = Math.random) {
    this.#clock = clock
    this.#retry = retry
    this.#random = random
  }

  get size(): number {
    return this.#attempts.size
  }

  /** Notes one more failure. */
  add(key: K): void {
    const failures = (this.#attempts.get(key)?.failures ?? 0) + 1
    const delay = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 20))
    const due = this.#clock.now() + delay * (0.75 + this.#random() / 2)
    this.#attempts.set(key, { failures, due })
    this.#arm(due)
  }

  forget(key: K): void {
    this.#attempts.delete(key)
  }

  [Symbol.dispose](): void {
    this.#timer?.handle[Symbol.dispose]()
    this.#attempts.clear()
  }

  #arm(at: number): void {
    if (this.#timer !== undefined && this.#timer.at <= at) return
    this.#timer?.handle[Symbol.dispose]()
    const handle = this.#clock.timeout(Math.max(0, at - this.#clock.now()), () => this.#fire())
    this.#timer = { at, handle }
  }

  #fire(): void {
    this.#timer = undefined
    const now = this.#clock.now()
    const due: K[] = []
    let next = Infinity
    for (const [key, attempt] of this.#attempts) {
      if (attempt.due <= now) {
        due.push(key)
        // Stays known, so that the next failure waits longer; due again only when it is added again.
        this.#attempts.set(key, { ...attempt, due: Infinity })
      } else next = Math.min(next, attempt.due)
    }
    if (next < Infinity) this.#arm(next)
    if (due.length > 0) this.#retry(due)
  }
}
