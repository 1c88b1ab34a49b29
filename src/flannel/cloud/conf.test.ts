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

test('aws-vpc: route tables as text, as a list, and as nothing', () => {
  const tables = (written: unknown): unknown => backendConf({ Type: 'aws-vpc', RouteTableID: written })
  assert.deepEqual(tables('rtb-1a'), { type: 'aws-vpc', routeTables: ['rtb-1a'] })
  assert.deepEqual(tables(['rtb-1a', 'rtb-2b']), { type: 'aws-vpc', routeTables: ['rtb-1a', 'rtb-2b'] })
  assert.deepEqual(tables(''), { type: 'aws-vpc' })
  assert.deepEqual(tables(null), { type: 'aws-vpc' })
})

for (const wrong of [
  [],
  [''],
  ['rtb-1', 2],
  ['rtb-1', 'rtb-1'],
  7,
  { a: 1 },
  'rtb 1',
  'a&Action=DeleteVpc',
  'x'.repeat(65),
])
  test(`aws-vpc: refused as RouteTableID: ${JSON.stringify(wrong)}`, () =>
    assert.throws(() => backendConf({ Type: 'aws-vpc', RouteTableID: wrong }), {
      name: 'FlannelError',
      field: 'Backend.RouteTableID',
    }))

test('tencent-vpc takes keys as ali-vpc does', () => {
  const conf = backendConf({ Type: 'tencent-vpc', AccessKeyID: 'AKID', AccessKeySecret: 'hush' })
  assert.ok(conf.type === 'tencent-vpc')
  assert.equal(conf.accessKeyId, 'AKID')
  assert.equal(conf.accessKeySecret?.reveal().length, 4)
})

for (const half of [{ AccessKeyID: 'x' }, { AccessKeySecret: 'hush' }, { AccessKeyID: 1, AccessKeySecret: 'hush' }])
  test(`refused: ${Object.keys(half).join()}`, () =>
    assert.throws(
      () => backendConf({ Type: 'ali-vpc', ...half }),
      (error) => error instanceof FlannelError && !error.message.includes('hush'),
    ))

test('on the node: no tunnel, no routes, the MTU of the underlay, nothing published', () => {
  for (const type of ['gce', 'ali-vpc', 'aws-vpc', 'tencent-vpc'] as const) {
    const local = localNode({ conf: { type } })
    const backend = backendOf({ type })
    assert.deepEqual([backend.mtu(local), backend.devicePlan(local), backend.families], [1500, [], [4]])
    assert.deepEqual(backend.published(local, 4), { kind: 'none' })
  }
})
