/** When to ask a subnet for addresses, and for how many: doubles in a rush, pauses where nothing is left. */

import type { Clock } from '#sys/clock.ts'

/** ms without growth after a subnet or a quota was full. */
const FULL_MS = 120_000
/** ms in which growth after growth doubles. */
const RUSH_MS = 60_000
const MOST = 8

export class Growth {
  readonly #clock: Clock
  readonly #full = new Map<string, { readonly until: number; readonly reason: string }>()
  readonly #last = new Map<4 | 6, { readonly at: number; readonly factor: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** By how much more than a batch to grow now. */
  factor(family: 4 | 6): number {
    const last = this.#last.get(family)
    return last !== undefined && this.#clock.now() - last.at < RUSH_MS ? Math.min(MOST, last.factor * 2) : 1
  }

  grew(family: 4 | 6, subnet: string): void {
    this.#full.delete(subnet)
    this.#last.set(family, { at: this.#clock.now(), factor: this.factor(family) })
  }

  filled(subnet: string, reason: string): void {
    this.#full.set(subnet, { until: this.#clock.now() + FULL_MS, reason })
  }

  /** Why nothing is asked of a subnet now. */
  fullReason(subnet: string): string | undefined {
    const full = this.#full.get(subnet)
    return full !== undefined && full.until > this.#clock.now() ? full.reason : undefined
  }

  /** The first of all reasons. */
  get reason(): string | undefined {
    return [...this.#full.keys()].map((subnet) => this.fullReason(subnet)).find((one) => one !== undefined)
  }
}
