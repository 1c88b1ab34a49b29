import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { countsOf, deficitOf, isReady, readyOf, replay, surplusOf, type Wanted } from './pool.ts'
import { parseRecord, type Address, type PoolRecord } from './record.ts'

const ip = fc.integer({ min: 1, max: 12 }).map((n) => ipText(`10.0.0.${n}`))
const ips = fc.uniqueArray(ip, { minLength: 1, maxLength: 4 })
const pod = fc
  .constantFrom('a', 'b', 'c')
  .map((containerId) => ({ network: 'n', containerId, ifname: 'eth0', boot: 'x' }))
const time = fc.integer({ min: 0, max: 100 })

const free = (one: Address['ip'], more: Partial<Address> = {}): Address => ({
  ip: one,
  subnet: 's',
  port: 'p',
  state: 'free',
  readyAt: 0,
  since: 0,
  doubt: false,
  rested: false,
  ...more,
})

const record: fc.Arbitrary<PoolRecord> = fc.oneof(
  ips.map((list) => ({ is: 'have', addresses: list.map((one) => free(one)) }) as const),
  fc.record({ is: fc.constant('assign' as const), ips, owner: pod, at: time }),
  fc.record({ is: fc.constant('free' as const), ips, at: time, readyAt: time }),
  fc.record({ is: fc.constant('clear' as const), ips }),
  fc.record({ is: fc.constant('leave' as const), ips }),
  fc.record({ is: fc.constant('gone' as const), ips }),
  fc.record({ is: fc.constant('foreign' as const), ips }),
)
const records = fc.array(record, { maxLength: 30 })

const stateOf = (pool: ReturnType<typeof replay>): object => ({
  addresses: [...pool.addresses.values()].toSorted((a, b) => (a.ip < b.ip ? -1 : 1)),
  foreign: [...pool.foreign].toSorted(),
})

test('every record comes back from the disk as it was', () => {
  const json = (one: unknown): unknown => JSON.parse(JSON.stringify(one))
  fc.assert(fc.property(record, (one) => assert.deepEqual(json(parseRecord(json(one))), json(one))))
  assert.equal(parseRecord({ is: 'later', ips: [] }), undefined)
})

test('a snapshot means what the journal means, and records that follow it may be in it already', () => {
  fc.assert(
    fc.property(records, fc.nat(), (list, at) => {
      const whole = replay(list)
      assert.deepEqual(stateOf(replay(whole.snapshot())), stateOf(whole))
      const tail = list.slice(at % (list.length + 1))
      assert.deepEqual(stateOf(replay([...replay(list).snapshot(), ...tail])), stateOf(replay([...list, ...tail])))
    }),
  )
})

test('what a pod has is never ready, never leaves, and is no outsider’s', () => {
  fc.assert(
    fc.property(records, time, (list, now) => {
      const pool = replay(list)
      for (const address of pool.addresses.values()) {
        assert.equal(address.state === 'assigned', address.owner !== undefined)
        if (address.owner !== undefined) assert.ok(!isReady(address, now))
        if (address.doubt) assert.ok(!isReady(address, now))
      }
      const counts = countsOf(pool, 4, now)
      const { assigned, ready, settling, cooling, leaving, total } = counts
      assert.equal(assigned + ready + settling + cooling + leaving, total)
      assert.equal(readyOf(pool, 4, now).length, ready)
      assert.equal(readyOf(pool, 6, now).length, 0)
    }),
  )
})

const wanted = fc.record({
  minimum: fc.integer({ min: 0, max: 10 }),
  warm: fc.integer({ min: 0, max: 10 }),
  max: fc.constantFrom(0, 10, 20),
  batch: fc.integer({ min: 1, max: 16 }),
  idleReclaimMs: fc.constantFrom(0, 10, 1000),
}) satisfies fc.Arbitrary<Wanted>

test('growth ends at what is wanted and never beyond the most; what is given back is not asked for again', () => {
  fc.assert(
    fc.property(records, wanted, fc.integer({ min: 0, max: 5 }), time, (list, want, waiting, now) => {
      const pool = replay(list)
      const counts = countsOf(pool, 4, now)
      const count = deficitOf(counts, want, waiting)
      const held = counts.total - counts.leaving
      if (want.max !== 0 && held <= want.max) assert.ok(held + Math.max(0, count) <= want.max)
      if (count > 0) {
        const after = { ...counts, total: counts.total + count, ready: counts.ready + count }
        if (want.max === 0) assert.ok(deficitOf(after, want, waiting) <= 0)
      }
      const surplus = surplusOf(pool, 4, want, now)
      for (const { state, owner } of surplus) assert.deepEqual([state, owner], ['free', undefined])
      if (surplus.length > 0) {
        const left = { ...counts, total: counts.total - surplus.length, ready: counts.ready - surplus.length }
        assert.ok(deficitOf(left, want, 0) <= 0, 'or it would go back and forth')
      }
    }),
  )
})
