/**
 * The flannel part for as long as the agent runs. A life of it has one network configuration; for another one that can be followed it ends and a new one begins, as
 * when the agent starts anew: what is in the kernel serves meanwhile, and what the new one does not want goes once its own is in place.
 */

import { backoff } from '#etcd/backoff.ts'
import type { Clock } from '#sys/clock.ts'
import type { ReadConf } from './conf-reader.ts'
import { errorFields, type Log } from './log.ts'

export interface FlannelServiceOptions {
  /** Begins a life, with the configuration that follows another one, or what the datastore says. `follow` asks for the next life. */
  readonly begin: (conf: ReadConf | undefined, follow: (conf: ReadConf) => void) => Promise<AsyncDisposable>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
}

const WAIT = { base: 500, cap: 30_000 }

export class FlannelService implements AsyncDisposable {
  readonly #options: FlannelServiceOptions
  readonly #abort = new AbortController()
  #life: AsyncDisposable | undefined
  #next: ReadConf | undefined
  #changing: Promise<void> | undefined

  private constructor(options: FlannelServiceOptions) {
    this.#options = options
  }

  /** Throws what keeps the first life from beginning. */
  static async open(options: FlannelServiceOptions): Promise<FlannelService> {
    const service = new FlannelService(options)
    service.#life = await options.begin(undefined, (conf) => service.#follow(conf))
    return service
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#changing
    await this.#life?.[Symbol.asyncDispose]()
  }

  /** The last one counts that came while another was being followed. */
  #follow(conf: ReadConf): void {
    this.#next = conf
    if (this.#abort.signal.aborted) return
    this.#changing ??= this.#change().finally(() => (this.#changing = undefined))
  }

  async #change(): Promise<void> {
    const { begin, clock, random, log } = this.#options
    const { signal } = this.#abort
    // Whoever asked is still at work.
    await Promise.resolve()
    for (let failures = 0; this.#next !== undefined && !signal.aborted;) {
      const conf = this.#next
      this.#next = undefined
      await this.#end()
      try {
        this.#life = await begin(conf, (next) => this.#follow(next))
        failures = 0
      } catch (error) {
        log.error(errorFields(error), 'the flannel part cannot begin with the changed configuration; trying again')
        this.#next ??= conf
        await clock.sleep(backoff(++failures, WAIT, random), signal).catch(() => undefined)
      }
    }
  }

  async #end(): Promise<void> {
    const life = this.#life
    this.#life = undefined
    try {
      await life?.[Symbol.asyncDispose]()
    } catch (error) {
      this.#options.log.error(errorFields(error), 'the flannel part has not ended well')
    }
  }
}
