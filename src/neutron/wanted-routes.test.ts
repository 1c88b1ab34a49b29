import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ip4, formatIp, ipText, parseIp, type IpText } from '#ip/address.ts'
import { cidrText, contains, containsCidr, formatCidr, hostCidr, parseCidr } from '#ip/prefix.ts'
import type { WantedRoute } from '#openstack/neutron/router.ts'
import { aggregate } from './aggregate.ts'
import type { NodeView } from './node-view.ts'
import type { PodView } from './pod-view.ts'
import { fit, nextHopOf, wishesOf, type RouteSite } from './wanted-routes.ts'

const node = (name: string, addresses: readonly string[], more: Partial<NodeView> = {}): NodeView => ({
  name,
  uid: `uid-${name}`,
  servers: [],
  addresses: addresses.map(ipText),
  chosen: undefined,
  podCidrs: [],
  routesMissing: undefined,
  ...more,
})
const pod = (name: string, on: string, addresses: readonly string[], more: Partial<PodView> = {}): PodView => ({
  key: `default/${name}`,
  uid: `uid-${name}`,
  node: on,
  addresses: addresses.map(ipText),
  isOver: false,
  isReady: true,
  floating: undefined,
  floatingStatus: undefined,
  created: 0,
  ...more,
})
const site = (more: Partial<RouteSite> = {}): RouteSite => ({
  strategy: 'per-pod',
  podCidrs: [cidrText('10.9.0.0/16'), cidrText('fd09::/64')],
  nodeCidrs: [],
  ...more,
})
const nodesOf = (...nodes: readonly NodeView[]): ReadonlyMap<string, NodeView> =>
  new Map(nodes.map((one) => [one.name, one]))

test('the next hop of a node whose pods have addresses of its port', () => {
  const both = node('a', ['10.9.0.7', '10.0.0.1', 'fd00::1'])
  assert.equal(nextHopOf(both, 4, site()), '10.0.0.1')
  assert.equal(nextHopOf(both, 6, site()), 'fd00::1')
  assert.equal(nextHopOf(node('a', ['10.9.0.7']), 4, site()), '10.9.0.7', 'the only one it has')
  assert.equal(nextHopOf(node('a', ['10.9.0.7', '10.9.0.8']), 4, site()), undefined, 'either may be a pod')
  const narrow = site({ nodeCidrs: [cidrText('10.9.0.8/32')] })
  assert.equal(nextHopOf(node('a', ['10.9.0.7', '10.9.0.8']), 4, narrow), '10.9.0.8')
  assert.equal(nextHopOf(node('a', ['10.0.0.1'], { chosen: ipText('10.0.0.9') }), 4, site()), '10.0.0.9')
})

test('per pod: each address to its node; who is over, elsewhere or nowhere has none', () => {
  const nodes = nodesOf(node('a', ['10.0.0.1', 'fd00::1']), node('b', ['10.0.0.2']), node('c', []))
  const pods = [
    pod('one', 'a', ['10.9.0.1', 'fd09::1']),
    pod('two', 'b', ['10.9.0.2', 'fd09::2']),
    pod('over', 'a', ['10.9.0.3'], { isOver: true }),
    pod('waits', '', []),
    pod('lost', 'z', ['10.9.0.4']),
    pod('bare', 'c', ['10.9.0.5']),
    pod('other', 'a', ['192.168.0.1']),
  ]
  const { wishes, skipped } = wishesOf(pods, nodes, site())
  assert.deepEqual(wishes.map((one) => `${one.destination} ${one.nexthop} ${one.node}`).toSorted(), [
    '10.9.0.1/32 10.0.0.1 a',
    '10.9.0.2/32 10.0.0.2 b',
    'fd09::1/128 fd00::1 a',
  ])
  assert.deepEqual(skipped.map((one) => `${one.what}: ${one.reason}`).toSorted(), [
    'pod default/bare 10.9.0.5: no-node-address',
    'pod default/lost 10.9.0.4: no-node',
    'pod default/other 192.168.0.1: outside-pod-cidrs',
    'pod default/two fd09::2: no-node-address',
  ])
})

test('two pods with one address: the one that is ready, else the newer', () => {
  const nodes = nodesOf(node('a', ['10.0.0.1']), node('b', ['10.0.0.2']))
  const leads = (...pods: readonly PodView[]): readonly IpText[] =>
    wishesOf(pods, nodes, site()).wishes.map(({ nexthop }) => nexthop)
  const old = pod('old', 'a', ['10.9.0.1'], { created: 1 })
  const young = pod('young', 'b', ['10.9.0.1'], { created: 2 })
  assert.deepEqual(leads(old, young), ['10.0.0.2'])
  assert.deepEqual(leads(young, old), ['10.0.0.2'])
  assert.deepEqual(leads(old, { ...young, isReady: false }), ['10.0.0.1'])
})

