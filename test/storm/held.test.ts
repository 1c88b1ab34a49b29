import assert from 'node:assert/strict'
import { test } from 'node:test'

import { HeldAddresses } from './held.ts'

test('an address that two were told is a violation; after a DEL, or of the same pod, it is none', () => {
  const held = new HeldAddresses()
  held.answered('a', ['10.0.0.1', 'fd00::1'])
  held.answered('a', ['10.0.0.1'])
  held.released('a')
  held.answered('b', ['10.0.0.1'])
  assert.deepEqual(held.violations, [])
  held.answered('c', ['10.0.0.1'])
  assert.deepEqual(held.violations, ['10.0.0.1 was given to c while b held it'])
  assert.equal(held.given, 5)
})
