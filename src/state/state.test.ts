import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import { Contributions } from './contributions.ts'
import { diff } from './diff.ts'
import { keyOf, normal, type Desired, type Entry, type LinkEntry } from './entry.ts'
import { FakeKernel } from './fake-kernel.ts'
import { NodeState } from './node-state.ts'

const UNDERLAY = 'eth0'
const mac = (n: number): MacText => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}` as MacText

const anyVxlan: fc.Arbitrary<LinkEntry> = fc
  .record({
    vni: fc.constantFrom(1, 2),
    mtu: fc.constantFrom(1450, 1430),
    mac: fc.option(fc.nat(3), { nil: undefined }),
    local: fc.constantFrom('10.0.0.1', '10.0.0.2'),
  })
  .map(({ vni, mtu, mac: m, local }) => ({
    kind: 'link',
    name: `flannel.${vni}`,
    up: true,
    mtu,
    ...(m === undefined ? {} : { mac: mac(m) }),
    data: { type: 'vxlan', vni, local: local as IpText, dev: UNDERLAY, port: 8472, learning: false, gbp: false },
  }))

/** Entries of one peer on one device, as a backend plans them. */
const peerOn = (dev: string, n: number, m: number, changed: boolean): Entry[] => [
  { kind: 'neigh', dev, ip: `10.244.${n}.0` as IpText, mac: mac(m) },
  { kind: 'fdb', dev, mac: mac(m), dst: `10.0.0.${changed ? 100 + n : n}` as IpText },
  {
    kind: 'route',
    dst: `10.244.${n}.0/24` as CidrText,
    table: 254,
    priority: 0,
    type: 'unicast',
    dev,
    via: `10.244.${n}.0` as IpText,
    onlink: true,
  },
]

/** A whole, consistent state: devices, and on each some peers; plus what stands on no managed device. */
const anyState: fc.Arbitrary<Entry[]> = fc
  .tuple(
    fc.uniqueArray(anyVxlan, { selector: (link) => link.name, maxLength: 2 }),
    fc.uniqueArray(fc.tuple(fc.nat(6), fc.boolean()), { selector: ([n]) => n, maxLength: 6 }),
    fc.uniqueArray(fc.nat(4), { maxLength: 4 }),
    fc.boolean(),
  )
  .map(([links, peers, direct, forward]) => {
    const entries: Entry[] = [...links]
    const first = links[0]
    if (first !== undefined) {
      entries.push({ kind: 'address', dev: first.name, address: '10.244.0.0/32' as IpNetText })
      for (const [n, changed] of peers) entries.push(...peerOn(first.name, n + 1, n + 1, changed))
    }
    for (const n of direct) {
      entries.push({
        kind: 'route',
        dst: `10.245.${n}.0/24` as CidrText,
        table: 254,
        priority: 0,
        type: 'unicast',
        dev: UNDERLAY,
        via: `10.0.0.${n + 1}` as IpText,
      })
    }
    if (forward) entries.push({ kind: 'sysctl', key: 'net/ipv4/ip_forward', value: '1' })
    return entries
  })

const contents = (state: NodeState): Map<string, Entry> =>
  new Map([...state.keys()].toSorted().map((key) => [key, state.get(key)!]))

test('applying the difference gives the wanted state, applying it again gives no operations', () => {
  fc.assert(
    fc.property(anyState, anyState, (from, to) => {
      const kernel = new FakeKernel(from, [UNDERLAY])
      const wanted = NodeState.of(to)
      for (const operation of diff(wanted, kernel.state)) kernel.change(operation)
      assert.deepEqual(diff(wanted, kernel.state), [])
      for (const key of kernel.state.keys()) assert.ok(wanted.get(key), `${key} is left over`)
      for (const key of wanted.keys()) assert.ok(kernel.state.get(key), `${key} is missing`)
    }),
    { numRuns: 500 },
  )
})

test('whatever an outsider removes, the difference among the touched keys alone mends it', () => {
  fc.assert(
    fc.property(anyState, fc.nat(), (entries, pick) => {
      const wanted = NodeState.of(entries)
      if (wanted.size === 0) return
      const kernel = new FakeKernel(entries, [UNDERLAY])
      const victim = [...wanted.keys()][pick % wanted.size]!
      const entry = wanted.get(victim)!
      const touched = entry.kind === 'link' ? kernel.state.deleteDevice(entry.name) : [victim]
      if (entry.kind !== 'link') kernel.state.delete(victim)
      for (const operation of diff(wanted, kernel.state, touched)) kernel.change(operation)
      assert.deepEqual(contents(kernel.state), contents(wanted))
    }),
  )
})

test('a device of another identity is made anew, with everything that stands on it', () => {
  const link = (local: string): LinkEntry => ({
    kind: 'link',
    name: 'flannel.1',
    up: true,
    mtu: 1450,
    data: { type: 'vxlan', vni: 1, local: local as IpText, dev: UNDERLAY, port: 8472, learning: false, gbp: false },
  })
  const peer = peerOn('flannel.1', 1, 1, false)
  const operations = diff(NodeState.of([link('10.0.0.2'), ...peer]), NodeState.of([link('10.0.0.1'), ...peer]))
  assert.deepEqual(
    operations.map((o) => `${o.do} ${o.entry.kind}`),
    ['remove link', 'add link', 'add neigh', 'add fdb', 'add route'],
  )
})

test('what can be changed in place is changed in place', () => {
  const link: LinkEntry = {
    kind: 'link',
    name: 'flannel.1',
    up: true,
    mtu: 1450,
    data: {
      type: 'vxlan',
      vni: 1,
      local: '10.0.0.1' as IpText,
      dev: UNDERLAY,
      port: 8472,
      learning: false,
      gbp: false,
    },
  }
  const operations = diff(NodeState.of([{ ...link, mtu: 1400, mac: mac(1) }]), NodeState.of([{ ...link, mac: mac(2) }]))
  assert.deepEqual(
    operations.map((o) => `${o.do} ${o.entry.kind}`),
    ['change link'],
  )
})

test('a route of a foreign protocol with the same key is taken over', () => {
  const route = peerOn(UNDERLAY, 1, 1, false).find((entry) => entry.kind === 'route')!
  const operations = diff(NodeState.of([route]), NodeState.of([{ ...route, protocol: 3 }]))
  assert.deepEqual(
    operations.map((o) => o.do),
    ['change'],
  )
})

const desired = (entries: readonly Entry[], owner = 'test'): Desired[] =>
  entries.map((entry) => ({ entry, origin: { owner, reason: 'a test' } }))

test('contributions: the sum of the sources is what is wanted, and changes name their keys', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), anyState), { maxLength: 8 }), (steps) => {
      const contributions = new Contributions()
      const latest = new Map<string, Entry[]>()
      for (const [source, entries] of steps) {
        const before = contents(contributions.wanted)
        const changed = contributions.set(source, desired(entries))
        latest.set(source, entries)
        const after = contents(contributions.wanted)
        for (const key of new Set([...before.keys(), ...after.keys()])) {
          const moved = JSON.stringify(before.get(key)) !== JSON.stringify(after.get(key))
          if (moved) assert.ok(changed.has(key), `${key} changed silently`)
        }
      }
      const all = new Set([...latest.values()].flat().map((entry) => keyOf(normal(entry))))
      assert.deepEqual(new Set(contributions.wanted.keys()), all)
      for (const source of latest.keys()) contributions.set(source, [])
      assert.equal(contributions.wanted.size, 0)
      assert.deepEqual([...contributions.sources()], [])
    }),
  )
})

test('contributions: who came first keeps a contested key, the conflict is told, and the other gets it afterwards', () => {
  const contributions = new Contributions()
  const route = (via: string): Entry => ({
    kind: 'route',
    dst: '10.244.1.0/24' as CidrText,
    table: 254,
    priority: 0,
    type: 'unicast',
    dev: UNDERLAY,
    via: via as IpText,
  })
  contributions.set('node/a', desired([route('10.0.0.1')]))
  assert.equal(contributions.set('node/b', desired([route('10.0.0.2')])).size, 0)
  const [conflict] = contributions.conflicts()
  assert.equal(conflict?.kept.source, 'node/a')
  assert.equal(conflict?.refused.source, 'node/b')
  assert.deepEqual([...contributions.set('node/a', [])], ['route 254 10.244.1.0/24 0'])
  assert.equal(contributions.explain('route 254 10.244.1.0/24 0')[0]?.source, 'node/b')
})
