import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { namesOf, nodeView } from './node-view.ts'
import { address4, floatingWish, podView } from './pod-view.ts'

const id = '8A1F6A3E-1111-4222-8333-944455566677'

test('a Node as the cloud provider fills it', () => {
  const view = nodeView({
    metadata: { name: 'n1', uid: 'u1', annotations: { 'heddle.io/node-address': '10.0.0.9' } },
    spec: { providerID: `openstack:///${id}`, podCIDR: '10.9.1.0/24', podCIDRs: ['10.9.1.0/24', 'fd09::1/64', 'x'] },
    status: {
      addresses: [
        { type: 'Hostname', address: 'n1' },
        { type: 'InternalIP', address: '10.0.0.1' },
        { type: 'InternalIP', address: 'no' },
        { type: 'ExternalIP', address: '203.0.113.1' },
        { type: 'InternalIP', address: 'FD00::1' },
      ],
      conditions: [{ type: 'NeutronRoutesMissing', status: 'True' }],
      nodeInfo: { systemUUID: id.toLowerCase() },
    },
  })
  assert.deepEqual(view, {
    name: 'n1',
    uid: 'u1',
    servers: [id.toLowerCase()],
    addresses: ['10.0.0.1', 'fd00::1'],
    chosen: '10.0.0.9',
    podCidrs: ['10.9.1.0/24', 'fd09::/64'],
    routesMissing: true,
  })
  assert.deepEqual(namesOf(view), ['u1', 'n1', id.toLowerCase()])
  assert.deepEqual(nodeView({ metadata: { name: 'n', uid: 'u' }, spec: { providerID: `aws:///${id}` } }).servers, [])
})

test('a Pod: own network or none, terminal or not, what it wishes for', () => {
  const made = podView({
    metadata: {
      namespace: 'a', name: 'p', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: { 'heddle.io/floating-ip': 'auto' },
    },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running', podIP: '10.9.0.1', podIPs: [{ ip: 'fd09::1' }, { ip: '10.9.0.1' }], conditions: [{ type: 'Ready', status: 'True' }] },
  }) // prettier-ignore
  assert.ok(made !== undefined)
  assert.deepEqual(
    [made.addresses, made.isReady, made.isOver, made.created],
    [['fd09::1', '10.9.0.1'], true, false, 1_767_225_600_000],
  )
  assert.equal(address4(made), '10.9.0.1')
  assert.deepEqual(made.floating, { kind: 'auto', network: undefined })
  const meta = { namespace: 'a', name: 'p', uid: 'u' }
  assert.equal(podView({ metadata: meta, spec: { hostNetwork: true } }), undefined)
  assert.equal(podView({ metadata: meta, status: { phase: 'Failed' } })?.isOver, true)
  assert.deepEqual(podView({ metadata: meta, status: { podIP: '10.9.0.3' } })?.addresses, ['10.9.0.3'])
})

test('wishes for a floating IP', () => {
  assert.deepEqual(floatingWish('auto:0ae9c6c4-9d5d-4b7c'), { kind: 'auto', network: '0ae9c6c4-9d5d-4b7c' })
  assert.deepEqual(floatingWish('203.0.113.7'), { kind: 'address', address: '203.0.113.7' })
  for (const text of ['AUTO', 'auto:', 'auto:a/b', 'fd00::1', '1.2.3', 'x'.repeat(500)])
    assert.equal(floatingWish(text).kind, 'unreadable', text)
})

test('whatever comes in a Node or Pod, it is a view or an error', () => {
  fc.assert(
    fc.property(fc.object({ key: fc.constantFrom('metadata', 'spec', 'status', 'name', 'uid', 'annotations', 'addresses', 'podIPs', '__proto__') }), (any) => {
      for (const read of [nodeView, podView]) {
        try {
          read({ ...any, metadata: { name: 'n', uid: 'u', namespace: 'x', ...any } })
        } catch (error) {
          assert.equal(error instanceof Error && error.name, 'ValiError')
        }
      }
    }),
  ) // prettier-ignore
})
