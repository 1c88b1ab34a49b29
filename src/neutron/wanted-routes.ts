/** Which routes a router should have, by the pods and nodes there are. Pure. */

import { parseIp, type IpText } from '#ip/address.ts'
import { contains, containsCidr, familyOf, formatCidr, hostCidr, parseCidr, type CidrText } from '#ip/prefix.ts'
import type { WantedRoute } from '#openstack/neutron/router.ts'
import { aggregate, type Aggregation } from './aggregate.ts'
import { addressesOf, type NodeView } from './node-view.ts'
import type { PodView } from './pod-view.ts'

/** `per-pod`: each pod's address leads to its node. `per-node`: each node's podCIDRs do. `none`: no routes; what is ours goes. */
export type RouteStrategy = 'none' | 'per-pod' | 'per-node'

export interface RouteSite {
  readonly strategy: RouteStrategy
  /** Outside of these nothing is wanted, and nothing is touched. */
  readonly podCidrs: readonly CidrText[]
  /** Nodes' own networks: of several InternalIPs one in these is the next hop. */
  readonly nodeCidrs: readonly CidrText[]
}

export interface Wish extends WantedRoute {
  /** Name of the node it leads to. */
  readonly node: string
}

/** Why something that looks as if it should have a route has none. */
export interface Skipped {
  readonly what: string
  readonly reason: 'no-node' | 'no-node-address' | 'outside-pod-cidrs' | 'taken'
}

export interface Wishes {
  /** Those that matter most first: they get the room there is. */
  readonly wishes: readonly Wish[]
  readonly skipped: readonly Skipped[]
}

const inside = (address: IpText, cidrs: readonly CidrText[]): boolean =>
  cidrs.some((cidr) => contains(parseCidr(cidr), parseIp(address)))

/**
 * The address of a node that routes lead to: the one that an annotation names; else its first InternalIP in the nodes' networks. Where
 * these are not told, the first outside of the pods' networks; else the only one there is, since pods' addresses may be among them.
 */
export function nextHopOf(node: NodeView, family: 4 | 6, site: RouteSite): IpText | undefined {
  if (node.chosen !== undefined && familyOf(node.chosen) === family) return node.chosen
  const all = addressesOf(node, family)
  if (site.nodeCidrs.length > 0) return all.find((address) => inside(address, site.nodeCidrs))
  return all.find((address) => !inside(address, site.podCidrs)) ?? (all.length === 1 ? all[0] : undefined)
}

/** Of two that have one address, the one that is there: ready before not, newer before older. */
const byClaim = (a: PodView, b: PodView): number =>
  Number(b.isReady) - Number(a.isReady) || b.created - a.created || (a.key < b.key ? -1 : 1)

function perPod(pods: Iterable<PodView>, nodes: ReadonlyMap<string, NodeView>, site: RouteSite): Wishes {
  const wishes = new Map<CidrText, Wish>()
  const skipped: Skipped[] = []
  for (const pod of [...pods].toSorted(byClaim)) {
    if (pod.isOver || pod.node === '') continue
    const node = nodes.get(pod.node)
    for (const address of pod.addresses) {
      const skip = (reason: Skipped['reason']): void => void skipped.push({ what: `pod ${pod.key} ${address}`, reason })
      const destination = formatCidr(hostCidr(parseIp(address)))
      const nexthop = node === undefined ? undefined : nextHopOf(node, familyOf(address), site)
      if (!inside(address, site.podCidrs)) skip('outside-pod-cidrs')
      else if (node === undefined) skip('no-node')
      else if (nexthop === undefined) skip('no-node-address')
      else if (wishes.has(destination)) skip('taken')
      else wishes.set(destination, { destination, nexthop, node: node.name })
    }
  }
  return { wishes: [...wishes.values()], skipped }
}

function perNode(nodes: ReadonlyMap<string, NodeView>, site: RouteSite): Wishes {
  const wishes: Wish[] = []
  const skipped: Skipped[] = []
  for (const node of [...nodes.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    for (const destination of node.podCidrs) {
      const skip = (reason: Skipped['reason']): void =>
        void skipped.push({ what: `node ${node.name} ${destination}`, reason })
      const cidr = parseCidr(destination)
      const nexthop = nextHopOf(node, familyOf(destination), site)
      const within = site.podCidrs.some((outer) => containsCidr(parseCidr(outer), cidr))
      const isTaken = wishes.some((one) => {
        const other = parseCidr(one.destination)
        return containsCidr(other, cidr) || containsCidr(cidr, other)
      })
      if (!within) skip('outside-pod-cidrs')
      else if (nexthop === undefined) skip('no-node-address')
      else if (isTaken) skip('taken')
      else wishes.push({ destination, nexthop, node: node.name })
    }
  }
  return { wishes, skipped }
}

export function wishesOf(pods: Iterable<PodView>, nodes: ReadonlyMap<string, NodeView>, site: RouteSite): Wishes {
  switch (site.strategy) {
    case 'none':
      return { wishes: [], skipped: [] }
    case 'per-pod':
      return perPod(pods, nodes, site)
    case 'per-node':
      return perNode(nodes, site)
    default:
      return site.strategy satisfies never
  }
}

/** From how many routes on they are merged no more, once they are: so that a pod more or less does not turn all of them over. */
const SLACK = 0.8

export interface Fitted {
  readonly routes: readonly WantedRoute[]
  readonly aggregation: Aggregation
}

const STEPS: readonly Aggregation[] = ['none', 'exact', 'cover']

/**
 * Merges wishes as far as it takes to get them into `room` routes, and no further than `allowed`. `before` is how far it was taken last
 * time: back only where there is room to spare.
 */
export function fit(
  wishes: readonly WantedRoute[],
  room: number,
  podCidrs: readonly CidrText[],
  allowed: Aggregation,
  before: Aggregation,
): Fitted {
  const last = STEPS.indexOf(allowed)
  const from = STEPS.indexOf(before)
  const plain = wishes.map(({ destination, nexthop }) => ({ destination, nexthop }))
  let routes: readonly WantedRoute[] = plain
  for (const [at, aggregation] of STEPS.entries()) {
    if (at > last) break
    routes = mergeWithin(plain, podCidrs, aggregation)
    if (routes.length <= (at < from ? room * SLACK : room)) return { routes, aggregation }
  }
  return { routes, aggregation: allowed }
}

/** Each pod network by itself: a route that lies in none of them would not be known as ours. */
function mergeWithin(
  routes: readonly WantedRoute[],
  podCidrs: readonly CidrText[],
  how: Aggregation,
): readonly WantedRoute[] {
  if (how === 'none') return routes
  const outer = podCidrs.map(parseCidr)
  const groups = Map.groupBy(routes, ({ destination }) =>
    outer.findIndex((cidr) => containsCidr(cidr, parseCidr(destination))),
  )
  return [...groups].flatMap(([at, group]) => {
    const bounds = outer[at]
    const merged = aggregate(group, how)
    const fits = merged.every(({ destination }) => bounds !== undefined && containsCidr(bounds, parseCidr(destination)))
    return fits ? merged : group
  })
}
