/** A clock that moves when a test says so. */

import type { Clock } from './clock.ts'

interface Sleeper {
  until: number
  /** Wakes again and again. */
  readonly every?: number
  readonly wake: () => void
}

export class FakeClock implements Clock {
  #now = 0
  readonly #epoch: number
  #sleepers: Sleeper[] = []

  constructor(epoch = Date.UTC(2026, 0, 1)) {
    this.#epoch = epoch
  }

  now(): number {
    return this.#now
  }

  wall(): number {
    return this.#epoch + this.#now
  }

  /** How many are asleep. */
  get sleeping(): number {
    return this.#sleepers.length
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    if (signal?.aborted === true) {
      reject(signal.reason)
      return promise
    }
    const sleeper: Sleeper = { until: this.#now + ms, wake: resolve }
    this.#sleepers.push(sleeper)
    signal?.addEventListener(
      'abort',
      () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper)
        reject(signal.reason)
      },
      { once: true },
    )
    return promise
  }

  timeout(ms: number, callback: () => void): Disposable {
    return this.#wait({ until: this.#now + ms, wake: callback })
  }

  interval(ms: number, callback: () => void): Disposable {
    return this.#wait({ until: this.#now + ms, every: ms, wake: callback })
  }

  #wait(sleeper: Sleeper): Disposable {
    this.#sleepers.push(sleeper)
    return { [Symbol.dispose]: () => void (this.#sleepers = this.#sleepers.filter((other) => other !== sleeper)) }
  }

  /** Lets `ms` pass: everyone whose time comes wakes in order, and what they then do runs before the next wakes. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await settle()
      const next = this.#sleepers.filter((s) => s.until <= end).sort((a, b) => a.until - b.until)[0]
      if (next === undefined) break
      this.#now = Math.max(this.#now, next.until)
      if (next.every === undefined) this.#sleepers = this.#sleepers.filter((other) => other !== next)
      else next.until += next.every
      next.wake()
    }
    this.#now = end
  }
}

/** Lets promise callbacks that are ready run. */
const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))
