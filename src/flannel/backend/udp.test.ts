import assert from 'node:assert/strict'
import { test } from 'node:test'

import { FakeKernel } from '#state/fake-kernel.ts'
import { diff } from '#state/diff.ts'
import { NodeState } from '#state/node-state.ts'
import { ownAnnotations } from '../annotations.ts'
import { localNode, peerNode } from '../fixture.ts'
import { parseNetConf } from '../net-conf.ts'
import { PeerTable } from '../peer-table.ts'
import { backendOf } from './registry.ts'

const conf = { type: 'udp', port: 8285, anySource: false } as const
const backend = backendOf(conf)
const local = localNode({ conf })
const written = { backendType: '', backendData: 'null' }

test('a TUN device with S0 and the route of the whole pod network, and a relay', () => {
  assert.deepEqual(
    backend.devicePlan(local).map(({ entry }) => entry),
    [
      { kind: 'link', name: 'flannel0', up: true, mtu: 1472, data: { type: 'tun' } },
      { kind: 'sysctl', key: 'net/ipv4/conf/flannel0/accept_local', value: '1', dev: 'flannel0' },
      { kind: 'sysctl', key: 'net/ipv6/conf/flannel0/disable_ipv6', value: '1', dev: 'flannel0' },
      { kind: 'address', dev: 'flannel0', address: '10.244.0.0/32' },
      { kind: 'route', dst: '10.0.0.0/8', table: 254, priority: 0, type: 'unicast', dev: 'flannel0' },
      {
        kind: 'relay',
        dev: 'flannel0',
        address: '192.168.0.1',
        port: 8285,
        network: '10.0.0.0/8',
        subnet: '10.244.0.0/24',
        anySource: false,
      },
    ],
  )
  const without = backend.devicePlan({ ...local, kernelHasIpv6: false }).map(({ entry }) => entry)
  assert.equal(without.length, 5)
  assert.equal(backend.mtu(local), 1472)
})

test('a peer is one entry; what it publishes as data does not matter, its type does', () => {
  const table = new PeerTable(local, backend)
  const lease = table.update(peerNode(1, { ...written, backendData: 'whatever' })).leases.get('node-1')
  assert.ok(lease)
  assert.deepEqual(backend.peerPlan(local, lease), [
    {
      entry: { kind: 'relaypeer', relay: 'flannel0', dst: '10.244.1.0/24', via: '192.168.0.2' },
      origin: { owner: 'flannel/udp', reason: 'node/node-1' },
    },
  ])
  const { refused } = table.update(peerNode(2))
  assert.deepEqual(
    refused.map(({ code, message }) => [code, message]),
    [['other-backend', 'node node-2: refused: its backend is "vxlan", ours "", which is udp']],
  )
})

test('annotations as flannel writes them: an empty type, null as data', () => {
  const published = { publicIp: local[4]!.publicIp, data: backend.published(local, 4) }
  assert.deepEqual(ownAnnotations(backend.type, { 4: published }), {
    marker: 'true',
    backendType: '',
    backendData: 'null',
    publicIp: '192.168.0.1',
  })
})

test('net-conf.json: a missing Backend is udp, port 0 is 8285, options in any case', () => {
  const read = (backendText: string): unknown => parseNetConf(`{"Network":"10.244.0.0/16"${backendText}}`).backend
  assert.deepEqual(read(''), conf)
  assert.deepEqual(read(',"Backend":{"type":"UDP","Port":0}'), conf)
  assert.deepEqual(read(',"Backend":{"Type":"udp","port":9000,"AnySource":true}'), {
    type: 'udp',
    port: 9000,
    anySource: true,
  })
  assert.throws(() => read(',"Backend":{"Type":"udp","AnySource":"yes"}'), { field: 'Backend.AnySource' })
})

test('the plan of a whole node can be applied, and applied again it does nothing', () => {
  const table = new PeerTable(local, backend)
  const leases = [1, 2, 3].map((i) => table.update(peerNode(i, written)).leases.get(`node-${i}`))
  const peers = leases.flatMap((lease) => (lease === undefined ? [] : backend.peerPlan(local, lease)))
  const wanted = NodeState.of([...backend.devicePlan(local), ...peers].map(({ entry }) => entry))
  const kernel = new FakeKernel([], ['eth0'])
  kernel.apply(diff(wanted, kernel.state))
  assert.equal(kernel.state.size, 6 + 3)
  assert.deepEqual(diff(wanted, kernel.state), [])
  // With its device the relay goes, and is attached to the next one; what it knows of peers it keeps.
  kernel.change({ do: 'remove', entry: { kind: 'link', name: 'flannel0', up: true, mtu: 1472, data: { type: 'tun' } } })
  assert.equal(kernel.state.size, 3)
  assert.deepEqual(
    diff(wanted, kernel.state).map(({ do: verb, entry }) => `${verb} ${entry.kind}`),
    ['add link', 'add sysctl', 'add sysctl', 'add address', 'add route', 'add relay'],
  )
})
