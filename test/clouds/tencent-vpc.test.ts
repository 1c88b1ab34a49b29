import assert from 'node:assert/strict'
import { test } from 'node:test'

import { openTencentVpc } from '#cloud/tencent-vpc.ts'
import { Secret } from '#sys/secret.ts'
import { told } from './cloud-server.ts'
import { Bench, nodeWith } from './harness.ts'
import { cloudSuite } from './suite.ts'
import { TencentServer } from './tencent-server.ts'

cloudSuite({
  cloud: 'tencent-vpc',
  open: openTencentVpc,
  server: () => new TencentServer(),
  hop: (instance) => (instance === 'i-self' ? '192.168.0.1' : `192.168.1.${instance.charCodeAt(2)}`),
  throttled: told({ Response: { RequestId: 'r', Error: { Code: 'RequestLimitExceeded', Message: 'slow' } } }),
  list: 'DescribeRouteTables',
  hasMarks: true,
})

test('tencent-vpc: a route that somebody has switched off is told and left alone', async () => {
  const server = await new TencentServer().listen()
  await using b = new Bench('tencent-vpc', server, openTencentVpc)
  await using runner = await b.runner()
  runner.setLocal(nodeWith('tencent-vpc'))
  await b.quiet()
  server.routes = server.routes.map((route) => ({ ...route, isDead: true }))
  await b.until('the conflict', () => /switched off/.test(b.troubles.at(-1) ?? ''))
  server.routes = server.routes.map((route) => ({ ...route, isDead: false }))
  await b.quiet()
  assert.deepEqual(b.changes, ['create'])
})

test('tencent-vpc: keys of the configuration; an address that no interface has', async () => {
  const server = await new TencentServer().listen()
  await using b = new Bench('tencent-vpc', server, openTencentVpc)
  server.addressesOf = () => ['192.168.0.9', '192.168.0.10']
  await using runner = await b.runner({ keys: { id: 'static', secret: new Secret(Buffer.from('static-secret')) } })
  runner.setLocal(nodeWith('tencent-vpc'))
  await b.until('trouble', () => /no network interface of this instance/.test(b.troubles.at(-1) ?? ''))
  server.addressesOf = () => ['192.168.0.9', '192.168.0.1']
  await b.quiet()
  assert.doesNotMatch(b.logged, /static-secret/)
})
