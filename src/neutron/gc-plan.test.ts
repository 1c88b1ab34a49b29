import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { ipNetText } from '#ip/prefix.ts'
import { markFields, markOf, markTags, markText, type Mark, type MarkKind } from '#openstack/mark.ts'
import { floatingFixture, nodeFixture, portFixture } from './fixtures.ts'
import { planGc, type GcView } from './gc-plan.ts'

const mark = (kind: MarkKind, node: string, subject?: string, cluster = 'blue'): Mark => ({
  cluster,
  kind,
  node,
  ...(subject === undefined ? {} : { subject }),
})
const view = (more: Partial<GcView>): GcView => ({
  cluster: 'blue',
  nodes: [nodeFixture('a')],
  isCertain: true,
  ports: [],
  floating: [],
  doubted: new Set(),
  limit: 100,
  ...more,
})
const found = (more: Partial<GcView>): readonly string[] => planGc(view(more)).found.map(({ id }) => id)

test('two rounds: found in one, removed in the next, back from the doubt when its node comes back', () => {
  const ports = [portFixture('p1', ['10.9.0.1'], { ...markFields(mark('pod', 'uid-z')), device_owner: '' })]
  const first = planGc(view({ ports }))
  assert.deepEqual([first.remove.length, [...first.doubted]], [0, ['p1']])
  const second = planGc(view({ ports, doubted: first.doubted }))
  assert.deepEqual(
    second.remove.map(({ id }) => id),
    ['p1'],
  )
  const back = planGc(view({ ports, doubted: first.doubted, nodes: [nodeFixture('a'), nodeFixture('z')] }))
  assert.deepEqual([back.remove.length, back.doubted.size], [0, 0])
})

test('what is not marked, marked by another cluster, or in contradiction is not touched', () => {
  const ports = [
    portFixture('empty', [], { device_owner: '', device_id: '', name: '' }),
    portFixture('vip', [], { device_owner: '', name: 'heddle', tags: ['heddle'] }),
    portFixture('tagged', [], { device_owner: '', tags: markTags(mark('pod', 'uid-z')).slice() }),
    portFixture('green', [], { device_owner: '', ...markFields(mark('pod', 'uid-z', undefined, 'green')) }),
    portFixture('changed', [], { name: markText(mark('pod', 'uid-z')), tags: ['heddle-node=uid-y'] }),
    portFixture('alive', [], { device_owner: '', ...markFields(mark('pod', 'uid-a')) }),
    portFixture('by-name', [], { device_owner: '', ...markFields(mark('pod', 'a')) }),
    portFixture('by-server', [], { device_owner: '', ...markFields(mark('pod', 'SERVER-A')) }),
  ]
  assert.deepEqual(found({ ports }), [])
})

test('a cluster without a name, and a list without nodes, find nothing, and doubts are kept', () => {
  const unnamed = [portFixture('p', [], { device_owner: '', ...markFields(mark('pod', 'z', undefined, 'unnamed')) })]
  assert.deepEqual(found({ cluster: 'unnamed', ports: unnamed }), [])
  const ports = [portFixture('p', [], { device_owner: '', ...markFields(mark('pod', 'z')) })]
  const doubted = new Set(['p'])
  for (const more of [{ nodes: [] }, { isCertain: false }]) {
    const plan = planGc(view({ ports, doubted, ...more }))
    assert.deepEqual([plan.remove, [...plan.doubted]], [[], ['p']])
  }
})

test('what the server of a living node still has is not left: its Node was registered anew', () => {
  const card = portFixture('nic', ['10.9.0.1'], { ...markFields(mark('nic', 'uid-old')), device_id: 'server-a' })
  const own = portFixture('own', ['10.0.0.1'], { device_id: 'server-a' })
  const reserved = portFixture('res', ['10.9.0.2'], {
    device_owner: '',
    ...markFields(mark('prefix', 'uid-old', 'own')),
  })
  assert.deepEqual(found({ ports: [card, own, reserved] }), [])
  assert.deepEqual(found({ ports: [card, own, reserved], nodes: [nodeFixture('b')] }), ['nic', 'res'])
})

