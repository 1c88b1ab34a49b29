import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { cidrText, containsCidr, ipNetText, networkOf, parseCidr, parseIpNet } from '#ip/prefix.ts'
import type { ExtraRoute, WantedRoute } from '#openstack/neutron/router.ts'
import { isOwned, planRouter, routeKey, type RouterPlan, type RouterView } from './router-plan.ts'

const route = (destination: string, nexthop: string): WantedRoute => ({
  destination: cidrText(destination),
  nexthop: ipText(nexthop),
})
const raw = (destination: string, nexthop: string): ExtraRoute => ({
  destination: ipNetText(destination),
  nexthop: ipText(nexthop),
})
const nextHops = new Set(['10.0.0.1', '10.0.0.2', '10.0.0.3'].map(ipText))
const view = (more: Partial<RouterView>): RouterView => ({
  routes: [],
  wanted: [],
  podCidrs: [cidrText('10.9.0.0/16')],
  nextHops,
  room: 28,
  retired: new Set(),
  doubted: new Set(),
  isCertain: true,
  isFull: true,
  ...more,
})
const shown = (routes: readonly ExtraRoute[]): readonly string[] =>
  routes.map(({ destination, nexthop }) => `${destination} ${nexthop}`)

test('what is wanted is added, what is there stays, what is foreign is not looked at', () => {
  const plan = planRouter(
    view({
      routes: [raw('10.9.0.5/32', '10.0.0.1'), raw('10.9.0.7/32', '10.0.0.99'), raw('172.16.0.0/24', '10.0.0.1')],
      wanted: [route('10.9.0.5/32', '10.0.0.1'), route('10.9.0.6/32', '10.0.0.2')],
    }),
  )
  assert.deepEqual([shown(plan.add), shown(plan.remove), plan.owned], [['10.9.0.6/32 10.0.0.2'], [], 1])
})

test('a next hop that changes: the old route goes first, at once, even while nobody is certain', () => {
  for (const isCertain of [true, false]) {
    const plan = planRouter(
      view({ routes: [raw('10.9.0.5/32', '10.0.0.1')], wanted: [route('10.9.0.5/32', '10.0.0.2')], isCertain }),
    )
    assert.deepEqual(shown(plan.remove), ['10.9.0.5/32 10.0.0.1'])
    assert.deepEqual([shown(plan.add), plan.isAddFirst], [['10.9.0.5/32 10.0.0.2'], false])
  }
})

test('a longer route to another node that hides a wanted one goes at once; a shorter one waits', () => {
  const plan = planRouter(
    view({
      routes: [raw('10.9.0.6/32', '10.0.0.1'), raw('10.9.0.0/24', '10.0.0.1')],
      wanted: [route('10.9.0.4/30', '10.0.0.2')],
    }),
  )
  assert.deepEqual([shown(plan.remove), plan.isAddFirst], [['10.9.0.6/32 10.0.0.1'], false])
  assert.deepEqual([...plan.doubted], ['10.9.0.0/24 10.0.0.1'])
})

test('what ended goes at once; what nothing wants goes in the second full round', () => {
  const routes = [raw('10.9.0.5/32', '10.0.0.1'), raw('10.9.0.6/32', '10.0.0.3')]
  const wanted = [route('10.9.0.8/32', '10.0.0.2')]
  const retired = new Set(['10.9.0.5/32 10.0.0.1'])
  const first = planRouter(view({ routes, wanted, retired }))
  assert.deepEqual([shown(first.remove), [...first.doubted]], [['10.9.0.5/32 10.0.0.1'], ['10.9.0.6/32 10.0.0.3']])
  const { doubted } = first
  const batch = planRouter(view({ routes, wanted, doubted, isFull: false }))
  assert.deepEqual([shown(batch.remove), [...batch.doubted]], [[], ['10.9.0.6/32 10.0.0.3']], 'a batch is no round')
  const unsure = planRouter(view({ routes, wanted, retired, doubted, isCertain: false }))
  assert.deepEqual([shown(unsure.remove), [...unsure.doubted]], [[], ['10.9.0.6/32 10.0.0.3']])
  assert.deepEqual(shown(planRouter(view({ routes, wanted, doubted })).remove), ['10.9.0.6/32 10.0.0.3'])
})

test('a route without a change of next hop is there before the one it stands for goes', () => {
  const retired = new Set(['10.9.0.4/32 10.0.0.1', '10.9.0.5/32 10.0.0.1'])
  const routes = [raw('10.9.0.4/32', '10.0.0.1'), raw('10.9.0.5/32', '10.0.0.1')]
  const wanted = [route('10.9.0.4/31', '10.0.0.1')]
  assert.equal(planRouter(view({ routes, wanted, retired })).isAddFirst, true)
  assert.equal(planRouter(view({ routes, wanted, retired, room: 2 })).isAddFirst, false, 'no room for both')
})

