/** What a node changes in its cloud's route tables: its own subnet leads to itself, and nothing else of its own is left there. Pure. */

import { containsCidr, parseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'

/**
 * `marked`: made by Heddle or flannel, as its name or description says; `instance`: leads to an instance, and whoever made it left no mark (some clouds have
 * no place for one); `foreign`: propagated, to a gateway, or the cloud's own.
 */
export type RouteOrigin = 'marked' | 'instance' | 'foreign'

export interface TableRoute {
  readonly table: string
  /** The cloud's name for it, where it has one. */
  readonly id: string
  readonly destination: CidrText
  /** As the cloud writes it: an instance, an interface, an address. */
  readonly nextHop: string
  readonly origin: RouteOrigin
  /** `dead`: its next hop is gone or off, and the cloud drops what it would lead there. `pending`: being made or unmade. */
  readonly state: 'active' | 'pending' | 'dead'
}

export interface TableView {
  /** Every table that wants the route. */
  readonly tables: readonly string[]
  /** This node, as the cloud writes it. */
  readonly nextHop: string
  /** This node's pods. */
  readonly subnet: CidrText
  /** The cluster's pods: outside of it nothing is touched. */
  readonly network: CidrText
  readonly seen: readonly TableRoute[]
  /** Did this node make it, by its own record? */
  readonly isNoted: (table: string, destination: CidrText) => boolean
  /** Subnets of all nodes, when they are known for certain: dead routes to others are removed then. */
  readonly alive?: ReadonlySet<CidrText> | undefined
}

export type Step =
  | { readonly do: 'create'; readonly table: string; readonly destination: CidrText }
  | { readonly do: 'replace' | 'remove'; readonly route: TableRoute }

export interface TablePlan {
  /** Removals first: they make room in a full table. */
  readonly steps: readonly Step[]
  /** Routes of others to this node's subnet: left alone, and told. */
  readonly conflicts: readonly TableRoute[]
  /** Our route in each table, and in force. */
  readonly isInForce: boolean
}

export function planRoutes(view: TableView): TablePlan {
  const removals = view.seen.filter((route) => isLeftover(route, view))
  const steps: Step[] = removals.map((route) => ({ do: 'remove', route }))
  const conflicts: TableRoute[] = []
  let isInForce = true
  for (const table of view.tables) {
    const there = view.seen.filter((route) => route.table === table && route.destination === view.subnet)
    const own = there.find(({ nextHop }) => nextHop === view.nextHop)
    const others = there.filter(({ nextHop }) => nextHop !== view.nextHop)
    isInForce &&= own?.state === 'active' && others.length === 0
    const [first, ...more] = others.filter(mayGo)
    conflicts.push(...others.filter((route) => !mayGo(route)))
    for (const route of own === undefined ? more : others.filter(mayGo)) steps.push({ do: 'remove', route })
    if (own !== undefined || conflicts.some((route) => route.table === table)) continue
    if (first === undefined) steps.push({ do: 'create', table, destination: view.subnet })
    else steps.push({ do: 'replace', route: first })
  }
  return { steps, conflicts, isInForce }
}

/** The subnet is this node's by the word of Kubernetes: what a former holder made may go, and what leads nowhere. */
const mayGo = ({ origin, state }: TableRoute): boolean =>
  state !== 'pending' && (origin === 'marked' || (origin === 'instance' && state === 'dead'))

function isLeftover(route: TableRoute, view: TableView): boolean {
  if (route.destination === view.subnet || route.origin === 'foreign' || !view.tables.includes(route.table))
    return false
  if (route.state === 'pending' || !containsCidr(parseCidr(view.network), parseCidr(route.destination))) return false
  if (route.nextHop === view.nextHop) return route.origin === 'marked' || view.isNoted(route.table, route.destination)
  return route.state === 'dead' && view.alive?.has(route.destination) === false
}
