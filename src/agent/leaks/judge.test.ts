import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import fc from 'fast-check'

import type { AttachmentRecord } from '#cni/attachment/record.ts'
import { ipText } from '#ip/address.ts'
import { aliasOf, ownerComment, ownerMark } from '#plugins/link/owner.ts'
import { LeakFinder } from './finder.ts'
import { nameOf, type AttachmentName, type Inventory } from './inventory.ts'
import { judge, ownerOfAlias, type Judgement, type Leftover } from './judge.ts'
import { ownerOfComment } from './observe.ts'
import { judgeSandbox, type PathFact } from './sandbox.ts'

const nothing: Inventory = {
  hasRecords: true,
  records: [],
  linkRecords: [],
  caches: [],
  links: [],
  proxies: [],
  rules: [],
  addresses: [],
  files: [],
  busy: new Set(),
}
const a: AttachmentName = { network: 'net', containerId: 'a', ifname: 'eth0' }
const recordOf = (owner: AttachmentName, change: Partial<AttachmentRecord> = {}): AttachmentRecord => ({
  version: 1,
  id: 'id',
  state: 'ready',
  type: 'bridge',
  ...owner,
  netns: '/run/netns/x',
  boot: 'b',
  since: 1,
  config: {},
  args: [],
  path: [],
  rules: [],
  ...change,
})
const table = { family: 'inet', name: 'heddle_cni_masq' } as const
const rulesOf = (owner: AttachmentName, told = true) => ({
  table,
  mark: ownerMark(owner.network, owner),
  owner: told ? owner : undefined,
  count: 2,
})
const vethOf = (owner: AttachmentName, hasPeerElsewhere = true) => ({
  index: 7,
  name: 'veth1',
  kind: 'veth',
  alias: aliasOf(owner.network, owner),
  hasPeerElsewhere,
})
const kinds = (judgement: Judgement): readonly string[] => judgement.leftovers.map(({ kind }) => kind)

