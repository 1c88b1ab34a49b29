/** Fewer requests than a cloud bears: a bucket of tokens, one for each request. */

import type { Clock } from '#sys/clock.ts'

export class Throttle {
  readonly #clock: Clock
  readonly #qps: number
  readonly #burst: number
  #tokens: number
  #at: number

  constructor(clock: Clock, qps: number, burst: number) {
    this.#clock = clock
    this.#qps = qps
    this.#burst = burst
    this.#tokens = burst
    this.#at = clock.now()
  }

  /** Waits for its turn; who asks first goes first. Rejects with the signal's reason. */
  async take(signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1000) * this.#qps)
    this.#at = now
    // Below zero are the turns of those who wait.
    this.#tokens -= 1
    if (this.#tokens >= 0) return
    await this.#clock.sleep((-this.#tokens / this.#qps) * 1000, signal)
  }
}
