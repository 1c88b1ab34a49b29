/** Keys that a metadata server lends for a while. */

import type { Clock } from '#sys/clock.ts'
import { CloudError } from './errors.ts'

export interface Lent<T> {
  readonly value: T
  /** Milliseconds since 1970. */
  readonly until: number
}

/** Renewed so long (ms) before they end. */
const MARGIN = 300_000

export class Credentials<T> {
  readonly #clock: Clock
  readonly #fetch: (signal: AbortSignal) => Promise<Lent<T>>
  #held: Lent<T> | undefined

  constructor(clock: Clock, fetch: (signal: AbortSignal) => Promise<Lent<T>>) {
    this.#clock = clock
    this.#fetch = fetch
  }

  async get(signal: AbortSignal): Promise<T> {
    if (this.#held === undefined || this.#held.until - MARGIN <= this.#clock.wall())
      this.#held = await this.#fetch(signal)
    return this.#held.value
  }

  /** Runs `work` with them; what is refused as expired is tried once more with new ones. */
  async use<R>(signal: AbortSignal, work: (value: T) => Promise<R>): Promise<R> {
    const value = await this.get(signal)
    try {
      return await work(value)
    } catch (error) {
      if (!(error instanceof CloudError) || error.code !== 'credentials') throw error
      this.#held = undefined
      return work(await this.get(signal))
    }
  }
}
