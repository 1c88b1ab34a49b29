/** The backends without per-peer device state: ipip, alloc, host-gw in both families. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { FakeKernel } from '#state/fake-kernel.ts'
import { diff } from '#state/diff.ts'
import { NodeState } from '#state/node-state.ts'
import { localNode, peerNode } from '../fixture.ts'
import type { Lease } from '../lease.ts'
import type { Local } from '../local.ts'
import { parseNetConf } from '../net-conf.ts'
import { PeerTable } from '../peer-table.ts'
import type { Backend } from './backend.ts'
import { backendOf } from './registry.ts'

const entries = (desired: ReturnType<Backend['peerPlan']>): unknown[] => desired.map(({ entry }) => entry)

function leaseOf(local: Local, backend: Backend, i: number, annotations = {}): Lease {
  const view = peerNode(i, { backendType: backend.type, backendData: 'null', backendV6Data: 'null', ...annotations })
  const { leases, refused } = new PeerTable(local, backend).update(view)
  assert.deepEqual(refused, [])
  const lease = leases.get(`node-${i}`)
  assert.ok(lease)
  return lease
}

const MAIN = { kind: 'route', table: 254, type: 'unicast' } as const

test('ipip: one device without a remote end, S0 on it, an onlink route by the peer’s address', () => {
  const conf = { type: 'ipip', directRouting: false } as const
  const backend = backendOf(conf)
  const local = localNode({ conf })
  assert.deepEqual(entries(backend.devicePlan(local)), [
    {
      kind: 'link',
      name: 'flannel.ipip',
      up: true,
      mtu: 1480,
      data: { type: 'ipip', local: '192.168.0.1', pathMtuDiscovery: false },
    },
    { kind: 'address', dev: 'flannel.ipip', address: '10.244.0.0/32' },
  ])
  assert.equal(backend.mtu(local), 1480)
  assert.deepEqual(backend.published(local, 4), { kind: 'none' })
  assert.deepEqual(entries(backend.peerPlan(local, leaseOf(local, backend, 1))), [
    { ...MAIN, dst: '10.244.1.0/24', priority: 0, dev: 'flannel.ipip', via: '192.168.0.2', onlink: true },
  ])
})

test('ipip with DirectRouting: a plain route to who is on-link, the tunnel to the others', () => {
  const conf = { type: 'ipip', directRouting: true } as const
  const backend = backendOf(conf)
  const local = localNode({ conf })
  assert.deepEqual(entries(backend.peerPlan(local, leaseOf(local, backend, 1))), [
    { ...MAIN, dst: '10.244.1.0/24', priority: 0, dev: 'eth0', via: '192.168.0.2' },
  ])
  const far = entries(backend.peerPlan(local, leaseOf(local, backend, 1, { publicIp: '192.168.16.2' })))
  assert.deepEqual(far, [
    { ...MAIN, dst: '10.244.1.0/24', priority: 0, dev: 'flannel.ipip', via: '192.168.16.2', onlink: true },
  ])
})

test('ipip: the plan can be applied, and applied again it does nothing; another address makes the device anew', () => {
  const conf = { type: 'ipip', directRouting: false } as const
  const backend = backendOf(conf)
  const local = localNode({ conf })
  const wanted = (own: Local): NodeState =>
    NodeState.of(
      [...backend.devicePlan(own), ...[1, 2].flatMap((i) => backend.peerPlan(own, leaseOf(own, backend, i)))].map(
        ({ entry }) => entry,
      ),
    )
  const kernel = new FakeKernel([], ['eth0'])
  kernel.apply(diff(wanted(local), kernel.state))
  assert.equal(kernel.state.size, 4)
  assert.deepEqual(diff(wanted(local), kernel.state), [])
  const own = local[4]
  assert.ok(own)
  const moved = { ...local, 4: { ...own, address: ipText('192.168.0.99'), publicIp: ipText('192.168.0.99') } }
  const operations = diff(wanted(moved), kernel.state)
  assert.deepEqual(
    operations.map(({ do: verb, entry }) => `${verb} ${entry.kind}`),
    ['remove link', 'add link', 'add address', 'add route', 'add route'],
  )
})

test('alloc: subnets and nothing else', () => {
  const conf = { type: 'alloc' } as const
  const backend = backendOf(conf)
  const local = localNode({ ipv6: true, conf })
  assert.deepEqual(backend.devicePlan(local), [])
  assert.deepEqual(backend.peerPlan(local, leaseOf(local, backend, 1)), [])
  assert.equal(backend.mtu(local), 1500)
})

test('host-gw: one route in each family', () => {
  const conf = { type: 'host-gw' } as const
  const backend = backendOf(conf)
  const dual = localNode({ ipv6: true, conf })
  const v6 = dual[6]
  assert.ok(v6)
  const routes = [{ dst: cidrText('2001:db8::/64'), dev: 'eth0' }]
  const local: Local = { ...dual, 6: { ...v6, underlay: { ...v6.underlay, routes } } }
  assert.deepEqual(entries(backend.peerPlan(local, leaseOf(local, backend, 1))), [
    { ...MAIN, dst: '10.244.1.0/24', priority: 0, dev: 'eth0', via: '192.168.0.2' },
    { ...MAIN, dst: 'fd00:244:0:1::/64', priority: 1024, dev: 'eth0', via: '2001:db8::2' },
  ])
})

test('net-conf.json chooses them, in any case; ipip with IPv6 is refused with what to do', () => {
  const conf = (backend: object, more: object = {}): string =>
    JSON.stringify({ Network: '10.0.0.0/8', Backend: backend, ...more })
  assert.deepEqual(parseNetConf(conf({ Type: 'IPIP', DirectRouting: true })).backend, {
    type: 'ipip',
    directRouting: true,
  })
  assert.deepEqual(parseNetConf(conf({ type: 'alloc' })).backend, { type: 'alloc' })
  assert.throws(
    () => parseNetConf(conf({ Type: 'ipip' }, { EnableIPv6: true, IPv6Network: 'fd00::/48' })),
    /EnableIPv6: IPv6 is on, and the backend ipip carries IPv4 only; set EnableIPv6 to false/,
  )
  assert.throws(() => parseNetConf(conf({ Type: 'ipip', DirectRouting: 1 })), /Backend\.DirectRouting: it is 1/)
  assert.throws(() => parseNetConf(conf({ Type: 'vxlan', MacPrefix: '0F-2A' })), /Backend\.MacPrefix: it is "0F-2A"/)
})