test("per node: podCIDRs within the pods' networks; of two that overlap the first", () => {
  const nodes = nodesOf(
    node('a', ['10.0.0.1'], { podCidrs: [cidrText('10.9.1.0/24')] }),
    node('b', ['10.0.0.2'], { podCidrs: [cidrText('10.9.1.128/25'), cidrText('10.9.2.0/24')] }),
    node('c', ['10.0.0.3'], { podCidrs: [cidrText('10.10.0.0/24')] }),
  )
  const { wishes, skipped } = wishesOf([], nodes, site({ strategy: 'per-node' }))
  assert.deepEqual(
    wishes.map((one) => `${one.destination} ${one.nexthop}`),
    ['10.9.1.0/24 10.0.0.1', '10.9.2.0/24 10.0.0.2'],
  )
  assert.deepEqual(
    skipped.map(({ reason }) => reason),
    ['taken', 'outside-pod-cidrs'],
  )
  assert.deepEqual(wishesOf([pod('one', 'a', ['10.9.0.1'])], nodes, site({ strategy: 'none' })).wishes, [])
})

const to = (n: number, nexthop: string): WantedRoute => ({
  destination: cidrText(`10.9.0.${n}/32`),
  nexthop: ipText(nexthop),
})
const shown = (routes: readonly WantedRoute[]): readonly string[] =>
  routes.map((one) => `${one.destination} ${one.nexthop}`).toSorted()

test('exact: whole networks alone are merged; cover: also those with free addresses, up to 16', () => {
  const wanted = [to(4, '10.0.0.1'), to(5, '10.0.0.1'), to(6, '10.0.0.1'), to(9, '10.0.0.2'), to(40, '10.0.0.1')]
  assert.deepEqual(shown(aggregate(wanted, 'none')), shown(wanted))
  assert.deepEqual(shown(aggregate(wanted, 'exact')), [
    '10.9.0.4/31 10.0.0.1',
    '10.9.0.40/32 10.0.0.1',
    '10.9.0.6/32 10.0.0.1',
    '10.9.0.9/32 10.0.0.2',
  ])
  assert.deepEqual(shown(aggregate([...wanted, to(7, '10.0.0.1')], 'exact')), [
    '10.9.0.4/30 10.0.0.1',
    '10.9.0.40/32 10.0.0.1',
    '10.9.0.9/32 10.0.0.2',
  ])
  const covering = aggregate([...wanted, to(12, '10.0.0.1')], 'cover')
  assert.deepEqual(shown(covering), ['10.9.0.0/28 10.0.0.1', '10.9.0.40/32 10.0.0.1', '10.9.0.9/32 10.0.0.2'])
})

/** Where a router sends a packet: the longest prefix. */
function lookup(routes: readonly WantedRoute[], address: IpText): IpText | undefined {
  const ip = parseIp(address)
  return routes
    .filter(({ destination }) => contains(parseCidr(destination), ip))
    .toSorted((a, b) => parseCidr(b.destination).length - parseCidr(a.destination).length)[0]?.nexthop
}

const anyWanted = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 80 }), fc.integer({ min: 1, max: 3 })), {
    selector: ([n]) => n,
    maxLength: 60,
  })
  .map((list) => list.map(([n, h]) => ({
    destination: formatCidr(hostCidr(ip4(0x0a090000 + n))),
    nexthop: formatIp(ip4(0x0a000000 + h)),
  }))) // prettier-ignore

test('every wanted address leads where it led; exact leads nothing else; each step takes no more routes than the one before', () => {
  fc.assert(
    fc.property(anyWanted, (wanted) => {
      const exact = aggregate(wanted, 'exact')
      const cover = aggregate(wanted, 'cover')
      for (const { destination, nexthop } of wanted) {
        const address = ipText(destination.slice(0, -3))
        assert.equal(lookup(exact, address), nexthop)
        assert.equal(lookup(cover, address), nexthop)
      }
      const names = new Set(wanted.map(({ destination }) => destination))
      for (let n = 0; n < 128; n += 1) {
        const ip = ip4(0x0a090000 + n)
        if (!names.has(formatCidr(hostCidr(ip)))) assert.equal(lookup(exact, formatIp(ip)), undefined)
      }
      for (const { destination } of cover) assert.ok(parseCidr(destination).length >= 28)
      assert.ok(cover.length <= exact.length && exact.length <= wanted.length)
    }),
    { numRuns: 200 },
  )
})

test('merging goes as far as it must and may, stays in its pod network, and back only with room to spare', () => {
  const pods = [cidrText('10.9.0.0/16')]
  const wanted = [4, 5, 6, 7].map((n) => to(n, '10.0.0.1'))
  assert.equal(fit(wanted, 4, pods, 'cover', 'none').aggregation, 'none')
  assert.deepEqual(fit(wanted, 3, pods, 'cover', 'none').aggregation, 'exact')
  assert.deepEqual(shown(fit(wanted, 3, pods, 'none', 'none').routes), shown(wanted), 'not allowed')
  const gaps = [1, 3, 5].map((n) => to(n, '10.0.0.1'))
  assert.deepEqual(shown(fit(gaps, 1, pods, 'cover', 'none').routes), ['10.9.0.0/29 10.0.0.1'])
  assert.equal(fit(wanted, 4, pods, 'cover', 'exact').aggregation, 'exact', 'no room to spare')
  assert.equal(fit(wanted, 5, pods, 'cover', 'exact').aggregation, 'none')
  const halves = [cidrText('10.9.0.4/31'), cidrText('10.9.0.6/31')]
  const merged = fit(wanted, 2, halves, 'cover', 'none').routes
  assert.deepEqual(shown(merged), ['10.9.0.4/31 10.0.0.1', '10.9.0.6/31 10.0.0.1'])
  for (const one of merged) assert.ok(halves.some((half) => containsCidr(parseCidr(half), parseCidr(one.destination))))
})
