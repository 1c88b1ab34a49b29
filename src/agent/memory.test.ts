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
  now = 20_000
  trim.maybe()
  assert.equal(collected, 1, 'too soon')
  now = 26_000
  trim.maybe()
  assert.equal(collected, 2)
  heap = 50 << 20
  now = 200_000
  trim.maybe()
  assert.equal(collected, 2, 'too little')
})

test('the real collector can be had', () => {
  let size = 1 << 30
  const trim = new MemoryTrim(undefined, () => size--)
  trim.maybe()
})
