import assert from 'node:assert/strict'
import { test } from 'node:test'

import { FakeClock } from '#sys/fake-clock.ts'
import { Runner, type Action, type Port } from './runner.ts'

interface State {
  readonly phase: string
  readonly wakeAt?: number
  readonly lease?: string
}
interface Intent {
  readonly wish: string
}
interface Out {
  readonly text: string
}
type Step = { state: State; actions: readonly Action<string, Intent, Out>[] }

/** Asks every second until it hears `yes`; is bound for ten seconds; then has lost it. */
const machine = {
  start: (now: number): Step => ({
    state: { phase: 'asking', wakeAt: now + 1000 },
    actions: [{ do: 'send', text: 'ask' }],
  }),
  resume: (lease: string, now: number): Step => ({
    state: { phase: 'bound', lease, wakeAt: now + 10_000 },
    actions: [],
  }),
  timer: (state: State, now: number): Step => {
    if (state.wakeAt === undefined || now < state.wakeAt) return { state, actions: [] }
    if (state.phase !== 'bound') return machine.start(now)
    const again = machine.start(now)
    return { state: again.state, actions: [{ do: 'lost', lease: state.lease ?? '', why: 'over' }, ...again.actions] }
  },
  message: (state: State, message: string, now: number): Step =>
    message === 'yes' && state.phase === 'asking'
      ? {
          state: { phase: 'bound', lease: 'L', wakeAt: now + 100_000_000 },
          actions: [
            { do: 'intend', wish: 'L' },
            { do: 'bound', lease: 'L', how: 'new' },
          ],
        }
      : { state, actions: [] },
}

interface Made {
  readonly runner: Runner<State, string, string, Intent, Out>
  readonly seen: string[]
  readonly clock: FakeClock
  readonly hear: (message: string) => void
  fail: boolean
}

function made(): Made {
  const clock = new FakeClock()
  const seen: string[] = []
  let hear: (message: string) => void = () => {}
  const port: Port<Out> = {
    send: ({ text }) => void seen.push(`send ${text}`),
    [Symbol.dispose]: () => void seen.push('close'),
  }
  const self: Made = {
    clock,
    seen,
    hear: (message) => hear(message),
    fail: false,
    runner: new Runner(machine, {
      clock,
      open: async (onMessage) => {
        if (self.fail) throw new Error('no link')
        seen.push('open')
        hear = onMessage
        return port
      },
      intend: async ({ wish }) => void seen.push(`intend ${wish}`),
      bound: async (lease, how) => void seen.push(`${how} ${lease}`),
      lost: async (lease, why) => void seen.push(`lost ${lease} ${why}`),
      trouble: (what) => void seen.push(`trouble ${what}`),
    }),
  }
  return self
}

test('the port is open while an answer is awaited, and no longer', async () => {
  const { runner, seen, clock, hear } = made()
  runner.start()
  await clock.advance(2500)
  hear('noise')
  hear('yes')
  await clock.advance(0)
  assert.deepEqual(seen, ['open', 'send ask', 'send ask', 'send ask', 'intend L', 'new L', 'close'])
  assert.equal(runner.state?.phase, 'bound')
})

test('a wait longer than a timer can hold is held in pieces', async () => {
  const { runner, seen, clock, hear } = made()
  runner.start()
  await clock.advance(0)
  hear('yes')
  await clock.advance(99_999_999)
  assert.ok(!seen.some((line) => line.startsWith('lost')))
  await clock.advance(1)
  assert.deepEqual(seen.slice(-4), ['close', 'lost L over', 'open', 'send ask'])
})

test('a port that cannot be opened is tried again with the next message', async () => {
  const self = made()
  self.fail = true
  self.runner.start()
  await self.clock.advance(1500)
  self.fail = false
  await self.clock.advance(1000)
  assert.deepEqual(self.seen, ['trouble send: no link', 'trouble send: no link', 'open', 'send ask'])
})

test('stopped: nothing is sent, nothing is heard, no timer is left', async () => {
  const { runner, seen, clock, hear } = made()
  runner.resume('old')
  await clock.advance(0)
  assert.equal(clock.sleeping, 1)
  await runner[Symbol.asyncDispose]()
  hear('yes')
  await clock.advance(60_000)
  assert.deepEqual([seen, clock.sleeping], [[], 0])
})
