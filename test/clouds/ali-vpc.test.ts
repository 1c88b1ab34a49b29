import assert from 'node:assert/strict'
import { test } from 'node:test'

import { openAliVpc } from '#cloud/ali-vpc.ts'
import { Secret } from '#sys/secret.ts'
import { AliServer } from './ali-server.ts'
import { told } from './cloud-server.ts'
import { Bench, nodeWith } from './harness.ts'
import { cloudSuite } from './suite.ts'

cloudSuite({
  cloud: 'ali-vpc',
  open: openAliVpc,
  server: () => new AliServer(),
  hop: (instance) => instance,
  throttled: told({ RequestId: 'r', Code: 'Throttling.User', Message: 'slow' }, 400),
  list: 'DescribeRouteEntryList',
  hasMarks: true,
})

test('ali-vpc: keys of the configuration instead of the role', async () => {
  const server = await new AliServer().listen()
  await using b = new Bench('ali-vpc', server, openAliVpc)
  await using runner = await b.runner({ keys: { id: 'static', secret: new Secret(Buffer.from('static-secret')) } })
  runner.setLocal(nodeWith('ali-vpc'))
  await b.quiet()
  assert.equal(server.routes.length, 1)
  assert.doesNotMatch(b.logged, /static-secret/)
})
