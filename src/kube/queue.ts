import { backoff, systemClock } from './clock.ts'
import type { BackoffOptions, Clock } from './clock.ts'

/** How a work queue is to be. */
export interface QueueOptions {
  /** Does the work for a key; a rejection brings the key back after a wait. */
  readonly work: (key: string, signal: AbortSignal) => Promise<void>
  /** How many keys are worked on at once. Never the same key twice. Default 1. */
  readonly concurrency?: number
  /** How many keys may wait. Default 100,000. */
  readonly limit?: number
  /** Waits after failures of one key. Default 100 ms, doubling to 60 s. */
  readonly backoff?: BackoffOptions
  readonly onError?: (key: string, error: unknown, attempt: number, retryIn: number) => void
  readonly signal?: AbortSignal
  readonly clock?: Clock
  readonly random?: () => number
}

const DEFAULT_BACKOFF: BackoffOptions = { base: 100, cap: 60_000 }

/**
 * A queue of keys, not of events: a key that waits is not added again, one that is being worked on is worked on once
 * more afterwards, and one that fails comes back with growing waits. So the work is always done for the latest state.
 */
export class WorkQueue implements Disposable {
  readonly #options: QueueOptions
  readonly #clock: Clock
  readonly #controller = new AbortController()
  /** Keys to work on, in the order they came. */
  readonly #ready = new Set<string>()
  readonly #running = new Set<string>()
  /** Keys that changed while they were worked on. */
  readonly #dirty = new Set<string>()
  /** Keys that wait for their time. */
  readonly #delayed = new Map<string, AbortController>()
  readonly #failures = new Map<string, number>()
  readonly #idle = new Set<() => void>()
  readonly #release: () => void

  constructor(options: QueueOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    const { signal } = options
    const stop = (): void => this[Symbol.dispose]()
    if (signal?.aborted === true) stop()
    else signal?.addEventListener('abort', stop, { once: true })
    this.#release = () => signal?.removeEventListener('abort', stop)
  }

  /** How many keys are waiting or being worked on. */
  get size(): number {
    return this.#ready.size + this.#running.size + this.#delayed.size
  }

  /** Asks for work on a key. False when the queue is full or has ended: the owner has to look at everything again. */
  add(key: string): boolean {
    if (this.#controller.signal.aborted) return false
    if (this.#running.has(key)) {
      this.#dirty.add(key)
      return true
    }
    if (!this.#ready.has(key) && this.#full(key)) return false
    this.#cancelDelay(key)
    this.#ready.add(key)
    this.#pump()
    return true
  }

  /** Asks for work on a key after a time, in milliseconds; a request that comes sooner wins. */
  addAfter(key: string, ms: number): boolean {
    if (this.#controller.signal.aborted || this.#ready.has(key)) return !this.#controller.signal.aborted
    if (this.#full(key)) return false
    this.#cancelDelay(key)
    const timer = new AbortController()
    this.#delayed.set(key, timer)
    void this.#addLater(key, ms, timer)
    return true
  }

  /** Resolves when nothing waits and nothing is being worked on. */
  idle(): Promise<void> {
    if (this.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#idle.add(resolve)
    })
  }

  /** Ends the queue: what waits is forgotten, what runs is told by its signal. */
  [Symbol.dispose](): void {
    this.#controller.abort()
    this.#release()
    this.#ready.clear()
    this.#dirty.clear()
    for (const key of this.#delayed.keys()) this.#cancelDelay(key)
    this.#rest()
  }

  async #addLater(key: string, ms: number, timer: AbortController): Promise<void> {
    await this.#clock.sleep(ms, timer.signal)
    if (this.#delayed.get(key) !== timer) return
    this.#delayed.delete(key)
    this.add(key)
  }

  #full(key: string): boolean {
    return !this.#delayed.has(key) && this.#ready.size + this.#delayed.size >= (this.#options.limit ?? 100_000)
  }

  #cancelDelay(key: string): void {
    const timer = this.#delayed.get(key)
    if (timer === undefined) return
    this.#delayed.delete(key)
    timer.abort()
  }

  #rest(): void {
    if (this.size > 0) return
    for (const resolve of this.#idle) resolve()
    this.#idle.clear()
  }

  #pump(): void {
    const concurrency = this.#options.concurrency ?? 1
    for (const key of this.#ready) {
      if (this.#running.size >= concurrency) return
      this.#ready.delete(key)
      this.#running.add(key)
      void this.#work(key)
    }
  }

  async #work(key: string): Promise<void> {
    try {
      await this.#options.work(key, this.#controller.signal)
      this.#failures.delete(key)
      this.#running.delete(key)
      if (this.#dirty.delete(key)) this.add(key)
    } catch (error) {
      this.#running.delete(key)
      // News about the key do not shorten its wait: the work failed, and would most likely fail again.
      this.#dirty.delete(key)
      if (!this.#controller.signal.aborted) {
        const attempt = (this.#failures.get(key) ?? 0) + 1
        this.#failures.set(key, attempt)
        const wait = backoff(attempt, this.#options.backoff ?? DEFAULT_BACKOFF, this.#options.random ?? Math.random)
        this.#options.onError?.(key, error, attempt, wait)
        this.addAfter(key, wait)
      }
    }
    this.#pump()
    this.#rest()
  }
}