test('a server that no Node names is known by the addresses of its ports', () => {
  const strange = nodeFixture('a', { servers: ['in-another-order'], addresses: [ipText('10.0.0.1')] })
  const own = portFixture('own', ['10.0.0.1', '10.9.0.7'], { device_id: 'server-a' })
  const other = portFixture('other', ['10.0.0.2'], { device_id: 'server-z' })
  const marked = ['server-a', 'server-z'].map((node) =>
    portFixture(`of ${node}`, [], { device_owner: '', ...markFields(mark('pod', node)) }),
  )
  assert.deepEqual(found({ nodes: [strange], ports: [own, other, ...marked] }), ['of server-z'])
})

test('floating IPs, pairs and servers that have to be freed before', () => {
  const pair = (text: string) => ({ ip_address: ipNetText(text), mac_address: undefined })
  const own = portFixture('own', ['10.0.0.9'], {
    device_id: 'server-z',
    allowed_address_pairs: [pair('10.9.0.16/31'), pair('10.9.0.0/16'), pair('192.0.2.1/32')],
    revision_number: 7,
  })
  const ports = [
    own,
    portFixture('res', ['10.9.0.16', '10.9.0.17'], { device_owner: '', ...markFields(mark('prefix', 'z', 'own')) }),
    portFixture('nic', ['10.9.0.1'], { ...markFields(mark('nic', 'z')), device_id: 'server-z' }),
  ]
  const floating = [floatingFixture('f1', '203.0.113.1', { port_id: 'nic', fixed_ip_address: ipText('10.9.0.1') })]
  const { remove } = planGc(view({ ports, floating, doubted: new Set(['res', 'nic']) }))
  assert.deepEqual(
    remove.map((one) => (one.kind === 'port' ? [one.id, one.unpoint, one.pairs, one.server] : one)),
    [
      ['res', [], { port: 'own', keep: [pair('10.9.0.0/16'), pair('192.0.2.1/32')], revision: 7 }, undefined],
      ['nic', ['f1'], undefined, 'server-z'],
    ],
  )
})

test('floating IPs that were made for pods of dead nodes', () => {
  const made = floatingFixture('f', '203.0.113.1', { description: markText(mark('floating-ip', 'uid-z', 'uid-pod')) })
  const others = floatingFixture('g', '203.0.113.2', { description: 'of the shop' })
  assert.deepEqual(found({ floating: [made, others] }), ['f'])
})

test('never more than the limit, never what lives or is not ours, and done twice it is done', () => {
  const nodes = fc.constantFrom('uid-a', 'server-a', 'a', 'uid-z', 'uid-y')
  const kind = fc.constantFrom<MarkKind[]>('pod', 'prefix', 'nic', 'address')
  const port = fc.record({ node: nodes, kind, cluster: fc.constantFrom('blue', 'green'), isMarked: fc.boolean() })
  fc.assert(
    fc.property(fc.array(port, { maxLength: 12 }), fc.integer({ min: 1, max: 5 }), (list, limit) => {
      let ports = list.map((one, n) =>
        portFixture(`p${n}`, [], {
          device_owner: '',
          ...(one.isMarked ? markFields(mark(one.kind, one.node, undefined, one.cluster)) : { name: 'other' }),
        }),
      )
      let doubted: ReadonlySet<string> = new Set()
      for (let round = 0; round < 15; round += 1) {
        const plan = planGc(view({ ports, doubted, limit }))
        assert.ok(plan.remove.length <= limit)
        for (const { id } of plan.remove) {
          const gone = markOf(ports.find((each) => each.id === id) ?? {})
          assert.ok(gone?.cluster === 'blue' && ['uid-z', 'uid-y'].includes(gone.node))
        }
        const removed = new Set(plan.remove.map(({ id }) => id))
        ports = ports.filter(({ id }) => !removed.has(id))
        doubted = plan.doubted
      }
      const left = list.filter((one) => !(one.isMarked && one.cluster === 'blue' && /uid-[zy]/.test(one.node)))
      assert.equal(ports.length, left.length)
      assert.equal(planGc(view({ ports, doubted, limit })).found.length, 0)
    }),
  )
})
