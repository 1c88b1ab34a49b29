import assert from 'node:assert/strict'
import { test } from 'node:test'
import { format, inspect } from 'node:util'

import { Secret } from './secret.ts'

test('a secret is nowhere to be seen, and can be compared', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => 65 + i)
  const secret = new Secret(bytes)
  for (const text of [
    String(secret),
    JSON.stringify({ secret }),
    inspect({ secret }, { depth: 9, showHidden: true }),
    format('%o %O %s %j', secret, secret, secret, secret),
  ]) {
    assert.ok(text.includes('(secret)'), text)
    assert.ok(!text.includes('ABC') && !text.includes('65, 66') && !text.includes('QUJD'), text)
  }
  assert.ok(secret.equals(new Secret(bytes)))
  assert.ok(!secret.equals(new Secret(new Uint8Array(32))))
  assert.ok(!secret.equals(new Secret(new Uint8Array(31))))
  bytes[0] = 0
  secret.reveal()[1] = 0
  assert.equal(secret.reveal()[0], 65, 'nobody changes it from outside')
})
