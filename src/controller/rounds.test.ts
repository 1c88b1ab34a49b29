import assert from 'node:assert/strict'
import { test } from 'node:test'

import { FakeClock } from '#sys/fake-clock.ts'
import { Rounds } from './rounds.ts'

interface Seen {
  readonly at: number
  readonly isFull: boolean
}

function start(act: (n: number) => boolean | Promise<boolean> = () => false, asksFor = 0) {
  const clock = new FakeClock()
  const seen: Seen[] = []
  const failures: unknown[] = []
  const rounds = new Rounds({
    round: async (isFull) => {
      seen.push({ at: clock.now(), isFull })
      return act(seen.length)
    },
    batchMs: 200,
    everyMs: 60_000,
    longestMs: 8_000,
    deadlineMs: 300_000,
    asksFor: () => asksFor,
    onRound: (error) => void (error === undefined ? undefined : failures.push(error)),
    clock,
    random: () => 0.5,
  })
  return { clock, seen, failures, rounds }
}

test('a full one first, then regularly; news in between come together in one that is not full', async () => {
  const { clock, seen, rounds } = start()
  await clock.advance(1_000)
  for (let n = 0; n < 5; n += 1) {
    rounds.kick()
    await clock.advance(30)
  }
  await clock.advance(1_000)
  assert.deepEqual(seen, [
    { at: 0, isFull: true },
    { at: 1_200, isFull: false },
  ])
  await clock.advance(60_000)
  assert.deepEqual(seen.at(-1), { at: 60_000, isFull: true })
  await rounds[Symbol.asyncDispose]()
})

test('news all the time hold up no round', async () => {
  const { clock, seen, rounds } = start()
  for (let n = 0; n < 100; n += 1) {
    rounds.kick()
    await clock.advance(50)
  }
  assert.ok(seen.length >= 20, `${seen.length} rounds in 5 s`)
  await rounds[Symbol.asyncDispose]()
})

test('a failure waits longer each time, up to a bound; news do not shorten it', async () => {
  const { clock, seen, failures, rounds } = start((n) => (n <= 6 ? Promise.reject(new Error(`no ${n}`)) : false))
  for (let n = 0; n < 400; n += 1) {
    rounds.kick()
    await clock.advance(100)
  }
  assert.deepEqual(
    seen.slice(0, 7).map(({ at }) => at),
    [0, 1_000, 3_000, 7_000, 15_000, 23_000, 31_000],
  )
  assert.ok(
    seen.slice(0, 7).every(({ isFull }) => isFull),
    'the full round is still to be done',
  )
  assert.equal(failures.length, 6)
  await rounds[Symbol.asyncDispose]()
})

test('what the service asks for is waited for', async () => {
  const { clock, seen, rounds } = start((n) => (n === 1 ? Promise.reject(new Error('busy')) : false), 30_000)
  await clock.advance(31_000)
  assert.deepEqual(
    seen.map(({ at }) => at),
    [0, 30_000],
  )
  await rounds[Symbol.asyncDispose]()
})

test('a round that asks for another gets it after the batch; at most so many as it asks for', async () => {
  const { clock, seen, rounds } = start((n) => n < 3)
  await clock.advance(10_000)
  assert.deepEqual(
    seen.map(({ at }) => at),
    [0, 200, 400],
  )
  await rounds[Symbol.asyncDispose]()
})

test('a round that hangs is told when its time is over; the end is waited for', async () => {
  const clock = new FakeClock()
  const reasons: unknown[] = []
  const rounds = new Rounds({
    round: (_full, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason)
          reject(signal.reason)
        })
      }),
    batchMs: 200,
    everyMs: 60_000,
    longestMs: 8_000,
    deadlineMs: 5_000,
    asksFor: () => 0,
    onRound: () => undefined,
    clock,
    random: () => 0.5,
  })
  await clock.advance(5_500)
  assert.match(String(reasons[0]), /more than 5000 ms/)
  await clock.advance(1_000)
  await rounds[Symbol.asyncDispose]()
  assert.equal(reasons.length, 2)
})
