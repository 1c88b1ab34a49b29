/** An extended resource on our Node, so that the scheduler counts what only this node knows. */

import { errorFields, type Log } from '../log.ts'
import type { Clock } from '#sys/clock.ts'

export interface NodeResourceOptions {
  /** Merge patch of our Node's status subresource. Rejections are tried again. */
  readonly patch: (body: object, signal: AbortSignal) => Promise<void>
  /** `heddle.io/neutron-nics`. */
  readonly name: string
  readonly log: Log
  readonly clock: Clock
  readonly random: () => number
  readonly onPatch: (outcome: 'done' | 'failed') => void
}

const RETRY = { first: 1_000, longest: 60_000 } as const
/** A kubelet that registers its Node anew begins with 0 of everything that it does not know. */
const AGAIN_MS = 300_000

export class NodeResource implements AsyncDisposable {
  readonly #options: NodeResourceOptions
  readonly #abort = new AbortController()
  #wanted: number | undefined
  #told: number | undefined
  #failures = 0
  #timer: Disposable | undefined
  #running: Promise<void> | undefined

  constructor(options: NodeResourceOptions) {
    this.#options = options
  }

  /** The kubelet makes the allocatable amount of it. */
  set(amount: number): void {
    if (amount === this.#wanted) return
    this.#wanted = amount
    this.#failures = 0
    this.#publish()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    this.#timer?.[Symbol.dispose]()
    await this.#running
  }

  #publish(): void {
    if (this.#abort.signal.aborted || this.#running !== undefined) return
    this.#timer?.[Symbol.dispose]()
    this.#running = this.#patch().finally(() => {
      this.#running = undefined
      // Another amount came while the last one was told.
      if (this.#failures === 0 && this.#told !== this.#wanted) this.#publish()
      else this.#later()
    })
  }

  #later(): void {
    if (this.#abort.signal.aborted) return
    const { clock, random } = this.#options
    const wait =
      this.#failures === 0 ? AGAIN_MS : Math.min(RETRY.longest, RETRY.first * 2 ** Math.min(this.#failures - 1, 10))
    this.#timer = clock.timeout(wait * (0.75 + random() / 2), () => this.#publish())
  }

  async #patch(): Promise<void> {
    const { patch, name, log, onPatch } = this.#options
    const amount = this.#wanted
    try {
      await patch({ status: { capacity: { [name]: String(amount) } } }, this.#abort.signal)
      if (this.#told !== amount) log.info({ resource: name, amount }, 'published on our Node')
      this.#told = amount
      this.#failures = 0
      onPatch('done')
    } catch (error) {
      if (this.#abort.signal.aborted) return
      this.#failures += 1
      onPatch('failed')
      log.warn({ resource: name, ...errorFields(error) }, 'our Node could not be patched; trying again')
    }
  }
}
