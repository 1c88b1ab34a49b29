/** flannel's rules: chains of iptables, of both kinds, and its tables of nftables. */

import { openIptables, readTable } from '#iptables/iptables.ts'
import { hasNftChain, legacyTables, type Variant } from '#iptables/variant.ts'
import { noFlannelChains } from '#flannel/iptables-rules.ts'
import { listTables } from '#nft/list.ts'
import { openNft } from '#nft/transaction.ts'
import type { RuleSet } from './facts.ts'

const FAMILIES = [4, 6] as const
const VARIANTS: readonly Variant[] = ['nft', 'legacy']
export const FLANNEL_TABLES: readonly string[] = ['ip flannel-ipv4', 'ip6 flannel-ipv6']

/** Starts a program only where there may be some. Throws IptablesError, NetlinkError. */
export async function readRules(): Promise<readonly RuleSet[]> {
  using nft = openNft()
  const found: RuleSet[] = []
  for (const family of FAMILIES) {
    for (const variant of VARIANTS) {
      for (const { table, chain } of noFlannelChains) {
        const mayBe =
          variant === 'nft' ? hasNftChain(nft, family, table, chain) : legacyTables(undefined, family).includes(table)
        if (!mayBe) continue
        const iptables = await openIptables(undefined, family, variant)
        const rules = await readTable(iptables, table)
        if (rules.hasChain(chain))
          found.push({
            kind: 'iptables',
            name: `${iptables.program} ${table} ${chain}`,
            rules: rules.rulesOf(chain).length,
          })
      }
    }
  }
  const tables = listTables(nft).map(({ family, name }) => `${family} ${name}`)
  return [
    ...found,
    ...tables
      .filter((name) => FLANNEL_TABLES.includes(name))
      .map((name): RuleSet => ({ kind: 'nftables', name, rules: undefined })),
  ]
}
