/** The node's own addresses as pods know them, and what the cloud says about the pods' network. */

import { join } from 'node:path'

import type { NetConf } from '#cni/config.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { formatIp, isLinkLocal, parseIp } from '#ip/address.ts'
import { familyOf, parseIpNet } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { DEFAULT_STATE_DIR, FACTS_FILE, factsPathOf, subnetOf, tryReadFacts, type Facts } from '#ipam/neutron/facts.ts'
import { IFA_F, listAddrs, type SeenAddr } from '#netlink/addr.ts'
import type { Link } from '#netlink/link-codec.ts'

export const NEUTRON_IPAM = 'neutron-ipam'

/** What `neutron-ipam` wrote down for this network; undefined for another IPAM plugin, or as long as nothing is written. Throws CniError 5, 6 or 7. */
export const factsOf = (config: NetConf, root: string): Facts | undefined =>
  config.ipam.type === NEUTRON_IPAM ? tryReadFacts(factsPathOf(config, root)) : undefined

/** The same for a plugin later in the list, whose configuration has no "ipam": `stateDir` is that of neutron-ipam, '' for its default. */
export const factsIn = (stateDir: string, root: string): Facts | undefined =>
  tryReadFacts(join(root, stateDir === '' ? DEFAULT_STATE_DIR : stateDir, FACTS_FILE))

/**
 * The node's address of each family: what the cloud knows it by, if the node really has it; else the first one of its card.
 * Pods are never told an address that the node has not.
 */
export function nodeAddresses(host: PluginHost, card: Link, facts: Facts | undefined): ReadonlyMap<4 | 6, IpText> {
  const usable = listAddrs(host.netlink).filter(isUsable)
  const own = new Set(usable.map(addressOf))
  const known = facts === undefined ? [] : [facts.node.address, ...facts.node.addresses].filter((ip) => own.has(ip))
  const ofCard = usable.filter(({ index }) => index === card.index).toSorted((a, b) => rank(a) - rank(b))
  const found = new Map<4 | 6, IpText>()
  for (const ip of [...known, ...ofCard.map(addressOf)]) if (!found.has(familyOf(ip))) found.set(familyOf(ip), ip)
  return found
}

const addressOf = ({ address }: SeenAddr): IpText => formatIp(parseIpNet(address).ip)

const isUsable = (addr: SeenAddr): boolean =>
  addr.scope === 'global' &&
  (addr.flags & (IFA_F.TENTATIVE | IFA_F.DADFAILED)) === 0 &&
  !isLinkLocal(parseIp(addressOf(addr)))

/** Addresses that come and go (secondary ones, IPv6 privacy addresses) last. */
const rank = ({ flags }: SeenAddr): number => flags & (IFA_F.SECONDARY | IFA_F.DEPRECATED)

/** The largest packet that each of the pods' networks takes, as far as the cloud tells, and the card; 0 where the cloud tells nothing: the kernel's choice. */
export function networkMtu(card: Link, facts: Facts | undefined): number {
  const told = (facts?.subnets ?? []).map(({ mtu }) => mtu).filter((mtu) => mtu > 0)
  return told.length === 0 ? 0 : Math.min(card.mtu, ...told)
}

/**
 * The largest packet of a pod: what the configuration says, else the smallest of its subnets' networks as far as the cloud tells, and never more than the card
 * carries.
 */
export function mtuFor(configured: number, card: Link, facts: Facts | undefined, ips: readonly IpText[]): number {
  if (configured !== 0) return configured
  const told = ips.flatMap((ip) => (facts === undefined ? [] : (subnetOf(facts, ip)?.mtu ?? [])))
  return Math.min(card.mtu, ...told.filter((mtu) => mtu > 0))
}
