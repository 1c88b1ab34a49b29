import assert from 'node:assert/strict'
import { test } from 'node:test'

import { failpoints } from './host.ts'

test('fail points: silent unless named, an error where asked for', () => {
  failpoints({})('bridge.veth')
  const hit = failpoints({ HEDDLE_FAILPOINT: 'a.one=error,b.two=error' })
  hit('bridge.veth')
  assert.throws(() => hit('a.one'), /fail point a\.one/)
  assert.throws(() => hit('b.two'), /fail point b\.two/)
})
