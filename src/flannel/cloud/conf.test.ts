import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'

import { backendConf } from '../backend-conf.ts'
import { backendOf } from '../backend/registry.ts'
import { FlannelError } from '../errors.ts'
import { localNode } from '../fixture.ts'

test('keys in any spelling of their names, never shown', () => {
  const conf = backendConf({ type: 'Ali-VPC', accesskeyID: 'LTAI', ACCESSKEYSECRET: 'hush-hush' })
  assert.ok(conf.type === 'ali-vpc')
  assert.equal(conf.accessKeyId, 'LTAI')
  assert.doesNotMatch(JSON.stringify(conf) + inspect(conf), /hush/)
})

test('nothing is needed; gce has no options', () => {
  assert.deepEqual(backendConf({ Type: 'ali-vpc' }), { type: 'ali-vpc' })
  assert.deepEqual(backendConf({ Type: 'gce', AccessKeyID: 'x' }), { type: 'gce' })
})

for (const half of [{ AccessKeyID: 'x' }, { AccessKeySecret: 'hush' }, { AccessKeyID: 1, AccessKeySecret: 'hush' }])
  test(`refused: ${Object.keys(half).join()}`, () =>
    assert.throws(
      () => backendConf({ Type: 'ali-vpc', ...half }),
      (error) => error instanceof FlannelError && !error.message.includes('hush'),
    ))

test('on the node: no tunnel, no routes, the MTU of the underlay, nothing published', () => {
  for (const type of ['gce', 'ali-vpc'] as const) {
    const local = localNode({ conf: { type } })
    const backend = backendOf({ type })
    assert.deepEqual([backend.mtu(local), backend.devicePlan(local), backend.families], [1500, [], [4]])
    assert.deepEqual(backend.published(local, 4), { kind: 'none' })
  }
})