describe('what is a leftover', () => {
  test('an attachment whose sandbox is gone, the end of its chain first', () => {
    const records = [
      { record: recordOf(a, { since: 1 }), sandbox: 'gone' },
      { record: recordOf(a, { type: 'portmap', since: 2, state: 'leaving' }), sandbox: 'gone' },
    ] as const
    const { leftovers } = judge({ ...nothing, records })
    assert.deepEqual(
      leftovers.map(({ object, reason, detail }) => [object, reason, detail]),
      [
        ['portmap a eth0', 'del-unfinished', '/run/netns/x'],
        ['bridge a eth0', 'sandbox-gone', '/run/netns/x'],
      ],
    )
    for (const sandbox of ['live', 'unknown'] as const)
      assert.deepEqual(kinds(judge({ ...nothing, records: [{ record: recordOf(a), sandbox }] })), [])
    const busy = new Set([nameOf(a)])
    assert.deepEqual(kinds(judge({ ...nothing, records, busy })), [], 'a call works on it')
    assert.deepEqual(kinds(judge({ ...nothing, records, busy: new Set(['net']) })), [], 'a GC works on its network')
  })

  test('not while its link has an end in another namespace, which therefore lives', () => {
    const records = [{ record: recordOf(a), sandbox: 'gone' }] as const
    assert.deepEqual(kinds(judge({ ...nothing, records, links: [vethOf(a)] })), [])
    assert.deepEqual(kinds(judge({ ...nothing, records, links: [vethOf(a, false)] })), ['attachment'])
  })

  test('rules that no record, no living result and no link stands for', () => {
    const rules = [rulesOf(a)]
    assert.deepEqual(kinds(judge({ ...nothing, rules })), ['rules'])
    for (const told of [true, false]) {
      const seen = { ...nothing, rules: [rulesOf(a, told)] }
      const cache = { ...a, file: '/f', netns: '/run/netns/x' }
      for (const sandbox of ['live', 'unknown'] as const) {
        assert.deepEqual(kinds(judge({ ...seen, records: [{ record: recordOf(a), sandbox }] })), [])
        assert.deepEqual(kinds(judge({ ...seen, caches: [{ ...cache, sandbox }] })), [])
      }
      assert.deepEqual(kinds(judge({ ...seen, links: [vethOf(a)] })), [])
      assert.deepEqual(kinds(judge({ ...seen, caches: [{ ...cache, sandbox: 'gone' }] })), ['rules'])
      // DEL takes them along.
      assert.deepEqual(kinds(judge({ ...seen, records: [{ record: recordOf(a), sandbox: 'gone' }] })), ['attachment'])
    }
  })

  test('a name too long for comment and alias is given the benefit of the doubt', () => {
    const long = { network: 'n'.repeat(180), containerId: 'c'.repeat(200), ifname: 'eth0' }
    assert.ok(aliasOf(long.network, long).includes('#'))
    const rules = [rulesOf(long, false)]
    assert.deepEqual(kinds(judge({ ...nothing, rules, links: [vethOf(long)] })), [])
    assert.deepEqual(kinds(judge({ ...nothing, rules })), ['rules'])
  })

  test('a marked link of the host that leads nowhere', () => {
    assert.deepEqual(kinds(judge({ ...nothing, links: [vethOf(a, false)] })), ['link'])
    assert.deepEqual(kinds(judge({ ...nothing, links: [vethOf(a)] })), [])
    assert.deepEqual(kinds(judge({ ...nothing, links: [{ ...vethOf(a, false), kind: 'dummy' }] })), [], 'borrowed')
    const ifb = { ...vethOf(a, false), index: 8, name: 'ifb1', kind: 'ifb' }
    assert.deepEqual(kinds(judge({ ...nothing, links: [ifb] })), ['link'])
    assert.deepEqual(kinds(judge({ ...nothing, links: [ifb, vethOf(a)] })), [], 'its pod lives')
    const records = [{ record: recordOf(a), sandbox: 'live' }] as const
    assert.deepEqual(kinds(judge({ ...nothing, records, links: [vethOf(a, false)] })), [])
  })

  test('a proxy neighbour that no record names', () => {
    const ip = ipText('10.0.0.9')
    const proxies = [{ index: 2, ip }]
    assert.deepEqual(kinds(judge({ ...nothing, proxies })), ['proxy'])
    const linkRecord = (ips: readonly string[]) => ({
      plugin: 'neutron-veth',
      ...a,
      netns: '/run/netns/x',
      netnsId: '4:1',
      proxied: { card: 'eth0', ips: ips.map(ipText) },
    })
    for (const sandbox of ['live', 'unknown'] as const) {
      const of = (ips: readonly string[]) => [{ record: linkRecord(ips), sandbox }]
      assert.deepEqual(kinds(judge({ ...nothing, proxies, linkRecords: of(['10.0.0.8', ip]) })), [])
      assert.deepEqual(kinds(judge({ ...nothing, proxies, linkRecords: of(['10.0.0.8']) })), ['proxy'])
    }
    // DEL takes it along.
    const dead = [{ record: linkRecord([ip]), sandbox: 'gone' }] as const
    assert.deepEqual(kinds(judge({ ...nothing, proxies, linkRecords: dead })), ['attachment'])
    const unproved = judge({ ...nothing, hasRecords: false, proxies })
    assert.deepEqual([unproved.leftovers, unproved.unclaimed.map(({ kind }) => kind)], [[], ['proxy']])
  })

  test('where no records are kept, nothing without one is a leftover', () => {
    const seen = { ...nothing, hasRecords: false, rules: [rulesOf(a)], links: [vethOf(a, false)] }
    const { leftovers, unclaimed } = judge(seen)
    assert.deepEqual(leftovers, [])
    assert.deepEqual(
      unclaimed.map(({ kind, owner }) => [kind, owner]),
      [
        ['rules', a],
        ['link', a],
      ],
    )
  })

  test('temporary files of the dead, but only old ones', () => {
    const files = [
      { file: '/x.tmp', ageMs: 3_600_000 },
      { file: '/y.tmp', ageMs: 1000 },
    ]
    assert.deepEqual(
      judge({ ...nothing, files }).leftovers.map(({ object }) => object),
      ['/x.tmp'],
    )
  })

  test('what nobody claims is told and never a leftover', () => {
    const addresses = [
      { file: '/n/10.0.0.1', network: 'net', containerId: 'a', ifname: 'eth0' },
      { file: '/n/10.0.0.2', network: 'net', containerId: 'a' },
      { file: '/n/10.0.0.3', network: 'net' },
    ]
    const cache = { ...a, file: '/f', netns: '/run/netns/x', sandbox: 'gone' } as const
    const seen = { ...nothing, addresses, caches: [cache] }
    const alone = judge(seen)
    assert.deepEqual(alone.leftovers, [])
    assert.deepEqual(
      alone.unclaimed.map(({ kind, object }) => `${kind} ${object}`),
      ['address /n/10.0.0.1', 'address /n/10.0.0.2', 'address /n/10.0.0.3', 'cache /f'],
    )
    const claimed = judge({ ...seen, records: [{ record: recordOf(a), sandbox: 'live' }] })
    assert.deepEqual(
      claimed.unclaimed.map(({ object }) => object),
      ['/n/10.0.0.3'],
    )
  })
})

const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}$/)
const owner = fc.record(
  { network: name, containerId: name, ifname: fc.stringMatching(/^[a-z][a-z0-9.]{0,13}$/) },
  { noNullPrototype: true },
)

