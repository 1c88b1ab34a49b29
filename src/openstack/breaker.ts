import type { Clock } from '#sys/clock.ts'
import { OpenStackError } from './errors.ts'

export interface BreakerOptions {
  /** Failures in a row after which the service is left alone. */
  readonly threshold: number
  /** Milliseconds of the first pause; each that ends in another failure doubles it. */
  readonly pauseMs: number
  readonly longestMs: number
}

export const DEFAULT_BREAKER: BreakerOptions = { threshold: 5, pauseMs: 5_000, longestMs: 120_000 }

/** What one may know of a breaker, for health checks. */
export interface BreakerState {
  readonly state: 'closed' | 'open' | 'half-open'
  /** Milliseconds until it is tried again; 0 where it may be now. */
  readonly waitMs: number
}

/**
 * Leaves a service alone that failed several times in a row, then lets one request through to see. Only failures of the service count (no
 * answer, 5xx): a 404 or 409 is an answer. A service that recovers is used at once by all.
 */
export class Breaker {
  readonly #clock: Clock
  readonly #options: BreakerOptions
  readonly #name: string
  #failures = 0
  #pauses = 0
  #until = 0
  #trying = false

  constructor(name: string, clock: Clock, options: BreakerOptions = DEFAULT_BREAKER) {
    this.#name = name
    this.#clock = clock
    this.#options = options
  }

  get state(): BreakerState {
    if (this.#failures < this.#options.threshold) return { state: 'closed', waitMs: 0 }
    const waitMs = Math.max(0, this.#until - this.#clock.now())
    return { state: waitMs > 0 ? 'open' : 'half-open', waitMs }
  }

  /** Asks to send. @throws OpenStackError `paused` */
  enter(object: string): void {
    const { state, waitMs } = this.state
    if (state === 'closed') return
    if (state === 'half-open' && !this.#trying) {
      this.#trying = true
      return
    }
    const why = state === 'open' ? `for another ${Math.ceil(waitMs)} ms` : 'while one request tries it'
    throw new OpenStackError(
      'paused',
      `${this.#name} failed ${this.#failures} times in a row and is left alone ${why}`,
      {
        object,
        retryAfterMs: waitMs,
      },
    )
  }

  /** The service answered. */
  succeeded(): void {
    this.#failures = 0
    this.#pauses = 0
    this.#trying = false
  }

  /** The service gave no answer, or could not. */
  failed(): void {
    this.#failures += 1
    this.#trying = false
    if (this.#failures < this.#options.threshold) return
    const pause = Math.min(this.#options.longestMs, this.#options.pauseMs * 2 ** Math.min(this.#pauses, 30))
    // Requests that were under way when it opened fail too: they do not lengthen the pause.
    if (this.#until > this.#clock.now()) return
    this.#pauses += 1
    this.#until = this.#clock.now() + pause
  }

  /** A request was given up by its owner: that says nothing about the service. */
  left(): void {
    this.#trying = false
  }
}
