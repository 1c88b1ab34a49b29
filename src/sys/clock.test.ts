import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from './clock.ts'
import { FakeClock } from './fake-clock.ts'

test('a fake clock wakes sleepers in order, with time standing where each one asked', async () => {
  const clock = new FakeClock()
  const woken: [string, number][] = []
  const sleeper = async (name: string, ...naps: readonly number[]): Promise<void> => {
    for (const nap of naps) {
      await clock.sleep(nap)
      woken.push([name, clock.now()])
    }
  }
  const all = Promise.all([sleeper('a', 10, 10), sleeper('b', 15)])
  await clock.advance(14)
  assert.deepEqual(woken, [['a', 10]])
  await clock.advance(100)
  await all
  assert.deepEqual(woken, [
    ['a', 10],
    ['b', 15],
    ['a', 20],
  ])
  assert.equal(clock.now(), 114)
  assert.equal(clock.wall() - clock.now(), Date.UTC(2026, 0, 1))
})

test('an aborted sleep rejects with the reason, on both clocks', async () => {
  for (const clock of [new FakeClock(), systemClock]) {
    const stop = new AbortController()
    const sleep = clock.sleep(60_000, stop.signal)
    stop.abort(new Error('enough'))
    await assert.rejects(sleep, /enough/)
    await assert.rejects(clock.sleep(1, stop.signal), /enough/)
  }
})
