/** The table nat of the host as plugins use it: chains of one container each, made, found and dropped by their names. */

import { ioFailure, unavailable } from '#cni/errors.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { Family } from '#ip/address.ts'
import { dropChains } from '#iptables/edit.ts'
import { IptablesError } from '#iptables/error.ts'
import { editTable, openIptables, type Iptables } from '#iptables/iptables.ts'
import type { Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import { detectVariant, hasIptables, hasNftChain, legacyTables, type Variant } from '#iptables/variant.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { listChains } from '#nft/list.ts'
import { hostNetns } from '../link/host-netns.ts'
import { all } from '../link/undo.ts'
import { jumpOf, referenceChain } from './reference.ts'

export const FAMILIES = [4, 6] as const

/** The families beside each other: most of the time goes into starting programs. Throws what failed first, when all have ended. */
export async function eachFamily(
  families: Iterable<Family>,
  work: (family: Family) => Promise<unknown>,
): Promise<void> {
  const errors = await all([...families].map((family) => () => work(family)))
  if (errors.length > 0) throw errors[0]
}

/** The iptables that this node uses. Throws CniError 5. */
export const hostIptables = (host: Pick<PluginHost, 'netlink'>, family: Family): Promise<Iptables> =>
  answering(async () => {
    const { nft, fd } = hostNetns(host)
    return openIptables(fd, family, await detectVariant(nft, fd))
  })

/** For STATUS, where a configuration asks for iptables. Throws CniError 50 where it is not installed. */
export function requireIptables(field: string): void {
  if (hasIptables()) return
  throw unavailable(
    `${field} is "iptables", and iptables is not installed`,
    `install the package iptables, or set ${field} to "nftables"`,
  )
}

/** What iptables refuses becomes CniError 5 with its words. */
export async function answering<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof IptablesError)) throw error
    throw ioFailure('iptables failed', error.message, { cause: error })
  }
}

/** Whether a chain of that name is in the table nat of either family: two netlink requests, no process. */
export const hasNatChain = (nft: NetlinkSocket, name: string): boolean =>
  FAMILIES.some((family) => hasNftChain(nft, family, 'nat', name))

/** The kinds of iptables that may hold such a chain: today's where netlink says so, the old one where the kernel has its table. */
const variantsWith = (host: PluginHost, family: Family, inNft: () => boolean): readonly Variant[] => [
  ...(inNft() ? (['nft'] as const) : []),
  ...(legacyTables(hostNetns(host).fd, family).includes('nat') ? (['legacy'] as const) : []),
]

/** Removes a chain and the rules that lead to it, in both families and of both kinds. Returns the chain's rules; nothing there is fine. Throws CniError 5. */
export async function dropNatChain(host: PluginHost, name: string): Promise<readonly Rule[]> {
  const { nft } = hostNetns(host)
  const dropped: Rule[] = []
  await eachFamily(FAMILIES, (family) => {
    const inNft = (): boolean => hasNftChain(nft, family, 'nat', name)
    return eachNat(host, family, variantsWith(host, family, inNft), (seen) => {
      dropped.push(...seen.rulesOf(name))
      return new Set([name])
    })
  })
  return dropped
}

/** Removes the chains of a network's containers that are not valid any more. Throws CniError 5. */
export async function dropStaleNatChains(
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
  prefix: '' | 'DN-',
): Promise<void> {
  const form = prefix === '' ? /^CNI-[0-9a-f]{24}$/ : /^CNI-DN-[0-9a-f]{21}$/
  const keep = new Set(valid.map(({ containerId }) => referenceChain(network, containerId, prefix)))
  const { nft } = hostNetns(host)
  await eachFamily(FAMILIES, (family) => {
    const table = { family: family === 4 ? 'ip' : 'ip6', name: 'nat' } as const
    const inNft = (): boolean => listChains(nft, table).some(({ name }) => form.test(name))
    return eachNat(host, family, variantsWith(host, family, inNft), (seen) => staleOf(seen, network, form, keep))
  })
}

function staleOf(seen: TableRules, network: string, form: RegExp, keep: ReadonlySet<string>): ReadonlySet<string> {
  const stale = new Set<string>()
  for (const [, rule] of seen.rules()) {
    const jump = jumpOf(rule)
    if (jump?.network === network && form.test(jump.chain) && !keep.has(jump.chain)) stale.add(jump.chain)
  }
  return stale
}

async function eachNat(
  host: PluginHost,
  family: Family,
  variants: readonly Variant[],
  chains: (seen: TableRules) => ReadonlySet<string>,
): Promise<void> {
  for (const variant of variants) {
    await answering(async () => {
      const iptables = await openIptables(hostNetns(host).fd, family, variant)
      await editTable(iptables, 'nat', (seen) => dropChains(seen, chains(seen)))
    })
  }
}
