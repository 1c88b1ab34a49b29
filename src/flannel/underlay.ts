/**
 * Which interface carries the traffic between nodes, decided from what the kernel has.
 *
 * Source: flannel's pkg/ipmatch/match.go for the order of preference. Unlike there, the two families may use two interfaces, and a
 * node without a default route takes its only interface.
 */

import { isLinkLocal, parseIp, tryParseIp, type Family, type Ip } from '#ip/address.ts'
import { contains, familyOf, parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { FlannelError, shown } from './errors.ts'
import type { Underlay } from './local.ts'
import type { UnderlayRoute } from './on-link.ts'

export interface UnderlayLink {
  readonly index: number
  readonly name: string
  readonly up: boolean
  readonly mtu: number
  readonly loopback: boolean
}

export interface UnderlayAddress {
  readonly dev: string
  readonly ip: IpText
  readonly deprecated: boolean
  readonly temporary: boolean
  readonly permanent: boolean
}

/** A route of the main table that is not Heddle's own. */
export interface MainRoute extends UnderlayRoute {
  readonly priority: number
}

/** What the kernel has, as far as it matters here. */
export interface UnderlayFacts {
  readonly links: readonly UnderlayLink[]
  readonly addresses: readonly UnderlayAddress[]
  readonly routes: readonly MainRoute[]
}

/** What the operator says. */
export interface UnderlayWish {
  /** Names or addresses; the first that exists is taken. */
  readonly ifaces: readonly string[]
  /** Tried after `ifaces`: each against the addresses, then against the names. */
  readonly patterns?: readonly RegExp[]
  /** The interface of the route to this address. */
  readonly canReach?: IpText
  /** Published addresses; without `ifaces` they also choose the interface if one has them. */
  readonly publicIps: { readonly [family in Family]?: IpText }
}

export interface ChosenUnderlay {
  readonly underlay: Underlay
  readonly address: IpText
}

/**
 * Chooses for one family. `last` is kept as long as it is there, so that a second address or default route moves nothing.
 * Throws FlannelError `bad-option` when there is nothing to choose, listing what there is.
 */
export function chooseUnderlay(
  facts: UnderlayFacts,
  wish: UnderlayWish,
  family: Family,
  last?: ChosenUnderlay,
): ChosenUnderlay {
  const candidates = facts.addresses.filter((address) => usable(facts, address, family)).toSorted(byPreference)
  const kept = candidates.find(({ dev, ip }) => dev === last?.underlay.dev && ip === last.address)
  const chosen =
    kept ?? candidates.find(({ dev }) => dev === last?.underlay.dev) ?? wished(facts, wish, family, candidates)
  const link = facts.links.find(({ name }) => name === chosen.dev)
  const routes = facts.routes
    .filter((route) => familyOf(route.dst) === family)
    .map(({ dst, via, dev }) => ({ dst, ...(via === undefined ? {} : { via }), ...(dev === undefined ? {} : { dev }) }))
  return { underlay: { dev: chosen.dev, mtu: link?.mtu ?? 1500, routes }, address: chosen.ip }
}

function wished(
  facts: UnderlayFacts,
  wish: UnderlayWish,
  family: Family,
  candidates: readonly UnderlayAddress[],
): UnderlayAddress {
  const on = (dev: string | undefined): UnderlayAddress | undefined => candidates.find((address) => address.dev === dev)
  const { ifaces, patterns = [] } = wish
  if (ifaces.length > 0 || patterns.length > 0) {
    for (const wanted of ifaces) {
      const device = tryParseIp(wanted) === undefined ? wanted : facts.addresses.find(({ ip }) => ip === wanted)?.dev
      const found = candidates.find(({ ip }) => ip === wanted) ?? on(device)
      if (found !== undefined) return found
    }
    for (const pattern of patterns) {
      const found = candidates.find(({ ip }) => pattern.test(ip)) ?? candidates.find(({ dev }) => pattern.test(dev))
      if (found !== undefined) return found
    }
    const wishes = [...ifaces.map((text) => shown(text)), ...patterns.map(({ source }) => `/${source}/`)]
    const flag = ifaces.length > 0 ? 'iface' : 'iface-regex'
    throw nothing(facts, family, `none of ${wishes.join(', ')} has an IPv${family} address`, flag)
  }
  const published = candidates.find(({ ip }) => ip === wish.publicIps[family])
  if (published !== undefined) return published
  if (wish.canReach !== undefined && familyOf(wish.canReach) === family) {
    const found = on(routeTo(facts.routes, parseIp(wish.canReach))?.dev)
    if (found !== undefined) return found
    throw nothing(
      facts,
      family,
      `no interface with an IPv${family} address has a route to ${wish.canReach}`,
      'iface-can-reach',
    )
  }
  const byDefault = on(routeTo(facts.routes, undefined, family)?.dev)
  if (byDefault !== undefined) return byDefault
  const [only, ...others] = [...new Set(candidates.map(({ dev }) => dev))]
  const alone = others.length === 0 ? on(only) : undefined
  if (alone !== undefined) return alone
  const why =
    candidates.length === 0
      ? `no interface has an IPv${family} address`
      : `there is no IPv${family} default route, and several interfaces could be meant`
  throw nothing(facts, family, why, 'iface')
}

/** The route that `ip` would take, or the best default route. */
function routeTo(routes: readonly MainRoute[], ip: Ip | undefined, family?: Family): MainRoute | undefined {
  const length = (dst: CidrText): number => parseCidr(dst).length
  const matching = routes.filter(({ dst, dev }) =>
    dev === undefined
      ? false
      : ip === undefined
        ? length(dst) === 0 && familyOf(dst) === family
        : contains(parseCidr(dst), ip),
  )
  return matching.toSorted((a, b) => length(b.dst) - length(a.dst) || a.priority - b.priority)[0]
}

function usable(facts: UnderlayFacts, address: UnderlayAddress, family: Family): boolean {
  const ip = parseIp(address.ip)
  if (ip.family !== family || address.deprecated || (family === 6 && isLinkLocal(ip))) return false
  const link = facts.links.find(({ name }) => name === address.dev)
  return link !== undefined && link.up && !link.loopback
}

/** IPv4 link-local addresses last; permanent before dynamic, stable before temporary, then as the kernel lists them. */
function byPreference(a: UnderlayAddress, b: UnderlayAddress): number {
  const cost = (address: UnderlayAddress): number =>
    (isLinkLocal(parseIp(address.ip)) ? 4 : 0) + (address.permanent ? 0 : 2) + (address.temporary ? 1 : 0)
  return cost(a) - cost(b)
}

function nothing(facts: UnderlayFacts, family: Family, why: string, flag: string): FlannelError {
  const list = facts.addresses
    .filter(({ ip }) => familyOf(ip) === family)
    .slice(0, 20)
    .map(({ dev, ip }) => `${dev} ${ip}`)
    .join(', ')
  return new FlannelError(
    'bad-option',
    flag,
    `no interface for traffic between nodes: ${why}`,
    `choose one with --iface from: ${list === '' ? `(no IPv${family} address at all)` : list}`,
  )
}
