import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { containsCidr, parseCidr, cidrText } from '#ip/prefix.ts'
import { planRoutes, type Step, type TableRoute, type TableView } from './route-plan.ts'

const SUBNETS = ['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24', '10.9.0.0/24'].map(cidrText)
const [subnet = cidrText('10.244.0.0/24')] = SUBNETS
const network = cidrText('10.244.0.0/16')

const route = (more: Partial<TableRoute>): TableRoute => ({
  table: 'a',
  id: '',
  destination: subnet,
  nextHop: 'self',
  origin: 'marked',
  state: 'active',
  ...more,
})
const view = (seen: readonly TableRoute[], more: Partial<TableView> = {}): TableView => ({
  tables: ['a'],
  nextHop: 'self',
  subnet,
  network,
  seen,
  isNoted: () => false,
  ...more,
})

test('every case of the own subnet', () => {
  const cases: readonly (readonly [string, readonly TableRoute[], readonly Step['do'][], number, boolean])[] = [
    ['nothing', [], ['create'], 0, false],
    ['there', [route({})], [], 0, true],
    ['there, by whoever', [route({ origin: 'instance' })], [], 0, true],
    ['being made', [route({ state: 'pending' })], [], 0, false],
    ['dead', [route({ state: 'dead' })], [], 0, false],
    ['of a former node', [route({ nextHop: 'other' })], ['replace'], 0, false],
    ['unmarked, elsewhere', [route({ nextHop: 'other', origin: 'instance' })], [], 1, false],
    [
      'unmarked, elsewhere, dead',
      [route({ nextHop: 'other', origin: 'instance', state: 'dead' })],
      ['replace'],
      0,
      false,
    ],
    ['to a gateway', [route({ nextHop: 'other', origin: 'foreign', state: 'dead' })], [], 1, false],
    ['there, and another beside it', [route({}), route({ nextHop: 'other' })], ['remove'], 0, false],
    ['two of former nodes', [route({ nextHop: 'x' }), route({ nextHop: 'y' })], ['remove', 'replace'], 0, false],
    ['in another table only', [route({ table: 'b' })], ['create'], 0, false],
  ]
  for (const [name, seen, steps, conflicts, isInForce] of cases) {
    const plan = planRoutes(view(seen))
    assert.deepEqual(
      [plan.steps.map((step) => step.do), plan.conflicts.length, plan.isInForce],
      [steps, conflicts, isInForce],
      name,
    )
  }
})

test('each table by itself; a conflict in one holds up no other', () => {
  const seen = [route({ table: 'a', nextHop: 'other', origin: 'instance' }), route({ table: 'c' })]
  const plan = planRoutes(view(seen, { tables: ['a', 'b', 'c'] }))
  assert.deepEqual(plan.steps, [{ do: 'create', table: 'b', destination: subnet }])
  assert.deepEqual(plan.conflicts, [seen[0]])
})

test('leftovers: own ones by mark or record, dead ones of nodes that are gone, never outside of the pod network', () => {
  const [, one = subnet, two = subnet, outside = subnet] = SUBNETS
  const seen = [
    route({}),
    route({ destination: one }),
    route({ destination: two, origin: 'instance' }),
    route({ destination: outside }),
    route({ destination: one, nextHop: 'gone', state: 'dead' }),
    route({ destination: two, nextHop: 'stopped', state: 'dead' }),
  ]
  const removed = (more: Partial<TableView>): unknown[] =>
    planRoutes(view(seen, more)).steps.map((step) => (step.do === 'remove' ? seen.indexOf(step.route) : step))
  assert.deepEqual(removed({}), [1], 'while the peers are not known for certain')
  assert.deepEqual(removed({ isNoted: (_, destination) => destination === two }), [1, 2])
  assert.deepEqual(removed({ alive: new Set([two]) }), [1, 4])
})

test('whatever stands in the tables: nothing foreign, outside or unasked is touched, and what is done leads to rest', () => {
  const any = fc.record({
    table: fc.constantFrom('a', 'b', 'z'),
    id: fc.constantFrom('', 'r1'),
    destination: fc.constantFrom(...SUBNETS),
    nextHop: fc.constantFrom('self', 'other', 'gateway'),
    origin: fc.constantFrom<TableRoute['origin'][]>('marked', 'instance', 'foreign'),
    state: fc.constantFrom<TableRoute['state'][]>('active', 'pending', 'dead'),
  })
  fc.assert(
    fc.property(fc.array(any, { maxLength: 8 }), (seen) => {
      const now = view(seen, { tables: ['a', 'b'], alive: new Set() })
      const { steps } = planRoutes(now)
      for (const step of steps) {
        if (step.do === 'create') continue
        assert.ok(step.route.origin !== 'foreign' && step.route.table !== 'z' && step.route.state !== 'pending')
        assert.ok(containsCidr(parseCidr(network), parseCidr(step.route.destination)))
      }
      const gone = new Set(steps.map((step) => (step.do === 'create' ? undefined : step.route)))
      const made = steps.flatMap((step): TableRoute[] =>
        step.do === 'remove' ? [] : [route(step.do === 'create' ? { table: step.table } : { table: step.route.table })],
      )
      const after = [...seen.filter((one) => !gone.has(one)), ...made]
      assert.deepEqual(planRoutes({ ...now, seen: after }).steps, [])
    }),
  )
})
