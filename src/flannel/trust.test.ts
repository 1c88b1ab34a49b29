import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { cidrText, contains, overlaps, parseCidr, tryParseCidr } from '#ip/prefix.ts'
import { parseIp } from '#ip/address.ts'
import { backendOf } from './backend/registry.ts'
import { localNode, macOf, peerNode } from './fixture.ts'
import type { NodeView } from './node-view.ts'
import { PeerTable, type PeerChanges } from './peer-table.ts'

const dual = localNode({ ipv6: true })
const open = (local = dual): PeerTable => new PeerTable(local, backendOf(local.backend))
const codes = (changes: PeerChanges): string[] => changes.refused.map(({ code }) => code)

test('an honest peer is believed in both families, once', () => {
  const table = open()
  const { leases, refused } = table.update(peerNode(1))
  assert.deepEqual(refused, [])
  assert.deepEqual(leases.get('node-1'), {
    node: 'node-1',
    4: { subnet: '10.244.1.0/24', publicIp: '192.168.0.2', data: { kind: 'vtep', mac: macOf(1), vni: 1 } },
    6: { subnet: 'fd00:244:0:1::/64', publicIp: '2001:db8::2', data: { kind: 'vtep', mac: macOf(1, 6), vni: 1 } },
  })
  assert.equal(table.update(peerNode(1)).leases.size, 0, 'the same again changes nothing')
})

test('a change of one family is a change', () => {
  const table = open()
  table.update(peerNode(1))
  const v4 = table.update(peerNode(1, { backendData: `{"VNI":1,"VtepMAC":"${macOf(9)}"}` }))
  assert.equal(
    v4.leases.get('node-1')?.[4]?.data.kind === 'vtep' && v4.leases.get('node-1')?.[6]?.publicIp,
    '2001:db8::2',
  )
  const cidr = table.update(peerNode(1, {}, { podCidrs: ['10.244.77.0/24', 'fd00:244:0:1::/64'] }))
  assert.equal(cidr.leases.get('node-1')?.[4]?.subnet, '10.244.77.0/24')
})

const lies: readonly (readonly [string, NodeView, string])[] = [
  ['the default route', peerNode(1, {}, { podCidrs: ['0.0.0.0/0'] }), 'outside-network'],
  ['a subnet outside the network', peerNode(1, {}, { podCidrs: ['11.0.0.0/24'] }), 'outside-network'],
  ['the whole network', peerNode(1, {}, { podCidrs: ['10.0.0.0/8'] }), 'own-subnet'],
  ['our subnet', peerNode(1, {}, { podCidrs: ['10.244.0.0/24'] }), 'own-subnet'],
  ['half our subnet', peerNode(1, {}, { podCidrs: ['10.244.0.128/25'] }), 'own-subnet'],
  ['our address', peerNode(1, { publicIp: '192.168.0.1' }, { podCidrs: ['10.244.1.0/24'] }), 'own-address'],
  ['an address in the pod network', peerNode(1, { publicIp: '10.244.0.5' }), 'address-in-pod-network'],
  ['our MAC', peerNode(1, { backendData: '{"VNI":1,"VtepMAC":"02:00:00:00:00:00"}' }), 'own-mac'],
  ['another VNI', peerNode(1, { backendData: `{"VNI":2,"VtepMAC":"${macOf(1)}"}` }), 'vni-differs'],
  ['another backend', peerNode(1, { backendType: 'host-gw' }), 'other-backend'],
  ['a group MAC', peerNode(1, { backendData: '{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}' }), 'unreadable'],
  ['a zero MAC', peerNode(1, { backendData: '{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}' }), 'unreadable'],
  ['a shell in the MAC', peerNode(1, { backendData: '{"VNI":1,"VtepMAC":"$(reboot)"}' }), 'unreadable'],
  ['no data', peerNode(1, { backendData: 'null' }), 'unreadable'],
  ['a multicast address', peerNode(1, { publicIp: '224.0.0.1' }), 'unreadable'],
  ['loopback', peerNode(1, { publicIp: '127.0.0.1' }), 'unreadable'],
  ['broadcast', peerNode(1, { publicIp: '255.255.255.255' }), 'unreadable'],
  ['IPv6 where IPv4 belongs', peerNode(1, { publicIp: '2001:db8::9' }), 'unreadable'],
  ['text as address', peerNode(1, { publicIp: '192.168.0.2; reboot' }), 'unreadable'],
]

for (const [what, view, code] of lies) {
  test(`refused, logged once, and nobody else suffers: ${what}`, () => {
    const table = open()
    table.update(peerNode(2))
    const changes = table.update(view)
    assert.deepEqual(codes(changes), [code])
    assert.equal(changes.leases.get('node-1')?.[4], undefined)
    assert.deepEqual(codes(table.update(view)), [], 'not logged again')
    assert.equal(
      [...table.leases()].some(({ node }) => node === 'node-2'),
      true,
    )
  })
}

test('who claims what another has is refused until the other gives it up', () => {
  const table = open(localNode())
  table.update(peerNode(1))
  assert.deepEqual(codes(table.update(peerNode(2, {}, { podCidrs: ['10.244.1.0/25'] }))), ['subnet-taken'])
  assert.deepEqual(codes(table.update(peerNode(3, { backendData: `{"VNI":1,"VtepMAC":"${macOf(1)}"}` }))), [
    'mac-taken',
  ])
  const { leases } = table.remove('node-1')
  assert.equal(leases.get('node-1'), undefined)
  assert.equal(leases.has('node-1'), true)
  assert.equal(leases.get('node-2')?.[4]?.subnet, '10.244.1.0/25')
  assert.equal(leases.get('node-3')?.[4]?.publicIp, '192.168.0.4')
})

