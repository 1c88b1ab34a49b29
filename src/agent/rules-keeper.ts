/** Puts the rules of attachments back when somebody takes them away: `nft flush ruleset`, a reload of a firewall. */

import type { HostBase } from '#cni/runtime/delegate.ts'
import { RulesetWatch, type RulesetEvent } from '#nft/watch.ts'
import { hostNetns } from '#plugins/link/host-netns.ts'
import { restoreRules } from '#plugins/rules/restore.ts'
import { isOwnedTable } from '#plugins/rules/tables.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { errorFields, type Log } from './log.ts'

export interface RulesKeeperOptions {
  readonly host: HostBase
  readonly metrics: AgentMetrics
  readonly log: Log
}

/** Changes of a reload come in a row. */
const SETTLE_MS = 100
/** An ADD that was under way has its record by then. */
const AGAIN_MS = 2_000
const MOST_MS = 30_000
/** So often in a row it is put back at once; after that somebody fights, and it takes twice as long each time. */
const PATIENCE = 8
const CALM_MS = 60_000
/** What no event told of is found by then: a port that a DEL could not give back, say. */
const TICK_MS = 60_000

/** How long to wait before the rules are put back for the n-th time in a row. */
export const pauseBefore = (times: number): number =>
  times < PATIENCE ? SETTLE_MS : Math.min(MOST_MS, SETTLE_MS * 2 ** Math.min(times - PATIENCE + 1, 20))

export class RulesKeeper implements AsyncDisposable {
  readonly #options: RulesKeeperOptions
  readonly #watch: RulesetWatch
  readonly #ticks: NodeJS.Timeout
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #isWanted = false
  #ended = false
  /** How often in a row something had to be put back or could not be, and when last. */
  #times = 0
  #last = 0
  #culprit: string | undefined

  /** Looks at once, then whenever the ruleset changes. Throws what keeps it from listening. */
  constructor(options: RulesKeeperOptions) {
    this.#options = options
    const { fd, nft } = hostNetns(options.host)
    this.#watch = new RulesetWatch((event) => this.#onEvent(event), { netns: fd, own: [nft] }).unref()
    this.#ticks = setInterval(() => {
      if (this.#timer === undefined) this.#soon(0)
    }, TICK_MS).unref()
    this.#soon(0)
  }

  /** Waits until what is under way has ended. What is in the kernel stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true
    clearTimeout(this.#timer)
    clearInterval(this.#ticks)
    this.#watch[Symbol.dispose]()
    await this.#running
  }

  #onEvent(event: RulesetEvent): void {
    if (event.kind === 'change') {
      if (event.own || !event.tables.some(isOwnedTable)) return
      this.#culprit = `${event.process.name} (${event.process.id})`
    }
    if (performance.now() - this.#last > CALM_MS) this.#times = 0
    this.#soon(pauseBefore(this.#times))
  }

  #soon(ms: number): void {
    if (this.#ended) return
    if (this.#running !== undefined) {
      this.#isWanted = true
      return
    }
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#running = this.#restore().finally(() => {
        this.#running = undefined
        if (this.#isWanted) {
          this.#isWanted = false
          this.#soon(pauseBefore(this.#times))
        }
      })
    }, ms).unref()
  }

  async #restore(): Promise<void> {
    const { host, metrics, log } = this.#options
    if (host.records === undefined) return
    const by = this.#culprit
    try {
      const restored = await restoreRules(host, host.records)
      for (const { table, elements } of restored) metrics.rulesRestored.add({ table }, elements)
      if (restored.length === 0) {
        if (by !== undefined) this.#again()
        return
      }
      this.#note()
      log.warn({ tables: restored, by }, "put attachments' rules back that somebody else removed")
      this.#isWanted = true
    } catch (error) {
      this.#note()
      this.#isWanted = true
      log.warn({ ...errorFields(error), by }, "attachments' rules cannot be put back; trying again")
    }
  }

  #note(): void {
    this.#times++
    this.#last = performance.now()
  }

  /** One look more, later, for what an ADD recorded after this one. */
  #again(): void {
    this.#culprit = undefined
    setTimeout(() => this.#soon(0), AGAIN_MS).unref()
  }
}
