/** Keeps the pools filled and takes what is left off the server, between calls: in the agent. */

import { messageOf } from '#cni/errors.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import { Book } from './book.ts'
import { isIdle, type Card } from './card.ts'
import { nicConf } from './config.ts'
import { engineOf, type NicPluginOptions } from './plugin.ts'
import type { NicHost } from './engine.ts'
import { registerKeeper } from './kick.ts'
import { runRound } from './round.ts'
import { forgetScope, listScopes, UNUSED_MS, type Scope } from './scope.ts'

/** What one may know of the cards of this node. */
export interface NicReport {
  readonly networks: number
  /** `used`, `idle`, `making`, `leaving`, `lost`. */
  readonly cards: ReadonlyMap<string, number>
  /** Cards that pods have or can have, the least that a network says; undefined until the cloud has told. */
  readonly places: number | undefined
  /** By network, for as long as it lasts. */
  readonly troubles: ReadonlyMap<string, string>
}

export interface KeeperOptions extends NicPluginOptions {
  readonly host: NicHost
  /** Milliseconds between two looks at the records. */
  readonly intervalMs?: number
  /** Milliseconds between two comparisons with the cloud. */
  readonly fullMs?: number
  /** After each round. */
  readonly onReport?: (report: NicReport) => void
}

const INTERVAL_MS = 15_000
const FULL_MS = 300_000
const RETRY = { first: 1_000, longest: 120_000 } as const
/** At the limit the pool is not tried to be filled again for so long. */
const LIMIT_MS = 60_000

/** The end waits so long for a round. */
const END_MS = 3_000

interface State {
  places: number | undefined
  fullAt: number
  fillAt: number
  retryAt: number
  failures: number
  trouble: string | undefined
}

export class NicKeeper implements AsyncDisposable {
  readonly #options: KeeperOptions
  readonly #clock: Clock
  readonly #book: Book
  readonly #states = new Map<string, State>()
  readonly #ticker: Disposable
  readonly #listener: Disposable
  #running: Promise<void> | undefined
  #isKicked = false
  #isEnded = false

  constructor(options: KeeperOptions) {
    const { host, clock = systemClock, intervalMs = INTERVAL_MS } = options
    this.#options = options
    this.#clock = clock
    this.#book = new Book(host.root, host)
    this.#ticker = clock.interval(intervalMs, () => this.kick())
    this.#listener = registerKeeper(host.root, () => this.kick())
    this.kick()
  }

  /** Something has changed: look at once, or again when the present round has ended. */
  kick(): void {
    if (this.#isEnded) return
    this.#isKicked = true
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      // A kick that came in between.
      if (this.#isKicked) this.kick()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnded = true
    this.#ticker[Symbol.dispose]()
    this.#listener[Symbol.dispose]()
    // What it is at is on disk: the next one goes on.
    await Promise.race([this.#running, this.#clock.sleep(END_MS)])
  }

  async #run(): Promise<void> {
    while (this.#isKicked && !this.#isEnded) {
      this.#isKicked = false
      const scopes = listScopes(this.#options.host)
      for (const network of this.#states.keys())
        if (!scopes.some((scope) => scope.network === network)) this.#states.delete(network)
      for (const scope of scopes) if (!this.#isEnded) await this.#tend(scope)
      this.#report(scopes.length)
    }
  }

  async #tend({ network, used, conf: raw }: Scope): Promise<void> {
    const { host, fullMs = FULL_MS } = this.#options
    const now = this.#clock.now()
    const state = this.#states.get(network) ?? fresh()
    this.#states.set(network, state)
    if (state.retryAt > now) return
    const isUnused = this.#clock.wall() - used > UNUSED_MS
    if (isUnused && !this.#book.list().some((card) => card.network === network)) {
      forgetScope(host, network)
      return
    }
    const isFull = state.fullAt <= now
    try {
      const conf = nicConf(network, raw)
      const engine = engineOf(isUnused ? { ...conf, poolSize: 0 } : conf, host, this.#options)
      const { places, isAtLimit, error } = await runRound(engine, { isFull, isFilling: state.fillAt <= now })
      state.places = places ?? state.places
      if (isFull) state.fullAt = now + fullMs * (0.8 + 0.4 * this.#random())
      if (isAtLimit) state.fillAt = now + LIMIT_MS
      if (error !== undefined) throw error
      if (state.trouble !== undefined) host.log('info', `cards of network ${network} are made and removed again`)
      state.failures = 0
      state.trouble = undefined
    } catch (error) {
      const trouble = messageOf(error)
      const wait = Math.min(RETRY.longest, RETRY.first * 2 ** Math.min(state.failures, 20))
      state.failures += 1
      state.retryAt = this.#clock.now() + wait * (0.5 + this.#random())
      if (state.trouble !== trouble) host.log('warn', `cards of network ${network}: ${trouble}; trying again`)
      state.trouble = trouble
    }
  }

  #random(): number {
    return (this.#options.random ?? Math.random)()
  }

  #report(networks: number): void {
    const cards = new Map<string, number>(['used', 'idle', 'making', 'leaving', 'lost'].map((name) => [name, 0]))
    for (const card of this.#book.list()) cards.set(kindOf(card), (cards.get(kindOf(card)) ?? 0) + 1)
    const states = [...this.#states]
    const places = states.flatMap(([, { places }]) => places ?? [])
    this.#options.onReport?.({
      networks,
      cards,
      places: places.length === 0 ? undefined : Math.min(...places),
      troubles: new Map(
        states.flatMap(([network, { trouble }]) => (trouble === undefined ? [] : [[network, trouble]])),
      ),
    })
  }
}

const fresh = (): State => ({
  places: undefined,
  fullAt: 0,
  fillAt: 0,
  retryAt: 0,
  failures: 0,
  trouble: undefined,
})

function kindOf(card: Card): string {
  if (card.state === 'leaving') return 'leaving'
  if (card.state !== 'ready') return 'making'
  if (card.lost !== undefined) return 'lost'
  return isIdle(card) ? 'idle' : 'used'
}