test('of two that claim the same, the older Node is believed whatever the order of the list', () => {
  const old = peerNode(1)
  const young = peerNode(2, {}, { podCidrs: old.podCidrs })
  for (const views of [
    [old, young],
    [young, old],
  ]) {
    const table = open(localNode())
    table.replace(views)
    assert.deepEqual(
      [...table.leases()].map(({ node }) => node),
      ['node-1'],
    )
  }
})

test('annotations that cannot be read for a while cost nothing, unless the subnet has moved', () => {
  const table = open(localNode())
  table.update(peerNode(1))
  const broken = table.update(peerNode(1, { backendData: '{"VNI":1,"Vte' }))
  assert.equal(broken.leases.size, 0)
  assert.match(broken.refused[0]?.message ?? '', /last lease is kept/)
  assert.equal(table.update(peerNode(1, { marker: 'false' })).leases.size, 0)
  const moved = table.update(peerNode(1, { backendData: '' }, { podCidrs: ['10.244.9.0/24'] }))
  assert.equal(moved.leases.has('node-1') && moved.leases.get('node-1'), undefined)
})

test('a node without the marker is not refused, only not a peer', () => {
  const changes = open().update(peerNode(1, { marker: '' }))
  assert.deepEqual([changes.leases.size, changes.refused.length], [0, 0])
})

test('when this node changes, everybody is judged anew', () => {
  const table = open(localNode())
  table.update(peerNode(1))
  const moved = { ...localNode(), 4: { ...localNode()[4]!, subnet: cidrText('10.244.1.0/24') } }
  const { leases, refused } = table.rebase(moved, backendOf(moved.backend))
  assert.equal(leases.has('node-1'), true)
  assert.deepEqual(
    refused.map(({ code }) => code),
    ['own-subnet'],
  )
  assert.equal(
    table.rebase(localNode(), backendOf(localNode().backend)).leases.get('node-1')?.[4]?.subnet,
    '10.244.1.0/24',
  )
})

test('hostile nodes: nothing throws, nothing foreign is planned, honest peers keep their lease', () => {
  const odd = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'null',
      '{}',
      '{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}',
      '{"__proto__":{"VtepMAC":"x"}}',
      '192.168.0.1',
      '192.168.0.3',
      '::1',
      '10.244.2.7',
      'vxlan',
      'true',
      '',
    ),
    fc.json(),
  )
  const cidr = fc.oneof(
    fc.string(),
    fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([ip, length]) => `${ip}/${length}`),
    fc
      .tuple(fc.constantFrom(0, 1, 2, 3, 9), fc.integer({ min: 8, max: 32 }))
      .map(([i, length]) => `10.244.${i}.0/${length}`),
    fc.constantFrom('0.0.0.0/0', '::/0', 'fd00:244::/32', 'fd00:244:0:3::/64', '10.0.0.0/8'),
  )
  const hostile = fc
    .record({
      i: fc.constantFrom(3, 4, 5, 6),
      annotations: fc.record(
        {
          marker: fc.constantFrom('true', ''),
          backendType: fc.constantFrom('vxlan', 'host-gw', ''),
          backendData: odd,
          backendV6Data: odd,
          publicIp: odd,
          publicIpv6: odd,
        },
        { requiredKeys: [] },
      ),
      podCidrs: fc.array(cidr, { maxLength: 3 }),
      gone: fc.boolean(),
    })
    .map(({ i, annotations, podCidrs, gone }) => ({
      name: `node-${i}`,
      gone,
      view: peerNode(i, annotations as NodeView['annotations'], { podCidrs }),
    }))
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 12 }), (steps) => {
      const table = open()
      const backend = backendOf(dual.backend)
      table.replace([peerNode(1), peerNode(2)])
      for (const { gone, name, view } of steps) {
        if (gone) table.remove(name)
        else table.update(view)
      }
      const leases = [...table.leases()]
      for (const honest of ['node-1', 'node-2']) assert.ok(leases.find(({ node }) => node === honest)?.[4])
      const held = leases.flatMap((lease) =>
        [lease[4], lease[6]].flatMap((family) => (family === undefined ? [] : [{ node: lease.node, ...family }])),
      )
      for (const a of held) {
        const network = parseCidr(a.subnet.includes(':') ? 'fd00:244::/32' : '10.0.0.0/8')
        assert.ok(contains(network, parseCidr(a.subnet).ip) && parseCidr(a.subnet).length > network.length)
        assert.ok(!overlaps(parseCidr(a.subnet), parseCidr(a.subnet.includes(':') ? 'fd00:244::/64' : '10.244.0.0/24')))
        assert.ok(!contains(network, parseIp(a.publicIp)))
        for (const b of held)
          if (a !== b) assert.ok(!overlaps(parseCidr(a.subnet), parseCidr(b.subnet)), `${a.subnet} ${b.subnet}`)
      }
      for (const lease of leases) {
        for (const { entry } of backend.peerPlan(dual, lease)) {
          assert.ok(entry.kind === 'route' || entry.kind === 'neigh' || entry.kind === 'fdb')
          if (entry.kind === 'route')
            assert.ok(held.some(({ node, subnet }) => node === lease.node && subnet === entry.dst))
          if (entry.kind === 'route') assert.ok((tryParseCidr(entry.dst)?.length ?? 0) > 8)
        }
      }
    }),
    { numRuns: 500 },
  )
})

test('five thousand peers: what one more costs does not depend on how many there are', () => {
  const table = open()
  table.replace(Array.from({ length: 5000 }, (_, i) => peerNode(i + 1)))
  assert.equal([...table.leases()].length, 5000)
  assert.deepEqual([...table.refusals()], [])
  const { leases } = table.update(peerNode(5001))
  assert.equal(leases.size, 1)
})
