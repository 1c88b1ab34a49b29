import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { KeyValue } from '#etcd/messages.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { FakeClock } from '#sys/fake-clock.ts'
import { silentLog } from '../log.ts'
import { LeaseBook } from './lease-book.ts'

const PREFIX = '/n/subnets/'
const GRACE = 3_000
const LIFETIME = 100_000

const lease = (n: number, publicIp = `192.0.2.${n}`, revision = n): KeyValue => ({
  key: `${PREFIX}10.5.${n}.0-24`,
  value: Buffer.from(`{"PublicIP":"${publicIp}","PublicIPv6":null,"BackendType":"host-gw"}`),
  createRevision: revision,
  modRevision: revision,
  lease: 1n,
})

function open(lastKnown: readonly NodeView[] = [], isNew = false) {
  const clock = new FakeClock()
  const seen = new Set<string>()
  const owns: (string | undefined)[] = []
  let key: string | undefined = isNew ? undefined : lease(1).key
  let trusted = false
  const book = new LeaseBook({
    prefix: PREFIX,
    backendType: 'host-gw',
    sink: {
      list: (views, trustworthy) => {
        trusted = trustworthy
        seen.clear()
        for (const { name } of views) seen.add(name)
      },
      node: ({ name }) => void seen.add(name),
      gone: (name) => void seen.delete(name),
    },
    clock,
    log: silentLog,
    grace: GRACE,
    lifetime: LIFETIME,
    lastKnown,
    ownKey: () => key,
    onOwn: (record) => owns.push(record?.key),
  })
  const list = (kvs: readonly KeyValue[], isOlder = false): void => book.hear({ type: 'list', kvs, isOlder })
  return {
    book,
    clock,
    owns,
    list,
    peers: () => [...seen].map((name) => Number(name.split('.')[2])).toSorted((a, b) => a - b),
    isTrusted: () => trusted,
    own: (next: string | undefined) => (key = next),
  }
}

test('events: a peer comes, changes, goes after its grace, and is not cut off when it comes back in time', async () => {
  const { book, clock, list, peers } = open()
  list([lease(1), lease(2)])
  assert.deepEqual(peers(), [2], 'our own is no peer')
  book.hear({ type: 'put', kv: lease(3) })
  book.hear({ type: 'delete', key: lease(2).key })
  await clock.advance(GRACE - 1)
  assert.deepEqual(peers(), [2, 3])
  book.hear({ type: 'put', kv: lease(2) })
  await clock.advance(GRACE * 2)
  assert.deepEqual(peers(), [2, 3])
  book.hear({ type: 'delete', key: lease(2).key })
  await clock.advance(GRACE)
  assert.deepEqual(peers(), [3])
})

for (const [why, kvs, isOlder] of [
  ['empty', [], false],
  ['without our own', [lease(2)], false],
  ['from an older copy', [lease(1), lease(2)], true],
] as const)
  test(`a list that is ${why} forgets nobody for as long as a lease may last`, async () => {
    const { book, clock, list, peers } = open()
    list([lease(1), lease(2), lease(3)])
    list(kvs, isOlder)
    await clock.advance(LIFETIME - 1)
    assert.ok(peers().includes(3) && peers().includes(2))
    assert.ok(book.doubtful > 0)
    await clock.advance(1)
    assert.ok(!peers().includes(3))
    assert.equal(book.doubtful, 0)
  })

test('a list that can be trusted ends what it lacks', async () => {
  const { clock, list, peers } = open()
  list([lease(1), lease(2), lease(3)])
  list([lease(1), lease(3)])
  await clock.advance(GRACE)
  assert.deepEqual(peers(), [3])
})

test('in doubt: a deletion is believed, a node that is there again with another lease has moved', async () => {
  const { book, clock, list, peers } = open()
  list([lease(1), lease(2), lease(3), lease(4)])
  list([lease(1)], true)
  assert.deepEqual([peers(), book.doubtful], [[2, 3, 4], 3])
  book.hear({ type: 'put', kv: lease(9, '192.0.2.2') })
  assert.deepEqual(peers(), [3, 4, 9])
  book.hear({ type: 'put', kv: lease(3) })
  book.hear({ type: 'delete', key: lease(4).key })
  await clock.advance(GRACE)
  assert.deepEqual([peers(), book.doubtful], [[3, 9], 0])
})

test('a former life: its peers are kept where etcd has nothing to say, and go where it has', async () => {
  const view = (n: number): NodeView => ({
    name: `10.5.${n}.0-24`,
    uid: '',
    created: '',
    podCidrs: [`10.5.${n}.0/24`],
    annotations: { publicIp: `192.0.2.${n}` },
  })
  const wiped = open([view(2), view(3)], true)
  wiped.list([])
  assert.deepEqual([wiped.peers(), wiped.isTrusted()], [[2, 3], false])
  wiped.own(lease(1).key)
  wiped.book.ownChanged()
  assert.deepEqual([wiped.peers(), wiped.isTrusted()], [[2, 3], true])
  const usual = open([view(2), view(3)], true)
  usual.list([lease(2)])
  await usual.clock.advance(GRACE)
  assert.deepEqual(usual.peers(), [2])
  const fresh = open([], true)
  fresh.list([])
  assert.deepEqual([fresh.peers(), fresh.book.doubtful], [[], 0])
})

test('our own lease is told of; a peer that takes what was ours is a peer', () => {
  const { book, list, owns, own, peers } = open()
  list([lease(1)])
  book.hear({ type: 'delete', key: lease(1).key })
  book.hear({ type: 'put', kv: lease(1, '192.0.2.50') })
  assert.deepEqual(owns, [lease(1).key, undefined, lease(1).key])
  own(lease(5).key)
  book.ownChanged()
  book.hear({ type: 'put', kv: lease(1, '192.0.2.50') })
  assert.deepEqual(peers(), [1])
})
