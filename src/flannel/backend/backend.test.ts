import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { FakeKernel } from '#state/fake-kernel.ts'
import { NodeState } from '#state/node-state.ts'
import { diff } from '#state/diff.ts'
import { localNode, macOf, peerNode, vxlanConf } from '../fixture.ts'
import type { Lease } from '../lease.ts'
import { PeerTable } from '../peer-table.ts'
import { backendOf } from './registry.ts'
import type { Backend } from './backend.ts'
import type { Local } from '../local.ts'

const dual = localNode({ ipv6: true })

function leaseOf(local: Local, backend: Backend, i: number, annotations = {}): Lease {
  const lease = new PeerTable(local, backend).update(peerNode(i, annotations)).leases.get(`node-${i}`)
  assert.ok(lease)
  return lease
}

const entries = (desired: ReturnType<Backend['peerPlan']>): unknown[] => desired.map(({ entry }) => entry)

test('vxlan: one device per family with the interface’s address, its own overhead, accept_ra off and S0', () => {
  const backend = backendOf(vxlanConf)
  assert.deepEqual(entries(backend.devicePlan(dual)), [
    {
      kind: 'link',
      name: 'flannel.1',
      up: true,
      mtu: 1450,
      mac: '02:00:00:00:00:00',
      data: { type: 'vxlan', vni: 1, local: '192.168.0.1', dev: 'eth0', port: 8472, learning: false, gbp: false },
    },
    { kind: 'sysctl', key: 'net/ipv6/conf/flannel.1/accept_ra', value: '0', dev: 'flannel.1' },
    { kind: 'address', dev: 'flannel.1', address: '10.244.0.0/32' },
    {
      kind: 'link',
      name: 'flannel-v6.1',
      up: true,
      mtu: 1430,
      mac: '02:06:00:00:00:00',
      data: { type: 'vxlan', vni: 1, local: '2001:db8::1', dev: 'eth0', port: 8472, learning: false, gbp: false },
    },
    { kind: 'sysctl', key: 'net/ipv6/conf/flannel-v6.1/accept_ra', value: '0', dev: 'flannel-v6.1' },
    { kind: 'address', dev: 'flannel-v6.1', address: 'fd00:244::/128' },
  ])
  assert.equal(backend.mtu(dual), 1430)
  assert.equal(backend.mtu(localNode()), 1450)
})

test('vxlan: the published address is not the device’s behind address translation; options reach the device', () => {
  const conf = { ...vxlanConf, vni: 42, port: 4789, mtu: 9000, learning: true, gbp: true }
  const local = localNode({ conf })
  const natted = { ...local, 4: { ...local[4]!, publicIp: ipText('203.0.113.9') } }
  const [link] = entries(backendOf(conf).devicePlan(natted))
  assert.deepEqual(link, {
    kind: 'link',
    name: 'flannel.42',
    up: true,
    mtu: 8950,
    mac: '02:00:00:00:00:00',
    data: { type: 'vxlan', vni: 42, local: '192.168.0.1', dev: 'eth0', port: 4789, learning: true, gbp: true },
  })
})

test('vxlan: a peer is a neighbour, an FDB entry and an onlink route in each family', () => {
  const backend = backendOf(vxlanConf)
  assert.deepEqual(entries(backend.peerPlan(dual, leaseOf(dual, backend, 1))), [
    { kind: 'neigh', dev: 'flannel.1', ip: '10.244.1.0', mac: macOf(1) },
    { kind: 'fdb', dev: 'flannel.1', mac: macOf(1), dst: '192.168.0.2' },
    {
      kind: 'route',
      dst: '10.244.1.0/24',
      table: 254,
      priority: 0,
      type: 'unicast',
      dev: 'flannel.1',
      via: '10.244.1.0',
      onlink: true,
    },
    { kind: 'neigh', dev: 'flannel-v6.1', ip: 'fd00:244:0:1::', mac: macOf(1, 6) },
    { kind: 'fdb', dev: 'flannel-v6.1', mac: macOf(1, 6), dst: '2001:db8::2' },
    {
      kind: 'route',
      dst: 'fd00:244:0:1::/64',
      table: 254,
      priority: 1024,
      type: 'unicast',
      dev: 'flannel-v6.1',
      via: 'fd00:244:0:1::',
      onlink: true,
    },
  ])
})

test('DirectRouting: on-link peers get a plain route, the others the tunnel; each family by itself', () => {
  const conf = { ...vxlanConf, directRouting: true }
  const local = localNode({ ipv6: true, conf })
  const backend = backendOf(conf)
  const near = entries(backend.peerPlan(local, leaseOf(local, backend, 1)))
  assert.deepEqual(near[0], {
    kind: 'route',
    dst: '10.244.1.0/24',
    table: 254,
    priority: 0,
    type: 'unicast',
    dev: 'eth0',
    via: '192.168.0.2',
  })
  assert.deepEqual(near.length, 4, 'IPv6 has no on-link route here, so it is tunnelled')
  const far = entries(backend.peerPlan(local, leaseOf(local, backend, 1, { publicIp: '192.168.16.2' })))
  assert.equal(far.length, 6)
})

test('a more specific route through a gateway is not on-link, nor is another interface', () => {
  const conf = { ...vxlanConf, directRouting: true }
  const backend = backendOf(conf)
  for (const odd of [{ via: ipText('192.168.0.254'), dev: 'eth0' }, { dev: 'eth1' }]) {
    const local = localNode({ conf })
    const own = local[4]!
    const routes = [...own.underlay.routes, { dst: cidrText('192.168.0.0/30'), ...odd }]
    const routed = { ...local, 4: { ...own, underlay: { ...own.underlay, routes } } }
    assert.equal(backend.peerPlan(routed, leaseOf(routed, backend, 1)).length, 3)
  }
})

test('host-gw: one route; a peer that is not on-link is refused with the reason', () => {
  const backend = backendOf({ type: 'host-gw' })
  const local: Local = { ...localNode(), backend: { type: 'host-gw' } }
  const gw = { backendType: 'host-gw', backendData: 'null' }
  assert.deepEqual(entries(backend.peerPlan(local, leaseOf(local, backend, 1, gw))), [
    { kind: 'route', dst: '10.244.1.0/24', table: 254, priority: 0, type: 'unicast', dev: 'eth0', via: '192.168.0.2' },
  ])
  assert.deepEqual(backend.devicePlan(local), [])
  assert.equal(backend.mtu(local), 1500)
  const far = new PeerTable(local, backend).update(peerNode(1, { ...gw, publicIp: '192.168.16.1' }))
  assert.deepEqual(
    far.refused.map(({ code }) => code),
    ['not-on-link'],
  )
})

test('every entry says who wants it and for which node', () => {
  const backend = backendOf(vxlanConf)
  for (const { origin } of backend.peerPlan(dual, leaseOf(dual, backend, 1)))
    assert.deepEqual(origin, { owner: 'flannel/vxlan', reason: 'node/node-1' })
})

test('the plan of a whole node can be applied, and applied again it does nothing', () => {
  const backend = backendOf(vxlanConf)
  const wanted = NodeState.of(
    [...backend.devicePlan(dual), ...[1, 2, 3].flatMap((i) => backend.peerPlan(dual, leaseOf(dual, backend, i)))].map(
      ({ entry }) => entry,
    ),
  )
  const kernel = new FakeKernel([], ['eth0'])
  kernel.apply(diff(wanted, kernel.state))
  assert.equal(kernel.state.size, 6 + 3 * 6)
  assert.deepEqual(diff(wanted, kernel.state), [])
})
