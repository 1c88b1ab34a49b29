/** Looks now and then whether the network configuration is another: for sources that do not tell. */

import type { Clock } from '#sys/clock.ts'

export interface ConfPollOptions {
  readonly read: (signal: AbortSignal) => Promise<string>
  /** Milliseconds between two looks, a quarter more or less. */
  readonly pause: number
  readonly clock: Clock
  readonly random: () => number
  readonly onText: (text: string) => void
  /** It cannot be read at the moment; the next look tries again. */
  readonly onError: (error: unknown) => void
}

const TIMEOUT = 10_000

export class ConfPoll implements AsyncDisposable {
  readonly #abort = new AbortController()
  readonly #done: Promise<void>

  constructor(options: ConfPollOptions) {
    this.#done = this.#run(options)
  }

  async #run({ read, pause, clock, random, onText, onError }: ConfPollOptions): Promise<void> {
    const { signal } = this.#abort
    for (;;) {
      await clock.sleep(pause * (0.75 + random() / 2), signal).catch(() => undefined)
      if (signal.aborted) return
      try {
        const text = await read(AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]))
        if (!signal.aborted) onText(text)
      } catch (error) {
        if (!signal.aborted) onError(error)
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#done
  }
}
