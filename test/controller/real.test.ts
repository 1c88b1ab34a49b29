/** The route controller on a real Neutron: 30 routes and the 31st, next hops that change, bits beyond a length. Its limit, its errors and its idea of a revision are what counts. */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { controllerMetrics } from '#controller/controller-metrics.ts'
import { RouteController } from '#controller/route-controller.ts'
import { silentLog } from '#agent/log.ts'
import { ipText, type IpText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import type { Aggregation } from '#neutron/aggregate.ts'
import { nodeFixture, podFixture } from '#neutron/fixtures.ts'
import type { PodView } from '#neutron/pod-view.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { addRoutes, getRouter } from '#openstack/neutron/router.ts'
import { Site } from '../openstack/site.ts'
import { needsCloud, realTarget } from '../openstack/real.ts'
import { clientOf, type Target } from '../openstack/target.ts'
import { slowness } from '../slow.ts'
import * as v from 'valibot'

const skip = needsCloud()

describe('the routes of a real router', { skip, timeout: 400_000 * slowness }, () => {
  let target: Target
  let client: OpenStackClient
  let site: Site
  let router = ''
  const nodes = new Map(
    ['a', 'b'].map((name, n) => [name, nodeFixture(name, { addresses: [ipText(`10.77.0.${11 + n}`)] })]),
  )
  const missing = new Map<string, number>()
  const signal = new AbortController().signal

  before(async () => {
    target = await realTarget()
    client = clientOf(target.member, { attemptMs: 60_000 * slowness, timeoutMs: 120_000 * slowness })
    site = new Site(client)
    const network = await site.network()
    router = await site.router(await site.subnet(network, '10.77.0.0/24'))
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
    client[Symbol.dispose]()
    await target[Symbol.asyncDispose]()
  })

  const controllerOf = (
    pods: readonly PodView[],
    more: { reserve?: number; maxRoutes?: number; aggregation?: Aggregation } = {},
  ) => {
    const metrics = controllerMetrics({ version: '0', node: 'v0' })
    const cluster = { pods, nodes, doubt: undefined }
    let hops: ReadonlySet<IpText> = new Set()
    missing.clear()
    const controller = new RouteController({
      router,
      site: { strategy: 'per-pod', podCidrs: [cidrText('10.99.0.0/16')], nodeCidrs: [] },
      aggregation: 'none',
      maxRoutes: 30,
      reserve: 0,
      ...more,
      cluster,
      client,
      record: { read: () => Promise.resolve(hops), write: (to) => Promise.resolve(void (hops = to)) },
      reporter: {
        event: () => Promise.resolve(),
        routesMissing: (node, count) => Promise.resolve(void missing.set(node.name, count)),
      },
      metrics,
      log: silentLog,
      onState: () => undefined,
    })
    return { controller, metrics }
  }
  /** As many rounds as it takes to come to rest. */
  const settle = async ({ controller }: ReturnType<typeof controllerOf>): Promise<void> => {
    for (let n = 0; n < 4; n += 1) if (!(await controller.round(n === 0 || n === 3, signal))) return
    assert.fail('it does not come to rest')
  }
  const routes = async (): Promise<readonly string[]> =>
    (await getRouter(client, router)).routes.map((one) => `${one.destination} ${one.nexthop}`).toSorted()
  const clear = (): Promise<unknown> => site.put('PUT', ['routers', router], { router: { routes: [] } }, v.unknown())
  /** Every fourth address: nothing to merge. */
  const podsOf = (count: number, node = 'a'): readonly PodView[] =>
    [...Array(count).keys()].map((n) => podFixture(`p${n}`, node, `10.99.${n >> 6}.${(n & 63) * 4}`))

  it('takes 30, and not one more: told by the Node, and no more asked for', async () => {
    const thirty = controllerOf(podsOf(30))
    await settle(thirty)
    assert.equal((await routes()).length, 30)
    // It believes that there is room for 40.
    const more = controllerOf(podsOf(31), { maxRoutes: 40 })
    await settle(more)
    assert.equal((await routes()).length, 30)
    assert.equal(missing.get('a'), 1)
    assert.match(more.metrics.registry.text('prometheus'), /heddle_neutron_routes_limit 30\n/)
    assert.match(
      more.metrics.registry.text('prometheus'),
      /code="over-quota"|heddle_neutron_routes\{state="held"\} 1\n/,
    )
  })

  it('merges the 31 where it may', async () => {
    const merged = controllerOf(podsOf(31), { aggregation: 'cover', maxRoutes: 40 })
    await settle(merged)
    // The first life of this controller: what was there before it is doubted first.
    await merged.controller.round(true, signal)
    const now = await routes()
    assert.ok(now.length <= 8, `${now.length} routes`)
    assert.equal(missing.get('a'), 0)
    assert.ok(now.every((one) => one.endsWith(' 10.77.0.11')))
  })

  it('changes a next hop without a moment with both; other routes stay; bits beyond the length go', async () => {
    await clear()
    await addRoutes(client, router, [{ destination: cidrText('192.168.0.0/24'), nexthop: ipText('10.77.0.11') }])
    const first = controllerOf(podsOf(3))
    await settle(first)
    const poison = { destination: '10.99.0.9/30', nexthop: '10.77.0.11' }
    await site.put('PUT', ['routers', router, 'add_extraroutes'], { router: { routes: [poison] } }, v.unknown())
    const moved = controllerOf(podsOf(3, 'b'))
    await settle(moved)
    await moved.controller.round(true, signal)
    assert.deepEqual(await routes(), [
      '10.99.0.0/32 10.77.0.12',
      '10.99.0.4/32 10.77.0.12',
      '10.99.0.8/32 10.77.0.12',
      '192.168.0.0/24 10.77.0.11',
    ])
    // The whole list can be written again: nothing in it spoils that.
    await clear()
  })
})
