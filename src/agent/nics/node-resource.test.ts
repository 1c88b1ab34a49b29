import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '#sys/fake-clock.ts'
import { silentLog } from '../log.ts'
import { NodeResource } from './node-resource.ts'

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function open(answer: () => Promise<void>) {
  const clock = new FakeClock(0)
  const told: unknown[] = []
  const outcomes: string[] = []
  const resource = new NodeResource({
    name: 'heddle.io/neutron-nics',
    log: silentLog,
    clock,
    random: () => 0.5,
    onPatch: (outcome) => outcomes.push(outcome),
    patch: async (body) => {
      told.push(JSON.parse(JSON.stringify(body)).status.capacity['heddle.io/neutron-nics'])
      await answer()
    },
  })
  return { clock, told, outcomes, resource }
}

test('an amount is told once, another one at once, and every one again after five minutes', async () => {
  const { clock, told, resource } = open(() => Promise.resolve())
  resource.set(25)
  resource.set(25)
  await settle()
  assert.deepEqual(told, ['25'])
  resource.set(24)
  await settle()
  assert.deepEqual(told, ['25', '24'])
  await clock.advance(299_000)
  assert.equal(told.length, 2)
  await clock.advance(2_000)
  await settle()
  assert.deepEqual(told, ['25', '24', '24'])
  await resource[Symbol.asyncDispose]()
  await clock.advance(900_000)
  assert.equal(told.length, 3)
})

test('what comes while one is told follows it; what fails is told again, ever later', async () => {
  let isAway = false
  const { promise, resolve } = Promise.withResolvers<void>()
  let gate = promise
  const { clock, told, outcomes, resource } = open(async () => {
    await gate
    if (isAway) throw new Error('away')
  })
  resource.set(1)
  resource.set(2)
  resource.set(3)
  resolve()
  await settle()
  await settle()
  assert.deepEqual(told, ['1', '3'])
  isAway = true
  gate = Promise.resolve()
  resource.set(4)
  await settle()
  for (const ms of [1_000, 2_000, 4_000]) {
    const before: number = told.length
    await clock.advance(ms * 0.9)
    assert.equal(told.length, before)
    await clock.advance(ms * 0.2)
    await settle()
    assert.equal(told.length, before + 1)
  }
  isAway = false
  await clock.advance(60_000)
  await settle()
  assert.deepEqual(told, ['1', '3', '4', '4', '4', '4', '4'])
  assert.deepEqual(outcomes, ['done', 'done', 'failed', 'failed', 'failed', 'failed', 'done'])
  await resource[Symbol.asyncDispose]()
})
