/** veth-route-controller: keeps the extra routes of the router as pods and nodes need them. One round at a time. */

import type { IpText } from '#ip/address.ts'
import type { ClusterView } from './cluster-view.ts'
import type { ControllerMetrics } from './controller-metrics.ts'
import type { NextHopRecord } from './next-hop-record.ts'
import type { Reporter } from './reporter.ts'
import type { Aggregation } from '#neutron/aggregate.ts'
import { isOwned, keyOf, planRouter, routeKey, type RouterPlan } from '#neutron/router-plan.ts'
import { fit, nextHopOf, wishesOf, type RouteSite, type Wish } from '#neutron/wanted-routes.ts'
import { errorFields, type Log } from '#agent/log.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { isCode } from '#openstack/errors.ts'
import { quotaUse, roomOf } from '#openstack/neutron/quota.ts'
import {
  addRoutes,
  getRouter,
  removeRoutes,
  type ExtraRoute,
  type Router,
  type WantedRoute,
} from '#openstack/neutron/router.ts'

export interface RouteOptions {
  readonly router: string
  readonly site: RouteSite
  readonly aggregation: Aggregation
  /** Where the service does not tell: Neutron's default is 30. */
  readonly maxRoutes: number
  /** Left free, because the service's limit holds for one writer alone. */
  readonly reserve: number
}

export interface RouteControllerOptions extends RouteOptions {
  readonly cluster: Pick<ClusterView, 'pods' | 'nodes' | 'doubt'>
  readonly client: OpenStackClient
  readonly record: Pick<NextHopRecord, 'read' | 'write'>
  readonly reporter: Pick<Reporter, 'event' | 'routesMissing'>
  readonly metrics: ControllerMetrics
  readonly log: Log
  /** Why the router is not as it should be, or undefined. */
  readonly onState: (trouble: string | undefined) => void
}

interface Added {
  readonly router: Router
  /** The service takes no more. */
  readonly isFull: boolean
}

const MAX_RETIRED = 50_000
/** Half an hour or so. */
const LEARNED_ROUNDS = 30
/** Somebody else who changes the router all the time is waited for (another round), not raced. */
const MAX_INTERLEAVINGS = 3

export class RouteController {
  readonly #options: RouteControllerOptions
  #wantedBefore = new Set<string>()
  #retired = new Set<string>()
  #doubted: ReadonlySet<string> = new Set()
  #aggregation: Aggregation = 'none'
  /** The service took so many and no more; believed for a number of full rounds, since it may have been raised. */
  #learned = Number.POSITIVE_INFINITY
  #learnedRounds = 0
  #limit: number
  /** Routes that the service refuses by themselves; tried again in full rounds. */
  #refused = new Set<string>()

  constructor(options: RouteControllerOptions) {
    this.#options = options
    this.#limit = options.maxRoutes
  }