test('a destination with bits beyond its length is replaced by a clean one', () => {
  const plan = planRouter(
    view({ routes: [raw('10.9.1.20/24', '10.0.0.1')], wanted: [route('10.9.1.0/24', '10.0.0.1')] }),
  )
  assert.deepEqual([shown(plan.remove), shown(plan.add)], [['10.9.1.20/24 10.0.0.1'], ['10.9.1.0/24 10.0.0.1']])
})

test("somebody else's route with the same destination is no reason for a multipath route", () => {
  const plan = planRouter(
    view({ routes: [raw('10.9.0.5/32', '10.0.0.99')], wanted: [route('10.9.0.5/32', '10.0.0.1')] }),
  )
  assert.deepEqual([shown(plan.add), shown(plan.remove), shown(plan.blocked)], [[], [], ['10.9.0.5/32 10.0.0.1']])
})

test('there is never more than there is room for, other routes counted', () => {
  const routes = [raw('172.16.0.0/24', '10.0.0.1'), raw('172.16.1.0/24', '10.0.0.1')]
  const wanted = [5, 6, 7].map((n) => route(`10.9.0.${n}/32`, '10.0.0.1'))
  const plan = planRouter(view({ routes, wanted, room: 3 }))
  assert.deepEqual([shown(plan.add), plan.held.length], [['10.9.0.5/32 10.0.0.1'], 2])
})

const apply = (routes: readonly ExtraRoute[], plan: RouterPlan): readonly ExtraRoute[] => {
  const gone = new Set(shown(plan.remove))
  return [...routes.filter((one) => !gone.has(shown([one])[0] ?? '')), ...plan.add]
}

const hop = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.99')
const destination = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: 15 }), fc.constantFrom(28, 30, 31, 32))
    .map(([n, length]) => `10.9.0.${n}/${length}`),
  fc.constantFrom('10.8.0.0/24', '0.0.0.0/0', '10.9.0.0/15', '10.9.7.9/24'),
)
const anyRoute = fc.tuple(destination, hop).map(([d, h]) => raw(d, h))
const distinct = (routes: readonly ExtraRoute[]): readonly ExtraRoute[] => [
  ...new Map(routes.map((one) => [shown([one])[0], one])).values(),
]
const wantedRoutes = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 15 }), fc.constantFrom('10.0.0.1', '10.0.0.2')), {
    selector: ([n]) => n,
    maxLength: 12,
  })
  .map((list) => list.map(([n, h]) => route(`10.9.0.${n}/32`, h)))

test('whatever is on the router: applied, and in two rounds more, it is as wanted, and then nothing is done', () => {
  fc.assert(
    fc.property(
      fc.array(anyRoute, { maxLength: 14 }),
      wantedRoutes,
      fc.integer({ min: 0, max: 30 }),
      fc.boolean(),
      (list, wanted, room, isCertain) => {
        const start = distinct(list)
        let now = start
        let doubted: ReadonlySet<string> = new Set()
        for (let round = 0; round < 3; round += 1) {
          const plan = planRouter(view({ routes: now, wanted, room, doubted, isCertain }))
          const next = apply(now, plan)
          assert.ok(next.length <= Math.max(room, start.length), 'no more than there is room for')
          for (const one of plan.remove) assert.ok(isOwned(one, view({})), `${shown([one])[0]} is not ours`)
          if (!isCertain) for (const one of plan.remove) assert.ok(!shown(plan.add).includes(shown([one])[0] ?? ''))
          now = next
          doubted = plan.doubted
        }
        const last = planRouter(view({ routes: now, wanted, room, doubted, isCertain }))
        assert.deepEqual([shown(last.remove), shown(last.add)], [[], []])
        const foreign = (routes: readonly ExtraRoute[]): readonly string[] =>
          shown(routes.filter((one) => !isOwned(one, view({})))).toSorted()
        assert.deepEqual(foreign(now), foreign(start))
        const left = new Set([...last.held, ...last.blocked].map(routeKey))
        for (const one of wanted) {
          assert.ok(left.has(routeKey(one)) || shown(now).includes(routeKey(one)), `${routeKey(one)} is missing`)
        }
        // Where each wanted address leads, once its route is there: the longest owned prefix.
        const owned = now.filter((one) => isOwned(one, view({})))
        for (const one of wanted.filter((each) => !left.has(routeKey(each)))) {
          const best = owned
            .filter((each) => containsCidr(networkOf(parseIpNet(each.destination)), parseCidr(one.destination)))
            .toSorted((a, b) => parseIpNet(b.destination).length - parseIpNet(a.destination).length)
          assert.equal(best[0]?.nexthop, one.nexthop)
        }
        if (isCertain) {
          for (const each of owned)
            assert.ok(wanted.some((one) => routeKey(one) === `${each.destination} ${each.nexthop}`))
        }
      },
    ),
    { numRuns: 300 },
  )
})
