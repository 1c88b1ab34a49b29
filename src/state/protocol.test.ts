import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { CidrText } from '#ip/text.ts'
import { isHeddleProtocol, routeProtocol, routeScope } from './protocol.ts'

test('the routes of thousands of peers share next to no bucket of the kernel', () => {
  const buckets = new Map<string, number>()
  for (let i = 0; i < 5000; i++) {
    const dst = `10.${64 + (i >> 8)}.${i & 255}.0/24` as CidrText
    const [protocol, scope] = [routeProtocol(dst), routeScope(dst)]
    assert.ok(isHeddleProtocol(protocol), `${protocol}`)
    assert.ok(scope > 0 && scope < 200, `${scope} is one of the free scopes`)
    const bucket = `${protocol} ${scope}`
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1)
  }
  assert.ok(Math.max(...buckets.values()) <= 16, 'no bucket holds many')
})

test('a route has the same number and scope every time', () => {
  const dst = '10.244.7.0/24' as CidrText
  assert.deepEqual([routeProtocol(dst), routeScope(dst)], [routeProtocol(dst), routeScope(dst)])
})
