/**
 * Puts the rules that attachments have in iptables back when somebody takes them away: `iptables -F`, `nft flush ruleset`, a reload of a firewall.
 *
 * Looking starts no program where the rules are nf_tables': what the kernel holds in the chains concerned is compared with what it held when all was last found
 * whole. Of the old kind nobody tells, so it is read every few seconds.
 */

import { listRecords } from '#cni/attachment/record.ts'
import type { HostBase } from '#cni/runtime/delegate.ts'
import { hasNftChain, legacyTables } from '#iptables/variant.ts'
import { ruleFingerprint } from '#nft/fingerprint.ts'
import { listRules } from '#nft/list.ts'
import { RulesetWatch, type RulesetEvent } from '#nft/watch.ts'
import { FAMILIES } from '#plugins/iptables/nat.ts'
import { chainNotes, restoreChains, type Noted } from '#plugins/iptables/restore.ts'
import { hostNetns } from '#plugins/link/host-netns.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { errorFields, type Log } from './log.ts'

export interface ChainsKeeperOptions {
  readonly host: HostBase
  readonly metrics: AgentMetrics
  readonly log: Log
}

/** Changes of a reload come in a row. */
const SETTLE_MS = 100
/** Between two looks, however often the tables change: kube-proxy's do. */
const GAP_MS = 500
/** What no event told of is found by then. */
const TICK_MS = 10_000
const MOST_MS = 30_000
/** So often in a row it is put back at once; after that somebody fights, and it takes twice as long each time. */
const PATIENCE = 8
const CALM_MS = 60_000

const TABLES: ReadonlySet<string> = new Set(['filter', 'nat', 'raw'])

export class ChainsKeeper implements AsyncDisposable {
  readonly #options: ChainsKeeperOptions
  readonly #watch: RulesetWatch
  readonly #ticks: NodeJS.Timeout
  /** What the kernel held when all was found whole. */
  #seen: string | undefined
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #isWanted = false
  #ended = false
  /** How often in a row something had to be put back or could not be, and when last. */
  #times = 0
  #last = -CALM_MS
  #ran = -GAP_MS
  #culprit: string | undefined
  #unreadable = 0

  /** Looks at once, then whenever a table of iptables changes. Throws what keeps it from listening. */
  constructor(options: ChainsKeeperOptions) {
    this.#options = options
    this.#watch = new RulesetWatch((event) => this.#onEvent(event), { netns: hostNetns(options.host).fd }).unref()
    this.#ticks = setInterval(() => this.#soon(), TICK_MS).unref()
    this.#soon()
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
      const concerns = event.tables.some(
        ({ family, name }) => (family === 'ip' || family === 'ip6') && TABLES.has(name),
      )
      if (!concerns) return
      this.#culprit = `${event.process.name} (${event.process.id})`
    }
    this.#soon()
  }

  /** The first of many changes sets the time: they may never end. */
  #soon(): void {
    if (this.#running !== undefined) this.#isWanted = true
    if (this.#ended || this.#running !== undefined || this.#timer !== undefined) return
    const now = performance.now()
    if (now - this.#last > CALM_MS) this.#times = 0
    const ms = Math.max(SETTLE_MS, this.#ran + GAP_MS - now, pauseAfter(this.#times))
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#isWanted = false
      this.#running = this.#look().finally(() => {
        this.#ran = performance.now()
        this.#running = undefined
        if (this.#isWanted) this.#soon()
      })
    }, ms).unref()
  }

  async #look(): Promise<void> {
    const { host, metrics, log } = this.#options
    const { records: folder } = host
    if (folder === undefined) return
    const by = this.#culprit
    this.#culprit = undefined
    try {
      const noted = chainNotes(listRecords(folder))
      if (noted.length === 0) return
      const before = this.#read(noted)
      if (before === this.#seen && !this.#hasLegacy()) return
      this.#seen = undefined
      const restored = await restoreChains(host, folder)
      for (const { table, rules } of restored) metrics.rulesRestored.add({ table }, rules)
      if (restored.length > 0) {
        this.#note()
        log.warn({ tables: restored, by }, "put attachments' rules back into iptables that somebody else removed")
      } else if (this.#read(noted) === before) this.#seen = before
    } catch (error) {
      this.#note()
      log.warn({ ...errorFields(error), by }, "attachments' rules cannot be put back into iptables; trying again")
    }
  }

  /** Something was amiss: one look more. */
  #note(): void {
    this.#times++
    this.#last = performance.now()
    this.#isWanted = true
  }

  #hasLegacy(): boolean {
    const { fd } = hostNetns(this.#options.host)
    return FAMILIES.some((family) => legacyTables(fd, family).length > 0)
  }

  /** All that the kernel holds in the chains of these notes, as text that changes with it. */
  #read(noted: readonly Noted[]): string {
    const { nft } = hostNetns(this.#options.host)
    const parts: string[] = []
    const chains = new Set<string>()
    for (const { id, note } of noted) {
      const { family, table } = note
      parts.push(id)
      for (const { chain } of note.edits) {
        const name = `${family} ${table} ${chain}`
        if (chains.has(name)) continue
        chains.add(name)
        try {
          const ref = { family: family === 4 ? 'ip' : 'ip6', name: table } as const
          const rules = hasNftChain(nft, family, table, chain) ? listRules(nft, ref, chain).map(ruleFingerprint) : []
          parts.push(`${name} ${rules.join(' ')}`)
        } catch {
          // Deleted meanwhile, or netlink is in trouble: whoever writes next finds out, and says so.
          parts.push(`${name} unreadable ${++this.#unreadable}`)
        }
      }
    }
    return parts.join('\n')
  }
}

/** How long to wait after the n-th repair in a row. */
const pauseAfter = (times: number): number =>
  times < PATIENCE ? 0 : Math.min(MOST_MS, GAP_MS * 2 ** Math.min(times - PATIENCE, 10)) * (0.75 + Math.random() / 2)
