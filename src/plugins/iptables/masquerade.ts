/**
 * Masquerade of pods by iptables (`ipMasqBackend: iptables`): a chain for each container, as the reference plugins make it.
 *
 * The chain's name is made of network and container alone, also for a container with two attachments to one network: they share it, and the first DEL removes it.
 */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { familyOf, formatCidr, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { Family, IpNetText } from '#ip/text.ts'
import { ensureRule, fillChain, type Edit } from '#iptables/edit.ts'
import { editTable, readTable } from '#iptables/iptables.ts'
import type { Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ipOf } from '../link/configure.ts'
import { answering, eachFamily, dropNatChain, dropStaleNatChains, hasNatChain, hostIptables } from './nat.ts'
import { noteOf } from './note.ts'
import { referenceChain, referenceComment } from './reference.ts'

const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const satisfies Record<Family, string>

const families = (addresses: readonly IpNetText[]): readonly Family[] =>
  ([4, 6] as const).filter((family) => addresses.some((address) => familyOf(address) === family))

interface Wanted {
  readonly chain: string
  readonly rules: readonly Rule[]
  /** Of POSTROUTING. */
  readonly entries: readonly Rule[]
}

function wantedOf(network: string, containerId: string, family: Family, all: readonly IpNetText[]): Wanted {
  const chain = referenceChain(network, containerId)
  const comment = ['-m', 'comment', '--comment', referenceComment(network, containerId)]
  const addresses = all.filter((address) => familyOf(address) === family)
  const subnets = [...new Set(addresses.map((address) => formatCidr(networkOf(parseIpNet(address)))))]
  return {
    chain,
    rules: [
      ...subnets.map((subnet): Rule => ['-d', subnet, ...comment, '-j', 'ACCEPT']),
      ['!', '-d', MULTICAST[family], ...comment, '-j', 'MASQUERADE'],
    ],
    entries: addresses.map((address): Rule => {
      const source = `${ipOf(address)}/${family === 4 ? 32 : 128}`
      return ['-s', source, ...comment, '-j', chain]
    }),
  }
}

/** Masquerades these addresses of a container from now on. Throws CniError 5. */
export async function masqueradeByIptables(
  host: PluginHost,
  network: string,
  { containerId }: Attachment,
  addresses: readonly IpNetText[],
): Promise<void> {
  await eachFamily(families(addresses), async (family) => {
    const { chain, rules, entries } = wantedOf(network, containerId, family, addresses)
    const plan = (seen: TableRules): readonly Edit[] => [
      ...fillChain(seen, chain, rules),
      ...entries.flatMap((entry) => ensureRule(seen, 'POSTROUTING', entry, 'last')),
    ]
    const iptables = await hostIptables(host, family)
    await answering(() => editTable(iptables, 'nat', plan))
    host.chains?.push(noteOf(family, 'nat', plan, [chain]))
  })
}

/** The address that is not masqueraded though it should be. Throws CniError 5. */
export async function notMasqueradedByIptables(
  host: PluginHost,
  network: string,
  { containerId }: Attachment,
  addresses: readonly IpNetText[],
): Promise<string | undefined> {
  for (const family of families(addresses)) {
    const { chain, rules, entries } = wantedOf(network, containerId, family, addresses)
    const iptables = await hostIptables(host, family)
    const seen = await answering(() => readTable(iptables, 'nat'))
    const isWhole = rules.every((rule) => seen.has(chain, rule))
    const missing = entries.find((entry) => !isWhole || !seen.has('POSTROUTING', entry))
    if (missing !== undefined) return missing[1]
  }
  return undefined
}

/** Whether a container's chain exists, whoever made it; two netlink requests, no process. */
export const hasIptablesMasquerade = (nft: NetlinkSocket, network: string, containerId: string): boolean =>
  hasNatChain(nft, referenceChain(network, containerId))

/** Removes a container's chain and the rules that lead to it, whoever made them. Throws CniError 5. */
export const dropIptablesMasquerade = async (host: PluginHost, network: string, containerId: string): Promise<void> =>
  void (await dropNatChain(host, referenceChain(network, containerId)))

export const dropStaleIptablesMasquerade = (
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
): Promise<void> => dropStaleNatChains(host, network, valid, '')
