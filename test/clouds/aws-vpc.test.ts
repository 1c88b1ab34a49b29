import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { openAwsVpc } from '#cloud/aws-vpc.ts'
import { awsFailure, awsInterface, AwsServer, AWS_TABLE } from './aws-server.ts'
import { Bench, nodeWith, SUBNET } from './harness.ts'
import { cloudSuite } from './suite.ts'

cloudSuite({
  cloud: 'aws-vpc',
  open: openAwsVpc,
  server: () => new AwsServer(),
  hop: awsInterface,
  throttled: awsFailure(503, 'RequestLimitExceeded'),
  list: 'DescribeRouteTables',
  hasMarks: false,
})

test('aws-vpc: the check of source and destination is switched off, by the interface or by the instance; told where neither is allowed', async () => {
  for (const denied of [[], ['ModifyNetworkInterfaceAttribute']]) {
    const server = await new AwsServer().listen()
    await using b = new Bench('aws-vpc', server, openAwsVpc)
    server.denied = new Set(denied)
    await using runner = await b.runner()
    runner.setLocal(nodeWith('aws-vpc'))
    await b.quiet()
    assert.deepEqual(server.checked, new Set(['eni-other']))
  }
  const server = await new AwsServer().listen()
  await using b = new Bench('aws-vpc', server, openAwsVpc)
  server.denied = new Set(['ModifyNetworkInterfaceAttribute', 'ModifyInstanceAttribute'])
  await using runner = await b.runner()
  runner.setLocal(nodeWith('aws-vpc'))
  await b.until('trouble', () => /source\/destination check/.test(b.troubles.at(-1) ?? ''))
  assert.deepEqual(server.routes, [], 'a route that leads to where packets are dropped')
  server.checked.delete('eni-self')
  await b.quiet()
  assert.equal(server.routes.length, 1)
})

test('aws-vpc: the main table, where the subnet has none of its own; those of the configuration, all of them', async () => {
  const server = await new AwsServer().listen()
  await using b = new Bench('aws-vpc', server, openAwsVpc)
  server.isMain = true
  {
    await using runner = await b.runner()
    runner.setLocal(nodeWith('aws-vpc'))
    await b.quiet()
    assert.deepEqual(
      server.routes.map(({ table }) => table ?? AWS_TABLE),
      [AWS_TABLE],
    )
  }
  server.tables = [AWS_TABLE, 'rtb-second']
  await using runner = await b.runner({ tables: [AWS_TABLE, 'rtb-second'] })
  runner.setLocal(nodeWith('aws-vpc'))
  await b.quiet()
  assert.deepEqual(
    server.routes.map(({ table }) => table ?? AWS_TABLE),
    [AWS_TABLE, 'rtb-second'],
  )
  server.tables = [AWS_TABLE]
  runner.setLocal(nodeWith('aws-vpc'))
  await b.until('the table is missed', () => /InvalidRouteTableID\.NotFound/.test(b.troubles.at(-1) ?? ''))
})

test('aws-vpc: dead routes of nodes that are gone are removed, once all peers are known; gateways never', async () => {
  const server = await new AwsServer().listen()
  await using b = new Bench('aws-vpc', server, openAwsVpc)
  const route = { nextHop: 'eni-gone', description: '', name: '', isDead: true }
  server.routes = [
    { ...route, destination: '10.244.5.0/24' },
    { ...route, destination: '10.244.6.0/24', isForeign: true },
    { ...route, destination: '172.16.0.0/16' },
  ]
  await using runner = await b.runner()
  runner.removeLeftovers()
  const isThere = (): boolean => server.routes.some(({ destination }) => destination === '10.244.5.0/24')
  for (let i = 0; i < 40 && isThere(); i++) {
    runner.setLocal(nodeWith('aws-vpc'))
    await delay(20)
  }
  await b.quiet()
  assert.deepEqual(server.routes.map(({ destination }) => destination).toSorted(), [
    SUBNET,
    '10.244.6.0/24',
    '172.16.0.0/16',
  ])
})

test('aws-vpc: an address that no interface has, and a session of the metadata server that ends', async () => {
  const server = await new AwsServer().listen()
  await using b = new Bench('aws-vpc', server, openAwsVpc)
  server.addressesOf = () => ['192.168.0.9']
  await using runner = await b.runner()
  runner.setLocal(nodeWith('aws-vpc'))
  await b.until('trouble', () => /no network interface of i-self has the address/.test(b.troubles.at(-1) ?? ''))
  server.session = 'session-2'
  server.addressesOf = () => ['192.168.0.9', '192.168.0.1']
  await b.quiet()
})
