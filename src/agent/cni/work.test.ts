import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { createWork } from './work.ts'

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

test('one at a time for a key, in order; never more than allowed in all; nobody is forgotten', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ key: fc.constantFrom('a', 'b', 'c', 'd'), turns: fc.nat(3), fails: fc.boolean() }), {
        maxLength: 30,
      }),
      fc.integer({ min: 1, max: 4 }),
      async (jobs, running) => {
        const work = createWork({ running, waiting: 100 })
        const done: Record<string, number[]> = {}
        const active = new Set<string>()
        const ended = await Promise.allSettled(
          jobs.map(({ key, turns, fails }, index) =>
            work.run(key, async () => {
              assert.ok(!active.has(key), 'two jobs of one key at a time')
              active.add(key)
              assert.ok(active.size <= running)
              for (let i = 0; i < turns; i++) await turn()
              active.delete(key)
              ;(done[key] ??= []).push(index)
              if (fails) throw new Error('failed')
            }),
          ),
        )
        assert.equal(
          ended.filter(({ status }) => status === 'rejected').length,
          jobs.filter(({ fails }) => fails).length,
        )
        for (const order of Object.values(done))
          assert.deepEqual(
            order,
            order.toSorted((a, b) => a - b),
          )
        assert.deepEqual([work.running, work.waiting], [0, 0])
      },
    ),
    { numRuns: 100 },
  )
})

test('too many waiting calls are refused at once, and places come free again', async () => {
  const work = createWork({ running: 1, waiting: 1 })
  let open = (): void => {}
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  const first = work.run('a', () => gate)
  await turn()
  const second = work.run('b', turn)
  await assert.rejects(work.run('c', turn), { code: 11 })
  open()
  await Promise.all([first, second])
  await work.run('c', turn)
})

test('a job waits for those of another key that were there before it, and for no later ones', async () => {
  const work = createWork({ running: 8, waiting: 8 })
  const done: string[] = []
  const job = (name: string, turns: number) => async (): Promise<void> => {
    for (let i = 0; i < turns; i++) await turn()
    done.push(name)
  }
  await Promise.all([
    work.run('a', job('early', 1), 'GC n'),
    work.run('GC n', job('GC', 5)).catch(() => undefined),
    work.run('a', job('late', 1), 'GC n'),
    work.run('b', job('beside', 1), 'GC m'),
  ])
  assert.deepEqual(done, ['early', 'beside', 'GC', 'late'])
})
