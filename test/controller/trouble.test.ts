/** What Neutron and others do in between must not last: routes and floating IPs are right again afterwards, by themselves. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { pods } from '#kube/resources.ts'
import { addRoutes } from '#openstack/neutron/router.ts'
import { Rig } from './rig.ts'

const PER_POD = { routeStrategy: 'per-pod', podCidr: ['10.0.128.0/17'] } as const
const route = (destination: string, nexthop: string) => ({
  destination: cidrText(destination),
  nexthop: ipText(nexthop),
})

const TROUBLES = [
  ['401', { kind: 'status', status: 401 }],
  ['409', { kind: 'status', status: 409, body: { NeutronError: { type: 'X', message: 'busy', detail: '' } } }],
  ['412', { kind: 'status', status: 412, body: { NeutronError: { type: 'RevisionNumberConstraintFailed', message: 'x', detail: '' } } }],
  ['429', { kind: 'status', status: 429, retryAfter: '1' }],
  ['500', { kind: 'status', status: 500 }],
  ['503', { kind: 'status', status: 503, retryAfter: '1' }],
  ['away', { kind: 'drop' }],
  ['away after the work', { kind: 'drop', afterWork: true }],
  ['garbage', { kind: 'garbage' }],
] as const // prettier-ignore

test('whatever Neutron answers for a while, afterwards the routes are as they should be', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  await rig.pod('first', 'a', '10.0.128.250')
  rig.run(t, { ...PER_POD, router: rig.router, aggregate: 'none' })
  await rig.hasRoutes('10.0.128.250/32 10.0.0.11')
  const expected = ['10.0.128.250/32 10.0.0.11']
  for (const [n, [name, action]] of TROUBLES.entries()) {
    await t.test(name, async () => {
      // In the way of a write, and of a look.
      rig.fake.faults.inject({ action, times: 1, match: ({ path }) => path.endsWith('extraroutes') })
      rig.fake.faults.inject({ action, times: 1, match: ({ path }) => path.endsWith(rig.router) })
      await rig.pod(`p${n}`, 'a', `10.0.128.${n + 1}`)
      expected.push(`10.0.128.${n + 1}/32 10.0.0.11`)
      await rig.hasRoutes(...expected)
      rig.fake.faults.clear()
    })
  }
})

test('someone who changes the router at the same time is noticed, and neither loses anything', async (t) => {
  const rig = await Rig.start(t, { writeMs: 30 })
  await rig.node('a', '10.0.0.11')
  await rig.pod('first', 'a', '10.0.128.250')
  rig.run(t, { ...PER_POD, router: rig.router, aggregate: 'none' })
  await rig.hasRoutes('10.0.128.250/32 10.0.0.11')
  const theirs = [...Array(5).keys()].map((n) => route(`172.16.${n}.0/24`, '10.0.0.99'))
  await Promise.all([
    (async () => {
      for (const one of theirs) await addRoutes(rig.cloud, rig.router, [one])
    })(),
    (async () => {
      for (let n = 0; n < 5; n += 1) await rig.pod(`p${n}`, 'a', `10.0.128.${n + 1}`)
    })(),
  ])
  await rig.hasRoutes(
    '10.0.128.250/32 10.0.0.11',
    ...[...Array(5).keys()].flatMap((n) => [`10.0.128.${n + 1}/32 10.0.0.11`, `172.16.${n}.0/24 10.0.0.99`]),
  )
  assert.equal((await rig.kube.list(pods)).items.length, 6)
})
