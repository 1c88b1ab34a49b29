/**
 * Keeps flannel's chains in iptables as wanted: writes what differs, hears of every change to nf_tables, and looks again in any case every few seconds.
 *
 * Looking starts no program where the rules are nf_tables': what the kernel holds in our chains is compared with what it held when we had last written and
 * read them. Only iptables itself can say what a rule means, so that is asked when the two differ.
 */

import type { Family } from '#ip/address.ts'
import { editTable, openIptables } from '#iptables/iptables.ts'
import { detectVariant, hasNftChain, legacyTables, type Variant } from '#iptables/variant.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ruleFingerprint } from '#nft/fingerprint.ts'
import { listRules } from '#nft/list.ts'
import { openNft } from '#nft/transaction.ts'
import { RulesetWatch, type RulesetEvent } from '#nft/watch.ts'
import { noFlannelChains, planChain, type FlannelChain } from '#flannel/iptables-rules.ts'
import { errorFields, type Log } from './log.ts'

export interface IptablesKeeperOptions {
  /** Between two looks, in milliseconds: what no event told of is found then. 0 for never. */
  readonly resyncMs: number
  readonly log: Log
  /** So many tables were put right that somebody else had changed. */
  readonly onRepair: (tables: number) => void
  /** `isInPlace` may be another than before. */
  readonly onChange: () => void
}

const FAMILIES = [4, 6] as const
const NFT_FAMILY = { 4: 'ip', 6: 'ip6' } as const satisfies Record<Family, 'ip' | 'ip6'>

/** Changes of a reload come in a row. */
const SETTLE_MS = 100
const RETRY_MS = 1_000
const RETRY_MOST_MS = 30_000
/** Repairs within the window are made at once; after that somebody fights, and each waits as a retry does. */
const PATIENCE = 8
const WINDOW_MS = 60_000

export type WantedChains = Readonly<Record<Family, readonly FlannelChain[]>>

export class IptablesKeeper implements AsyncDisposable {
  readonly #options: IptablesKeeperOptions
  readonly #nft: NetlinkSocket
  readonly #watch: RulesetWatch
  readonly #resync: NodeJS.Timeout | undefined
  #wanted: WantedChains | undefined
  /** What the kernel held of our chains when they were last as wanted; undefined before that, and for the old kind. */
  #seen: string | undefined
  #variant: Variant | undefined
  #isInPlace = false
  #isForeign = false
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #again = false
  #failures = 0
  #repairs: number[] = []
  #unreadable = 0
  #ended = false

  constructor(options: IptablesKeeperOptions) {
    this.#options = options
    this.#nft = openNft()
    this.#watch = new RulesetWatch((event) => this.#onEvent(event)).unref()
    const { resyncMs } = options
    if (resyncMs > 0) this.#resync = setInterval(() => this.#look(), resyncMs).unref()
  }

