/** veth-route-controller, whole: pods and Nodes in the embedded API server, a router in the fake cloud. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { configMaps, nodes } from '#kube/resources.ts'
import { addRoutes } from '#openstack/neutron/router.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { pause, Rig, until } from './rig.ts'

const PER_POD = { routeStrategy: 'per-pod', podCidr: ['10.0.128.0/17'] } as const
const route = (destination: string, nexthop: string) => ({
  destination: cidrText(destination),
  nexthop: ipText(nexthop),
})

test('routes follow pods: made, moved (removed first), removed; other routes stay; at rest nothing is written', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  await rig.node('b', '10.0.0.12')
  await rig.node('c', '10.0.0.13')
  const others = [route('10.0.200.0/24', '10.0.0.99'), route('172.16.0.0/16', '10.0.0.11')]
  // Left by a controller of before: to a node, in the pods' network, of no pod.
  const stale = route('10.0.128.77/32', '10.0.0.11')
  await addRoutes(rig.cloud, rig.router, [...others, stale])
  const kept = ['10.0.200.0/24 10.0.0.99', '172.16.0.0/16 10.0.0.11']
  await rig.pod('one', 'a', '10.0.128.1')
  await rig.pod('two', 'b', '10.0.128.2')
  rig.run(t, { ...PER_POD, router: rig.router })
  await rig.hasRoutes(...kept, '10.0.128.1/32 10.0.0.11', '10.0.128.2/32 10.0.0.12')
  const before = rig.writes.length
  await pause(2_500)
  assert.equal(rig.writes.length, before, 'nothing is written while nothing changes')

  await rig.remove('one')
  await rig.pod('three', 'c', '10.0.128.3')
  await rig.hasRoutes(...kept, '10.0.128.2/32 10.0.0.12', '10.0.128.3/32 10.0.0.13')
  const at = rig.writes.length
  await rig.remove('two')
  await rig.pod('two', 'a', '10.0.128.2')
  await rig.hasRoutes(...kept, '10.0.128.2/32 10.0.0.11', '10.0.128.3/32 10.0.0.13')
  assert.deepEqual(rig.writes.slice(at), ['remove_extraroutes', 'add_extraroutes'])
})

test('many pods at once are two requests, not two hundred', async (t) => {
  const rig = await Rig.start(t, { maxRoutes: 500 })
  await rig.node('a', '10.0.0.11')
  await rig.pod('first', 'a', '10.0.128.250')
  rig.run(t, { ...PER_POD, router: rig.router, maxRoutes: '500', aggregate: 'none' })
  await rig.hasRoutes('10.0.128.250/32 10.0.0.11')
  const before = rig.writes.length
  const began = performance.now()
  await Promise.all([...Array(60).keys()].map((n) => rig.pod(`p${n}`, 'a', `10.0.128.${n + 1}`)))
  await until('61 routes', async () => (await rig.routes()).length === 61)
  // One in each fifth of a second that it took to make them.
  const most = 3 + (performance.now() - began) / 200
  assert.ok(rig.writes.length - before <= most, `${rig.writes.length - before} writes`)
})

test('an empty list of pods, or none at all, removes nothing', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  await rig.pod('one', 'a', '10.0.128.1')
  await addRoutes(rig.cloud, rig.router, [route('10.0.128.1/32', '10.0.0.11'), route('10.0.128.9/32', '10.0.0.11')])
  const isPods = ({ plural, watch, name }: { plural: string; watch: boolean; name: string }): boolean =>
    plural === 'pods' && !watch && name === ''
  const empty = rig.api.faults.inject({ action: { kind: 'empty-list' }, match: isPods })
  rig.run(t, { ...PER_POD, router: rig.router })
  await until('three rounds', () => rig.fake.requests.filter(({ path }) => path.includes(rig.router)).length >= 4)
  assert.equal((await rig.routes()).length, 2, 'an empty list from the beginning')
  empty()
  rig.api.endWatches()
  // A broken list afterwards is no news either.
  const broken = rig.api.faults.inject({
    action: { kind: 'status', code: 500 },
    match: ({ plural }) => plural === 'pods',
  })
  rig.api.endWatches()
  await pause(2_500)
  assert.ok((await rig.routes()).includes('10.0.128.1/32 10.0.0.11'))
  broken()
  await rig.pod('two', 'a', '10.0.128.2')
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11', '10.0.128.2/32 10.0.0.11')
})

test("per node: podCIDRs, however many pods; what is not on the router's network holds up no other", async (t) => {
  const rig = await Rig.start(t)
  for (const [name, address, cidr] of [
    ['a', '10.0.0.11', '10.0.129.0/24'],
    ['b', '10.0.0.12', '10.0.130.0/24'],
    ['far', '192.168.7.7', '10.0.131.0/24'],
  ] as const) {
    await rig.kube.create(nodes, { metadata: { name }, spec: { podCIDRs: [cidr], podCIDR: cidr } })
    const body = { status: { addresses: [{ type: 'InternalIP', address }] } }
    await rig.kube.patch(nodes, { name }, { type: 'merge', body }, { subresource: 'status' })
  }
  await rig.pod('one', 'a', '10.0.129.1')
  rig.run(t, { routeStrategy: 'per-node', podCidr: ['10.0.128.0/17'], router: rig.router })
  await rig.hasRoutes('10.0.129.0/24 10.0.0.11', '10.0.130.0/24 10.0.0.12')
})

test('a node that is gone: its routes go too, though the controller is another one by then', async (t) => {
  const rig = await Rig.start(t)
  await rig.node('a', '10.0.0.11')
  await rig.node('z', '10.0.0.19')
  await rig.pod('one', 'a', '10.0.128.1')
  await rig.pod('lost', 'z', '10.0.128.9')
  const end = rig.run(t, { ...PER_POD, router: rig.router })
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11', '10.0.128.9/32 10.0.0.19')
  await end()
  assert.equal((await rig.routes()).length, 2, 'routes outlive the controller')
  await rig.remove('lost')
  await rig.kube.delete(nodes, { name: 'z' })
  // Somebody else's, to an address that never was a node's.
  await addRoutes(rig.cloud, rig.router, [route('10.0.128.33/32', '10.0.0.77')])
  rig.run(t, { ...PER_POD, router: rig.router })
  await rig.hasRoutes('10.0.128.1/32 10.0.0.11', '10.0.128.33/32 10.0.0.77')
  await until('its address is forgotten', async () => {
    const { data } = await rig.kube.get(configMaps, { namespace: 'kube-system', name: 'heddle-controller' })
    return data?.['next-hops'] === '["10.0.0.11"]'
  })
})

for (const routesError of ['RoutesExhausted', 'OverQuota'] as const) {
  test(`no room: ${routesError} is told by condition and event, filled as far as it goes, and ends by aggregation`, async (t) => {
    const rig = await Rig.start(t, { maxRoutes: 6, routesError })
    await rig.node('a', '10.0.0.11')
    await rig.node('b', '10.0.0.12')
    // Not two of them in one network: nothing to merge without free addresses.
    for (let n = 0; n < 8; n += 1) await rig.pod(`p${n}`, n % 2 === 0 ? 'a' : 'b', `10.0.128.${n * 4 + 1}`)
    // It believes that there are 30.
    const end = rig.run(t, { ...PER_POD, router: rig.router, routeReserve: '0' })
    await until('the router is full', async () => (await rig.routes()).length === 6)
    const missing = async (name: string): Promise<string | undefined> => {
      const { status } = await rig.kube.get(nodes, { name })
      return status?.conditions?.find(({ type }) => type === 'NeutronRoutesMissing')?.status
    }
    await until('both Nodes say so', async () => (await missing('a')) === 'True' || (await missing('b')) === 'True')
    await until('an event', async () => (await rig.reasons()).includes('RoutesExhausted'))
    const before = rig.writes.length
    await pause(2_500)
    assert.equal(rig.writes.length, before, 'it does not try again and again')
    await end()
    // 16 addresses in one route: four of the pods of a and b have a network in common.
    rig.run(t, { ...PER_POD, router: rig.router, routeReserve: '0', maxRoutes: '6', aggregate: 'cover' })
    await until('no Node lacks one', async () => (await missing('a')) !== 'True' && (await missing('b')) !== 'True')
    assert.ok((await rig.routes()).length <= 6)
  })
}
