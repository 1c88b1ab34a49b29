/** Time, injected: what waits can be tested without waiting, and a jump of the wall clock moves nothing. */

export interface Clock {
  /** Milliseconds since some moment, never going back. */
  now(): number
  /** Calls back once after `ms`; disposing cancels. Keeps no process alive. */
  timeout(ms: number, callback: () => void): Disposable
  /** Calls back every `ms`; disposing ends it. Keeps no process alive. */
  interval(ms: number, callback: () => void): Disposable
}

export const systemClock: Clock = {
  now: () => performance.now(),
  timeout(ms, callback) {
    const timer = setTimeout(callback, ms)
    timer.unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
  interval(ms, callback) {
    const timer = setInterval(callback, ms)
    timer.unref()
    return { [Symbol.dispose]: () => clearInterval(timer) }
  },
}

interface Waiting {
  at: number
  readonly every: number | undefined
  readonly callback: () => void
}

/** A clock that stands still until it is told to go on. */
export class FakeClock implements Clock {
  #now = 0
  readonly #waiting = new Set<Waiting>()

  now(): number {
    return this.#now
  }

  timeout(ms: number, callback: () => void): Disposable {
    return this.#wait({ at: this.#now + ms, every: undefined, callback })
  }

  interval(ms: number, callback: () => void): Disposable {
    return this.#wait({ at: this.#now + ms, every: ms, callback })
  }

  /** Lets `ms` pass, calling what falls due in the order in which it does. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const next = [...this.#waiting].filter((w) => w.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#now = next.at
      if (next.every === undefined) this.#waiting.delete(next)
      else next.at += next.every
      next.callback()
    }
    this.#now = end
  }

  #wait(waiting: Waiting): Disposable {
    this.#waiting.add(waiting)
    return { [Symbol.dispose]: () => void this.#waiting.delete(waiting) }
  }
}
