/** What is changed in a router's extra routes. Pure: a look at the router, and what is wanted, give two requests at most. */

import type { IpText } from '#ip/address.ts'
import { containsCidr, formatCidr, networkOf, parseCidr, type CidrText } from '#ip/prefix.ts'
import { destinationOf, type ExtraRoute, type WantedRoute } from '#openstack/neutron/router.ts'

export interface RouterView {
  /** As read. */
  readonly routes: readonly ExtraRoute[]
  /** Those that matter most first. */
  readonly wanted: readonly WantedRoute[]
  readonly podCidrs: readonly CidrText[]
  /** Addresses of nodes, of those that are there and of those that were: only routes to these are ours. */
  readonly nextHops: ReadonlySet<IpText>
  /** Routes that the router may have altogether, other people's included. */
  readonly room: number
  /** Keys of routes that were wanted in this life: if they are wanted no more, then because something ended. */
  readonly retired: ReadonlySet<string>
  /** Keys of routes that nothing wanted in the round before. */
  readonly doubted: ReadonlySet<string>
  /** Pods and nodes are known, and not suspiciously few. If not, nothing is taken away but what leads a wanted address astray. */
  readonly isCertain: boolean
  /** A round that counts: what nothing wants is doubted in one, and removed in the next. */
  readonly isFull: boolean
}

export interface RouterPlan {
  /** As they were read: bits beyond the length included. */
  readonly remove: readonly ExtraRoute[]
  readonly add: readonly WantedRoute[]
  /** Nothing is led astray, and there is room: no address is without its route for a moment. */
  readonly isAddFirst: boolean
  /** Wanted, and there is no room for them. */
  readonly held: readonly WantedRoute[]
  /** Wanted, and somebody else's route has the destination: a second one would share the traffic between both. */
  readonly blocked: readonly WantedRoute[]
  /** For the next round's `doubted`. */
  readonly doubted: ReadonlySet<string>
  /** How many routes of the router are ours. */
  readonly owned: number
}

export const routeKey = ({
  destination,
  nexthop,
}: {
  readonly destination: CidrText
  readonly nexthop: IpText
}): string => `${destination} ${nexthop}`

/** The same of a route as it was read. */
export const keyOf = (route: ExtraRoute): string =>
  routeKey({ destination: destinationOf(route), nexthop: route.nexthop })

/** True for what this controller may have made: within the pods' networks, to a node. */
export function isOwned(route: ExtraRoute, view: Pick<RouterView, 'podCidrs' | 'nextHops'>): boolean {
  const destination = parseCidr(destinationOf(route))
  return view.nextHops.has(route.nexthop) && view.podCidrs.some((cidr) => containsCidr(parseCidr(cidr), destination))
}

/** True where a route draws addresses away that are wanted elsewhere: it is as long as theirs, or longer. */
function leadsAstray(route: ExtraRoute, wanted: ReadonlyMap<CidrText, WantedRoute>): boolean {
  const cidr = parseCidr(destinationOf(route))
  for (let { length } = cidr; length >= 0; length -= 1) {
    const found = wanted.get(formatCidr(networkOf({ ip: cidr.ip, length })))
    if (found !== undefined) return found.nexthop !== route.nexthop
  }
  return false
}

export function planRouter(view: RouterView): RouterPlan {
  const wanted = new Map(view.wanted.map((route) => [route.destination, route]))
  const wantedKeys = new Set(view.wanted.map(routeKey))
  const [ours, others] = [
    view.routes.filter((route) => isOwned(route, view)),
    view.routes.filter((route) => !isOwned(route, view)),
  ]
  const present = new Set<string>()
  const remove: ExtraRoute[] = []
  const doubted = new Set<string>()
  for (const route of ours) {
    const key = keyOf(route)
    const isClean = route.destination === destinationOf(route)
    if (wantedKeys.has(key)) {
      // With bits beyond its length it spoils every write of the whole list; the clean one is added in its place.
      if (isClean) present.add(key)
      else remove.push(route)
      continue
    }
    if (leadsAstray(route, wanted)) remove.push(route)
    else if (!view.isCertain) {
      if (view.doubted.has(key)) doubted.add(key)
    } else if (view.retired.has(key) || (view.isFull && view.doubted.has(key))) remove.push(route)
    else if (view.isFull || view.doubted.has(key)) doubted.add(key)
  }
  const foreign = new Set(others.map(destinationOf))
  const missing = view.wanted.filter((route) => !present.has(routeKey(route)))
  const blocked = missing.filter(({ destination }) => foreign.has(destination))
  const open = missing.filter(({ destination }) => !foreign.has(destination))
  const free = Math.max(0, view.room - (view.routes.length - remove.length))
  const add = open.slice(0, free)
  const removed = new Set(remove.map(destinationOf))
  return {
    remove,
    add,
    isAddFirst:
      remove.length > 0 &&
      view.routes.length + add.length <= view.room &&
      !add.some(({ destination }) => removed.has(destination)) &&
      !remove.some((route) => leadsAstray(route, wanted)),
    held: open.slice(free),
    blocked,
    doubted,
    owned: ours.length,
  }
}
