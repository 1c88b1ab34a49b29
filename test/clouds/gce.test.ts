import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { openGce, routeName } from '#cloud/gce.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { told } from './cloud-server.ts'
import { gceInstance, GceServer } from './gce-server.ts'
import { Bench, nodeWith } from './harness.ts'
import { cloudSuite } from './suite.ts'

cloudSuite({
  cloud: 'gce',
  open: openGce,
  server: () => new GceServer(),
  hop: gceInstance,
  throttled: told({ error: { code: 403, message: 'slow', errors: [{ reason: 'rateLimitExceeded' }] } }, 403),
  list: 'GET /global/routes',
  hasMarks: true,
})

test('gce: an instance that may not forward is told; dead routes of nodes that are gone are removed, once all peers are known', async () => {
  const server = await new GceServer().listen()
  await using b = new Bench('gce', server, openGce)
  server.canIpForward = false
  server.polls = 2
  const dead = ['10.244.5.0/24', '10.244.6.0/24', '172.16.0.0/16'].map((destination) => ({
    destination,
    nextHop: gceInstance(`i-${destination}`),
    description: 'heddle: pods of x',
    name: routeName(destination),
    isDead: true,
  }))
  server.routes = [...dead]
  await using runner = await b.runner()
  runner.setLocal(nodeWith('gce'))
  await b.until('trouble', () => /canIpForward/.test(b.troubles.at(-1) ?? ''))
  server.canIpForward = true
  await b.quiet()
  assert.equal(server.routes.length, 4)
  runner.setPeer('node-6', {
    node: 'node-6',
    4: { subnet: cidrText('10.244.6.0/24'), publicIp: ipText('192.168.0.7'), data: { kind: 'none' } },
  })
  runner.removeLeftovers()
  for (let i = 0; i < 40 && server.routes.length === 4; i++) {
    runner.setLocal(nodeWith('gce'))
    await delay(20)
  }
  assert.deepEqual(server.routes.map(({ destination }) => destination).toSorted(), [
    '10.244.0.0/24',
    '10.244.6.0/24',
    '172.16.0.0/16',
  ])
})
