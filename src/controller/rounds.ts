/** Work that is done again and again: soon after something changed, and regularly in any case. One round at a time. */

import type { Clock } from '#sys/clock.ts'

export interface RoundsOptions {
  /** A round; `isFull`: it was time for a regular one. True asks for another soon: something changed that has to be looked at. */
  readonly round: (isFull: boolean, signal: AbortSignal) => Promise<boolean>
  /** Milliseconds between the first news and the round, so that more can come together. */
  readonly batchMs: number
  /** Milliseconds between regular rounds; ± 10 %. */
  readonly everyMs: number
  /** Longest wait after failures, which begins with a second and doubles (ms). */
  readonly longestMs: number
  /** Longest round (ms). */
  readonly deadlineMs: number
  /** Waits at least as long as the failed service asks for (ms). */
  readonly asksFor: (error: unknown) => number
  readonly onRound: (error: unknown, isFull: boolean) => void
  readonly clock: Clock
  readonly random: () => number
}

const FIRST_RETRY = 1_000

export class Rounds implements AsyncDisposable {
  readonly #options: RoundsOptions
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  #news = false
  #wake: (() => void) | undefined

  constructor(options: RoundsOptions) {
    this.#options = options
    this.#done = this.#run()
  }

  /** Something changed. After a failure it does not shorten the wait. */
  kick(): void {
    this.#news = true
    this.#wake?.()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    const { clock, random, everyMs, batchMs } = this.#options
    const { signal } = this.#abort
    const spread = (ms: number, by: number): number => ms * (1 - by + 2 * by * random())
    let failures = 0
    let full = clock.now()
    while (!signal.aborted) {
      const isFull = clock.now() >= full
      this.#news = false
      const result = await this.#round(isFull)
      if (signal.aborted) return
      if (result === 'again') this.#news = true
      if (typeof result === 'number') {
        failures += 1
        const wait = Math.min(this.#options.longestMs, FIRST_RETRY * 2 ** Math.min(failures - 1, 20))
        await this.#sleep(Math.max(result, spread(wait, 0.5)), signal)
        continue
      }
      failures = 0
      if (isFull) full = clock.now() + spread(everyMs, 0.1)
      if (!this.#news) await this.#sleepUntilNews(full - clock.now())
      if (this.#news) await this.#sleep(batchMs, signal)
    }
  }

  /** A number is a failure, and how long to wait at least. */
  async #round(isFull: boolean): Promise<'again' | 'done' | number> {
    const { round, onRound, asksFor, deadlineMs, clock } = this.#options
    const limit = new AbortController()
    using _timer = clock.timeout(deadlineMs, () => limit.abort(new Error(`a round took more than ${deadlineMs} ms`)))
    try {
      const again = await round(isFull, AbortSignal.any([this.#abort.signal, limit.signal]))
      onRound(undefined, isFull)
      return again ? 'again' : 'done'
    } catch (error) {
      if (!this.#abort.signal.aborted) onRound(error, isFull)
      return asksFor(error)
    }
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    await this.#options.clock.sleep(Math.max(0, ms), signal).catch(() => undefined)
  }

  async #sleepUntilNews(ms: number): Promise<void> {
    const wake = new AbortController()
    this.#wake = () => wake.abort()
    await this.#sleep(ms, AbortSignal.any([this.#abort.signal, wake.signal]))
    this.#wake = undefined
  }
}