  /** Replaces what is wanted; takes effect at once. */
  want(wanted: WantedChains): void {
    const before = this.#wanted
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(wanted)) return
    this.#wanted = wanted
    this.#isInPlace = false
    this.#isForeign = false
    this.#failures = 0
    this.#soon(0)
  }

  /** Whether what is wanted is in the kernel, as of the last look. */
  get isInPlace(): boolean {
    return this.#isInPlace
  }

  /** Waits until what is under way has ended. What is in the kernel stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true
    clearTimeout(this.#timer)
    clearInterval(this.#resync)
    this.#watch[Symbol.dispose]()
    await this.#running
    this.#nft[Symbol.dispose]()
  }

  #onEvent(event: RulesetEvent): void {
    // Of the old kind nobody tells.
    if (this.#wanted === undefined || this.#variant === 'legacy') return
    const concerns =
      event.kind === 'overrun' ||
      event.tables.some(
        ({ family, name }) => (family === 'ip' || family === 'ip6') && (name === 'nat' || name === 'filter'),
      )
    if (concerns && this.#running === undefined) this.#look()
    else if (concerns) this.#again = true
  }

  /** Does nothing while the kernel holds what it held. */
  #look(): void {
    if (this.#wanted === undefined || this.#running !== undefined || this.#timer !== undefined) return
    if (this.#seen !== undefined && this.#seen === this.#read()) return
    this.#isForeign = this.#isInPlace
    this.#soon(this.#isFight() ? this.#pause() : SETTLE_MS)
  }

  #soon(ms: number): void {
    if (this.#ended) return
    if (this.#running !== undefined) {
      this.#again = true
      return
    }
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#running = this.#write().finally(() => {
        this.#running = undefined
        const again = this.#again
        this.#again = false
        if (this.#failures > 0) this.#soon(this.#pause())
        else if (again) this.#look()
      })
    }, ms)
    if (ms >= RETRY_MS) this.#timer.unref()
  }

  #pause(): number {
    const times = Math.max(this.#failures, this.#repairs.length - PATIENCE)
    return Math.min(RETRY_MOST_MS, RETRY_MS * 2 ** Math.min(Math.max(times - 1, 0), 10)) * (0.75 + Math.random() / 2)
  }

  #isFight(): boolean {
    const now = performance.now()
    this.#repairs = this.#repairs.filter((at) => now - at < WINDOW_MS)
    return this.#repairs.length >= PATIENCE
  }

  async #write(): Promise<void> {
    const wanted = this.#wanted
    if (wanted === undefined) return
    const { log, onRepair, onChange } = this.#options
    try {
      const variant = await detectVariant(this.#nft, undefined)
      if (this.#variant !== undefined && this.#variant !== variant)
        log.warn({ variant, before: this.#variant }, 'this node uses another kind of iptables by now: moving over')
      let changed = 0
      for (const family of FAMILIES) changed += await this.#writeFamily(family, variant, wanted[family])
      this.#variant = variant
      // Read after writing, and before anybody is believed: what changes from here on is an event's.
      this.#seen = variant === 'nft' && this.#wanted === wanted ? this.#read() : undefined
      if (this.#isForeign && changed > 0) {
        this.#repairs.push(performance.now())
        log.warn({ tables: changed }, "put flannel's rules back into iptables that somebody else removed or changed")
        onRepair(changed)
      }
      this.#failures = 0
      this.#isForeign = false
      this.#isInPlace = this.#wanted === wanted
    } catch (error) {
      this.#failures++
      this.#seen = undefined
      this.#isInPlace = false
      log.warn(errorFields(error), "flannel's rules could not be written into iptables; trying again")
    }
    onChange()
  }

  /** Returns how many tables were changed. The kind that is not used is cleared of what is ours. */
  async #writeFamily(family: Family, variant: Variant, chains: readonly FlannelChain[]): Promise<number> {
    let changed = 0
    for (const chain of chains) {
      if (chain.rules !== undefined || mayHave(this.#nft, variant, family, chain)) {
        const iptables = await openIptables(undefined, family, variant)
        if (await editTable(iptables, chain.table, (seen) => planChain(seen, chain))) changed++
      }
      const other: Variant = variant === 'nft' ? 'legacy' : 'nft'
      if (mayHave(this.#nft, other, family, chain)) {
        const iptables = await openIptables(undefined, family, other)
        await editTable(iptables, chain.table, (seen) => planChain(seen, { ...chain, rules: undefined }))
      }
    }
    return changed
  }

  /** Everything of ours in nf_tables, as text that changes with it. */
  #read(): string {
    try {
      return FAMILIES.flatMap((family) =>
        (this.#wanted?.[family] ?? []).map(({ table, chain, from }) => {
          const ref = { family: NFT_FAMILY[family], name: table }
          if (!hasNftChain(this.#nft, family, table, chain)) return 'none'
          const own = listRules(this.#nft, ref, chain).map(ruleFingerprint)
          // Others' rules in the kernel's chains come and go.
          const leading = listRules(this.#nft, ref, from)
            .filter(({ expressions }) => Buffer.from(expressions).includes(chain))
            .map(ruleFingerprint)
          return `${own.join(' ')} | ${leading.join(' ')}`
        }),
      ).join('\n')
    } catch {
      // Deleted meanwhile, or netlink is in trouble: whoever writes next finds out, and says so.
      return `unreadable ${++this.#unreadable}`
    }
  }
}

/** Removes flannel's chains from iptables, of both kinds; starts a program only where there may be some. Throws IptablesError. */
export async function removeFlannelChains(nft: NetlinkSocket): Promise<boolean> {
  let changed = false
  for (const family of FAMILIES) {
    for (const gone of noFlannelChains) {
      const variants: readonly Variant[] = ['nft', 'legacy']
      for (const variant of variants.filter((one) => mayHave(nft, one, family, gone))) {
        const iptables = await openIptables(undefined, family, variant)
        if (await editTable(iptables, gone.table, (seen) => planChain(seen, gone))) changed = true
      }
    }
  }
  return changed
}

/** The old kind only tells which tables there are. */
const mayHave = (nft: NetlinkSocket, variant: Variant, family: Family, { table, chain }: FlannelChain): boolean =>
  variant === 'nft' ? hasNftChain(nft, family, table, chain) : legacyTables(undefined, family).includes(table)
