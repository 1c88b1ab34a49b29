/** Which program flannel's rules are for: nftables, where the reconciler keeps them as a table, or iptables, where a keeper of their own does. And only one of the two. */

import type { NetlinkSocket } from '#netlink/socket.ts'
import { deleteTable } from '#nft/ensure.ts'
import type { TableRef } from '#nft/table.ts'
import { openNft } from '#nft/transaction.ts'
import { hasIptables } from '#iptables/variant.ts'
import { flannelChains } from '#flannel/iptables-rules.ts'
import type { Local } from '#flannel/local.ts'
import type { RulesMode } from '#flannel/net-conf.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { IptablesKeeper, removeFlannelChains } from './iptables-keeper.ts'
import { errorFields, type Log } from './log.ts'

export interface FlannelRulesOptions {
  /** As the network configuration says. */
  readonly mode: RulesMode
  readonly resyncMs: number
  readonly metrics: Pick<AgentMetrics, 'repairs'>
  readonly log: Log
  /** `absent` may be another than before. */
  readonly onChange: () => void
}

/** What flannel itself has in nftables (EnableNFTables). Source: flannel pkg/trafficmngr/nftables/nftables.go. */
const FLANNEL_TABLES: readonly TableRef[] = [
  { family: 'ip', name: 'flannel-ipv4' },
  { family: 'ip6', name: 'flannel-ipv6' },
]

const RETRY_MS = 30_000

export class FlannelRules implements AsyncDisposable {
  /** What is used: nftables also where iptables is wanted and not installed. */
  readonly mode: RulesMode
  readonly #log: Log
  readonly #nft: NetlinkSocket
  readonly #keeper: IptablesKeeper | undefined
  #cleaning: Promise<void> | undefined
  #isClean = false
  #next = 0

  constructor(options: FlannelRulesOptions) {
    const { mode, resyncMs, metrics, log, onChange } = options
    this.#log = log
    this.#nft = openNft()
    this.mode = mode === 'iptables' && !hasIptables() ? 'nftables' : mode
    if (this.mode !== mode)
      log.warn(
        {},
        'EnableNFTables is false, and iptables is not installed: nftables is used; set EnableNFTables to true, or install the package iptables',
      )
    const onRepair = (tables: number): void => metrics.repairs.add({ kind: 'iptables' }, tables)
    this.#keeper = this.mode === 'iptables' ? new IptablesKeeper({ resyncMs, log, onRepair, onChange }) : undefined
  }

  /** What is under way is waited for; what is in the kernel stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleaning
    await this.#keeper?.[Symbol.asyncDispose]()
    this.#nft[Symbol.dispose]()
  }

  /** This node is another than before. */
  setLocal(local: Local): void {
    this.#keeper?.want({ 4: flannelChains(local, 4), 6: flannelChains(local, 6) })
  }

  /** What is not in iptables yet, in words; undefined when all is, or the reconciler keeps the rules. */
  get absent(): string | undefined {
    return this.#keeper === undefined || this.#keeper.isInPlace ? undefined : "flannel's chains in iptables"
  }

  /** Our own rules are in place: those of the other kind, and those that flannel itself left, go. Once; cheap after that. */
  removeOthers(): void {
    const now = performance.now()
    if (this.#isClean || this.#cleaning !== undefined || now < this.#next) return
    this.#next = now + RETRY_MS
    this.#cleaning = this.#clean()
      .catch((error: unknown) =>
        this.#log.warn(errorFields(error), 'rules of the other kind could not be removed; trying again'),
      )
      .finally(() => (this.#cleaning = undefined))
  }

  async #clean(): Promise<void> {
    const tables = FLANNEL_TABLES.filter((table) => deleteTable(this.#nft, table))
    const chains = this.mode === 'nftables' && (await removeFlannelChains(this.#nft))
    if (tables.length > 0 || chains)
      this.#log.info({ tables, chains }, 'removed rules of flannel that are not used any more')
    this.#isClean = true
  }
}
