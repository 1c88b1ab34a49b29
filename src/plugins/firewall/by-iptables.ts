/** The firewall's backend iptables: puts the rules of `filter-rules.ts` into the host's table filter, and takes them out. */

import type { PluginHost } from '#cni/plugin.ts'
import type { Family } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import type { Edit } from '#iptables/edit.ts'
import { editTable, openIptables, readTable } from '#iptables/iptables.ts'
import type { TableRules } from '#iptables/save.ts'
import { hasNftChain, legacyTables, type Variant } from '#iptables/variant.ts'
import { answering, eachFamily, FAMILIES, hostIptables } from '../iptables/nat.ts'
import { noteOf } from '../iptables/note.ts'
import { hostNetns } from '../link/host-netns.ts'
import { allowedAddresses, missingRule, planAllow, planForget, type Unwanted, type Wanted } from './filter-rules.ts'

const ofFamily = (addresses: readonly CidrText[], family: Family): readonly CidrText[] =>
  addresses.filter((address) => familyOf(address) === family)

/** Throws CniError 5 with iptables' words. */
export async function allowByIptables(host: PluginHost, wanted: Wanted): Promise<void> {
  await eachFamily(FAMILIES, async (family) => {
    const addresses = ofFamily(wanted.addresses, family)
    if (addresses.length === 0) return
    const iptables = await hostIptables(host, family)
    const plan = (seen: TableRules): readonly Edit[] => planAllow(seen, { ...wanted, addresses })
    await answering(() => editTable(iptables, 'filter', plan))
    host.chains?.push(noteOf(family, 'filter', plan))
  })
}

/** What is missing, in words. Throws CniError 5. */
export async function missingByIptables(host: PluginHost, wanted: Wanted): Promise<string | undefined> {
  for (const family of FAMILIES) {
    const addresses = ofFamily(wanted.addresses, family)
    if (addresses.length === 0) continue
    const iptables = await hostIptables(host, family)
    const missing = missingRule(await answering(() => readTable(iptables, 'filter')), { ...wanted, addresses })
    if (missing !== undefined) return missing
  }
  return undefined
}

/**
 * Removes what nobody wants any more, of both kinds of iptables. A bridge's rules stay while CNI-FORWARD lets an address through that `known` does not: a pod of
 * the reference plugin, of which there is no record. Throws CniError 5.
 */
export async function forgetByIptables(
  host: PluginHost,
  unwanted: Unwanted,
  known: ReadonlySet<string>,
): Promise<void> {
  const { fd } = hostNetns(host)
  await eachFamily(FAMILIES, async (family) => {
    const addresses = ofFamily(unwanted.addresses, family)
    for (const variant of variantsOf(host, family)) {
      await answering(async () => {
        const iptables = await openIptables(fd, family, variant)
        await editTable(iptables, 'filter', (seen) => {
          const isForeign = allowedAddresses(seen).some((address) => !known.has(address))
          return planForget(seen, isForeign ? { addresses } : { ...unwanted, addresses })
        })
      })
    }
  })
}

/** The kinds of iptables in which the plugin, or the reference, has left something. */
function variantsOf(host: PluginHost, family: Family): readonly Variant[] {
  const { nft, fd } = hostNetns(host)
  const inNft = ['CNI-FORWARD', 'CNI-ISOLATION-STAGE-1'].some((chain) => hasNftChain(nft, family, 'filter', chain))
  return [
    ...(inNft ? (['nft'] as const) : []),
    ...(legacyTables(fd, family).includes('filter') ? (['legacy'] as const) : []),
  ]
}