test('aliases and comments lead back to their owner, or to nobody', () => {
  fc.assert(
    fc.property(owner, (one) => {
      const alias = aliasOf(one.network, one)
      assert.deepEqual(ownerOfAlias(alias), alias.includes('#') ? undefined : one)
      const mark = ownerMark(one.network, one)
      const comment = ownerComment(one.network, one)
      assert.deepEqual(ownerOfComment(mark, comment), comment.endsWith(` ${one.containerId}`) ? one : undefined)
    }),
  )
  for (const alias of ['heddle:', 'heddle:a:b', 'heddle:a:b:c:d', 'other:a:b:c', 'heddle:#ff:#ee'])
    assert.equal(ownerOfAlias(alias), undefined, alias)
})

test('nothing of an attachment that may live is ever a leftover', () => {
  fc.assert(
    fc.property(owner, owner, fc.constantFrom('live', 'unknown'), (live, dead, sandbox) => {
      fc.pre(nameOf(live) !== nameOf(dead))
      const { leftovers } = judge({
        ...nothing,
        records: [
          { record: recordOf(live), sandbox },
          { record: recordOf(dead), sandbox: 'gone' },
        ],
        links: [vethOf(live), vethOf(dead, false)],
        rules: [rulesOf(live), rulesOf(live, false), rulesOf(dead)],
      })
      assert.deepEqual(
        leftovers.map(({ key }) => key.includes(nameOf(dead))),
        [true],
      )
    }),
  )
})

describe('whether a sandbox is gone', () => {
  const ref = { netns: '/run/netns/x', netnsId: '4:100', boot: 'b' }
  const facts = { boot: 'b', pidns: 'p', isHeld: false }
  const judged = (path: PathFact, change: object = {}, more: object = {}): string =>
    judgeSandbox({ ...ref, ...change }, { ...facts, path, ...more })

  test('by path, identity, holders and boot', () => {
    const none: PathFact = { is: 'nothing' }
    assert.equal(judged({ is: 'namespace', id: '4:100' }), 'live')
    assert.equal(judged({ is: 'namespace', id: '4:101' }), 'gone', 'the path is used again')
    assert.equal(judged({ is: 'namespace', id: '4:101' }, { netnsId: undefined }), 'live')
    assert.equal(judged({ is: 'namespace', id: '4:100', cookie: '8' }, { cookie: '7' }), 'gone', 'so is its inode')
    assert.equal(judged({ is: 'namespace', id: '4:100' }, { cookie: '7' }), 'live', 'an old kernel')
    assert.equal(judged(none), 'gone')
    const folderId = '9:1'
    assert.equal(judged({ is: 'nothing', folderId }, { folderId }), 'gone')
    assert.equal(judged({ is: 'nothing', folderId: '9:2' }, { folderId }), 'unknown', 'a folder of the same name')
    assert.equal(judged(none, {}, { isHeld: true }), 'live', 'a process still lives in it')
    assert.equal(judged({ is: 'elsewhere' }), 'unknown', 'another mount namespace')
    assert.equal(judged({ is: 'other' }), 'unknown')
    assert.equal(judged({ is: 'namespace', id: '4:100' }, { boot: 'a' }), 'gone', 'the machine was started anew')
    assert.equal(judged(none, { netns: '' }), 'unknown')
    assert.equal(judged(none, { netns: '/proc/7/ns/net' }), 'unknown', 'of which pid namespace?')
    assert.equal(judged(none, { netns: '/proc/7/ns/net', pidns: 'q' }), 'unknown')
    assert.equal(judged(none, { netns: '/proc/7/ns/net', pidns: 'p' }), 'gone')
  })
})

describe('looking twice', () => {
  const leftover = (key: string): Leftover => ({
    kind: 'file',
    key,
    owner: undefined,
    object: key,
    reason: 'writer-killed',
    detail: '',
    removal: { by: 'file', file: key },
  })

  test('only what two looks in a row show is removed; a failure is tried again', async () => {
    const looks = [['x'], ['x', 'y'], ['y'], [], ['x'], ['x'], ['x']]
    const removed: string[] = []
    let fails = true
    const finder = new LeakFinder({
      look: () => Promise.resolve({ leftovers: (looks.shift() ?? []).map(leftover), unclaimed: [] }),
      remove: ({ key }) => {
        if (removed.length === 2 && fails) {
          fails = false
          return Promise.reject(new Error('busy'))
        }
        removed.push(key)
        return Promise.resolve(true)
      },
    })
    const outcomes: string[] = []
    while (looks.length > 0) {
      const round = await finder.round()
      outcomes.push(`${round.removed.map(({ key }) => key).join()}/${round.failed.map(({ reason }) => reason).join()}`)
    }
    assert.deepEqual(outcomes, ['/', 'x/', 'y/', '/', '/', '/busy', 'x/'])
  })
})