  /** True: look again soon. @throws OpenStackError, KubeError */
  async round(isFull: boolean, signal: AbortSignal): Promise<boolean> {
    if (isFull) {
      this.#refused = new Set()
      this.#learnedRounds -= 1
      if (this.#learnedRounds <= 0) this.#learned = Number.POSITIVE_INFINITY
    }
    for (let turn = 1; ; turn += 1) {
      try {
        return await this.#turn(isFull, signal)
      } catch (error) {
        if (!isCode(error, 'precondition') || turn >= MAX_INTERLEAVINGS) throw error
        this.#options.metrics.interleavings.add()
      }
    }
  }

  async #turn(isFull: boolean, signal: AbortSignal): Promise<boolean> {
    const { cluster, client, record, site, aggregation, log } = this.#options
    const router = await getRouter(client, this.#options.router, { signal })
    if (isFull) this.#limit = await this.#limitOf(router, signal)
    const { nodes } = cluster
    const doubt = cluster.doubt
    const known = await record.read(signal)
    const nextHops = new Set(known)
    for (const node of nodes.values()) {
      for (const family of [4, 6] as const) {
        const hop = nextHopOf(node, family, site)
        if (hop !== undefined) nextHops.add(hop)
      }
    }
    const { wishes, skipped } = wishesOf(cluster.pods, nodes, site)
    for (const one of skipped) log.debug({ ...one }, 'no route for this')
    const room = Math.max(0, Math.min(this.#limit, this.#learned) - this.#options.reserve)
    const foreign = router.routes.filter((one) => !isOwned(one, { podCidrs: site.podCidrs, nextHops })).length
    const fitted = fit(wishes, room - foreign, site.podCidrs, aggregation, this.#aggregation)
    this.#aggregation = fitted.aggregation
    const wanted = fitted.routes.filter((one) => !this.#refused.has(routeKey(one)))
    this.#retire(wanted)
    const plan = planRouter({
      routes: router.routes,
      wanted,
      podCidrs: site.podCidrs,
      nextHops,
      room,
      retired: this.#retired,
      doubted: this.#doubted,
      isCertain: doubt === undefined,
      isFull,
    })
    const changed = await this.#apply(plan, router, known, signal)
    this.#doubted = plan.doubted
    // What is not there need not be remembered.
    if (isFull) this.#retired = this.#retired.intersection(new Set(router.routes.map(keyOf)))
    if (isFull && doubt === undefined) await this.#forget(changed.routes, nextHops, signal)
    this.#show(plan, fitted.routes.length, router)
    await this.#tell(plan, wishes, changed.isFull, signal)
    return changed.isFull
  }

  async #limitOf(router: Router, signal: AbortSignal): Promise<number> {
    const { maxRoutes, client } = this.#options
    const quotas = await quotaUse(client, router.project_id, { signal }).catch((error: unknown) => {
      // Not everybody may read quotas, and most services have none for routes.
      if (isCode(error, 'forbidden', 'not-found', 'bad-request', 'bad-response')) return undefined
      throw error
    })
    const use = quotas?.get('router_route')
    return use === undefined ? maxRoutes : router.routes.length + roomOf(use)
  }

  /** What was wanted and is no more has ended, and need not be doubted first. */
  #retire(wanted: readonly WantedRoute[]): void {
    const now = new Set(wanted.map(routeKey))
    for (const key of this.#wantedBefore) if (!now.has(key)) this.#retired.add(key)
    for (const key of now) this.#retired.delete(key)
    this.#wantedBefore = now
    for (const key of this.#retired) {
      if (this.#retired.size <= MAX_RETIRED) break
      this.#retired.delete(key)
    }
  }

  async #apply(
    plan: RouterPlan,
    router: Router,
    known: ReadonlySet<IpText>,
    signal: AbortSignal,
  ): Promise<{ readonly routes: readonly ExtraRoute[]; readonly isFull: boolean }> {
    const { record } = this.#options
    const fresh = new Set(plan.add.map(({ nexthop }) => nexthop)).difference(known)
    if (fresh.size > 0) await record.write(known.union(fresh), signal)
    let now = router
    let isFull = false
    const add = async (): Promise<void> => {
      const added = await this.#add(plan.add, now, signal)
      now = added.router
      isFull = added.isFull
    }
    if (plan.isAddFirst) await add()
    if (plan.remove.length > 0) {
      now = await removeRoutes(this.#options.client, router.id, plan.remove, { revision: now.revision_number, signal })
      this.#count('remove', plan.remove)
    }
    if (!plan.isAddFirst) await add()
    return { routes: now.routes, isFull }
  }

  /** All at once; where the service refuses that, as many as it takes: a route that it does not like, and a limit, hold up no others. */
  async #add(routes: readonly WantedRoute[], router: Router, signal: AbortSignal): Promise<Added> {
    if (routes.length === 0) return { router, isFull: false }
    try {
      const now = await addRoutes(this.#options.client, router.id, routes, { revision: router.revision_number, signal })
      this.#count('add', routes)
      return { router: now, isFull: false }
    } catch (error) {
      if (!isCode(error, 'bad-request', 'over-quota')) throw error
      if (routes.length > 1) {
        const half = Math.ceil(routes.length / 2)
        const first = await this.#add(routes.slice(0, half), router, signal)
        return first.isFull ? first : await this.#add(routes.slice(half), first.router, signal)
      }
      if (error.code === 'over-quota') {
        this.#learned = router.routes.length
        this.#learnedRounds = LEARNED_ROUNDS
        this.#options.log.warn({ routes: this.#learned, ...errorFields(error) }, 'the router takes no more routes')
        return { router, isFull: true }
      }
      for (const one of routes) this.#refused.add(routeKey(one))
      const text = 'the service refuses this route; the others are not held up'
      this.#options.log.warn({ ...routes[0], ...errorFields(error) }, text)
      return { router, isFull: false }
    }
  }

  /** Addresses that no route leads to any more, and no node has. */
  async #forget(routes: readonly ExtraRoute[], nextHops: ReadonlySet<IpText>, signal: AbortSignal): Promise<void> {
    const { record, site, cluster } = this.#options
    const known = await record.read(signal)
    const used = new Set(
      routes.filter((one) => isOwned(one, { podCidrs: site.podCidrs, nextHops })).map(({ nexthop }) => nexthop),
    )
    const live = new Set([...cluster.nodes.values()].flatMap((node) => node.addresses))
    await record.write(new Set([...known].filter((hop) => used.has(hop) || live.has(hop))), signal)
  }

  #count(step: 'add' | 'remove', routes: readonly ExtraRoute[]): void {
    const { metrics, log, router } = this.#options
    metrics.routeChanges.add({ step }, routes.length)
    const shown = routes.slice(0, 50).map(({ destination, nexthop }) => `${destination} via ${nexthop}`)
    log.info({ step, router, count: routes.length, routes: shown }, 'changed the routes of the router')
  }

  #show(plan: RouterPlan, wanted: number, router: Router): void {
    const { metrics } = this.#options
    const states = {
      owned: plan.owned,
      foreign: router.routes.length - plan.owned,
      wanted,
      held: plan.held.length,
      blocked: plan.blocked.length,
      refused: this.#refused.size,
    }
    for (const [state, count] of Object.entries(states)) metrics.routes.set(count, { state })
    metrics.routesLimit.set(Math.min(this.#limit, this.#learned))
  }

  async #tell(plan: RouterPlan, wishes: readonly Wish[], isFull: boolean, signal: AbortSignal): Promise<void> {
    const { onState, reporter, cluster } = this.#options
    const { held, blocked } = plan
    const lacking = new Map<string, number>()
    const nodeOf = new Map(wishes.map(({ nexthop, node }) => [nexthop, node]))
    for (const { nexthop } of held) {
      const node = nodeOf.get(nexthop)
      if (node !== undefined) lacking.set(node, (lacking.get(node) ?? 0) + 1)
    }
    const troubles = [
      ...(held.length > 0 || isFull ? [`no room for ${held.length} routes`] : []),
      ...(blocked.length > 0 ? [`${blocked.length} routes of others have our destinations`] : []),
      ...(this.#refused.size > 0 ? [`${this.#refused.size} routes are refused`] : []),
    ]
    onState(troubles.length === 0 ? undefined : troubles.join('; '))
    // Not known yet how it is: the next round tells.
    if (isFull) return
    for (const node of cluster.nodes.values()) {
      const missing = lacking.get(node.name) ?? 0
      await reporter.routesMissing(node, missing, signal)
      if (missing === 0) continue
      const message = `The router has no room for routes to pods of this node (limit ${Math.min(this.#limit, this.#learned)}, reserve ${this.#options.reserve}).`
      await reporter.event({ kind: 'Node', node }, { type: 'Warning', reason: 'RoutesExhausted', message }, signal)
    }
  }
}
