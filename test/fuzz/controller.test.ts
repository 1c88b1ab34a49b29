/** What pods, Nodes and the cloud's objects say to the controller: read, or refused, and never more than their own harm. */

import { test } from 'node:test'

import fc from 'fast-check'
import { ValiError } from 'valibot'

import { cidrText } from '#ip/prefix.ts'
import { namesOf, nodeView } from '#neutron/node-view.ts'
import { floatingWish, podView } from '#neutron/pod-view.ts'
import { wishesOf } from '#neutron/wanted-routes.ts'
import { holderOf, markOf, markText, readMarkText } from '#openstack/mark.ts'
import { damagedText, mutated, survives, text } from './hostile.ts'

const node = {
  metadata: { name: 'n1', uid: 'u1', annotations: { 'heddle.io/node-address': '10.0.0.1', 'heddle.io/pod-cidrs': '10.9.1.0/24, fd00::/64' } },
  spec: { providerID: 'openstack:///8a1f6a3e-1111-4222-8333-944455566677', podCIDRs: ['10.9.2.0/24'] },
  status: {
    addresses: [{ type: 'InternalIP', address: '10.0.0.1' }],
    conditions: [{ type: 'NeutronRoutesMissing', status: 'True' }],
    nodeInfo: { systemUUID: '8a1f6a3e-1111-4222-8333-944455566677' },
  },
} // prettier-ignore
const pod = {
  metadata: { namespace: 'a', name: 'p', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z', annotations: { 'heddle.io/floating-ip': 'auto' } },
  spec: { nodeName: 'n1' },
  status: { phase: 'Running', podIPs: [{ ip: '10.9.0.1' }], conditions: [{ type: 'Ready', status: 'True' }] },
} // prettier-ignore

test('Nodes and Pods, and the routes that they make', () => {
  const podCidrs = [cidrText('10.9.0.0/16'), cidrText('::/0')]
  fc.assert(
    fc.property(mutated([node]), mutated([pod]), (one, other) =>
      survives(() => {
        const view = nodeView(one)
        namesOf(view)
        const seen = podView(other)
        const nodes = new Map([[view.name, view]])
        for (const strategy of ['per-pod', 'per-node'] as const)
          wishesOf(seen === undefined ? [] : [seen], nodes, { strategy, podCidrs, nodeCidrs: [] })
      }, ValiError),
    ),
    { numRuns: 500 },
  )
})

test('wishes for floating IPs, and marks', () => {
  const mark = 'heddle:blue:floating-ip:8a1f6a3e-1111-4222-8333-944455566677:u'
  const near = fc.oneof(damagedText(['auto', 'auto:net', '203.0.113.7', mark, 'heddle-cluster=blue']), text)
  fc.assert(
    fc.property(near, near, (it, tag) => {
      survives(() => floatingWish(it))
      survives(() => markOf({ name: it, description: tag, tags: [tag, it] }))
      survives(() => holderOf({ description: it, tags: [tag, 'heddle-cluster=blue'] }, 'blue'))
      survives(() => {
        const read = readMarkText(it)
        // What was read can be written, and is the same.
        if (read !== undefined && markText(read) !== it) throw new Error(`${it} was read as ${markText(read)}`)
      })
    }),
    { numRuns: 500 },
  )
})
