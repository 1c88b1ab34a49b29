import assert from 'node:assert/strict'
import { test } from 'node:test'

import { MemoryTrim } from './memory.ts'

test('memory is given back after a burst, now and then, and not for a little', () => {
  let heap = 20 << 20
  let now = 0
  let collected = 0
  const trim = new MemoryTrim(
    () => {
      collected++
      heap = 40 << 20
    },
    () => heap,
    () => now,
  )
  trim.maybe()
  assert.equal(collected, 0, 'a small heap is left alone')
  heap = 90 << 20
  trim.maybe()
  assert.equal(collected, 1)
  heap = 90 << 20
  now = 4000
  trim.maybe()
  assert.equal(collected, 1, 'too soon')
  now = 6000
  trim.maybe()
  assert.equal(collected, 2)
  heap = 50 << 20
  now = 200_000
  trim.maybe()
  assert.equal(collected, 2, 'too little')
})

test('the real collector frees what nobody holds', async () => {
  const forgotten = new WeakRef({ text: 'x' })
  // A WeakRef holds its target until the turn of the event loop that made it is over.
  await new Promise((resolve) => setImmediate(resolve))
  new MemoryTrim(undefined, () => 1 << 30).maybe()
  assert.equal(forgotten.deref(), undefined)
})
