import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { applyText } from '#nft/apply.ts'
import type { Element } from '#nft/element.ts'
import {
  addElements,
  changeElements,
  createElements,
  deleteElements,
  deleteElementsIf,
  deleteElementsWhere,
  getElement,
  listElements,
  putElements,
  setOf,
} from '#nft/elements.ts'
import { NftError } from '#nft/error.ts'
import type { Table } from '#nft/table.ts'
import { renderDelete, renderTable } from '#nft/text.ts'
import { generation, openNft } from '#nft/transaction.ts'
import { needsProgram, TestNetns } from '../namespace.ts'

const table: Table = {
  family: 'inet',
  name: 'members',
  sets: [
    { name: 'ports', key: ['ipv4_addr', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
    { name: 'ranges', key: ['ipv4_addr'], flags: ['interval'] },
    { name: 'ranges6', key: ['ipv6_addr'], data: 'verdict', flags: ['interval'] },
    { name: 'nets', key: ['ipv4_addr', 'inet_proto', 'inet_service'], flags: ['interval', 'timeout'] },
    { name: 'mixed', key: ['ipv6_addr', 'ether_addr', 'mark'] },
    { name: 'interfaces', key: ['ifname'], data: 'verdict' },
    { name: 'protocols', key: ['inet_proto'], data: ['mark'] },
    { name: 'brief', key: ['mark'], timeout: 60_000 },
  ],
  chains: [{ name: 'one', rules: [] }],
}

/** For each set: its elements, and the same in nft's language. */
const members: Record<string, readonly (readonly [Element, string])[]> = {
  ports: [
    [
      { key: ['10.0.0.1', 80], data: ['10.1.0.1', 8080], comment: 'pod a/b' },
      '10.0.0.1 . 80 comment "pod a/b" : 10.1.0.1 . 8080',
    ],
    [{ key: ['10.0.0.2', 443], data: ['10.1.0.2', 1] }, '10.0.0.2 . 443 : 10.1.0.2 . 1'],
  ],
  ranges: [
    [{ key: ['0.0.0.0/8'] }, '0.0.0.0/8'],
    [{ key: ['10.0.0.1-10.0.0.6'], comment: 'some' }, '10.0.0.1-10.0.0.6 comment "some"'],
    [{ key: ['10.0.0.7'] }, '10.0.0.7'],
    [{ key: ['224.0.0.0/3'] }, '224.0.0.0/3'],
  ],
  ranges6: [
    [{ key: ['fd00::/8'], data: { jump: 'one' } }, 'fd00::/8 : jump one'],
    [{ key: ['ff00::/8'], data: 'drop', comment: 'multicast' }, 'ff00::/8 comment "multicast" : drop'],
  ],
  nets: [[{ key: ['10.0.0.0/24', 6, '80-90'], timeout: 3_600_000 }, '10.0.0.0/24 . tcp . 80-90 timeout 1h']],
  mixed: [[{ key: ['fd00::1', '02:00:00:00:00:01', 0x4000] }, 'fd00::1 . 02:00:00:00:00:01 . 0x4000']],
  interfaces: [
    [{ key: ['cni0'], data: { goto: 'one' } }, '"cni0" : goto one'],
    [{ key: ['eth0'], data: 'accept' }, '"eth0" : accept'],
    [{ key: ['eth1'], data: 'return' }, '"eth1" : return'],
  ],
  protocols: [[{ key: [17], data: [7] }, 'udp : 7']],
  brief: [[{ key: [5] }, '5']],
}

const byKey = (a: Element, b: Element): number => (a.key.join() < b.key.join() ? -1 : 1)
const timeless = ({ expires, ...element }: Element): Element => {
  assert.ok(expires === undefined || expires > 0)
  return element
}
const sorted = (elements: readonly Element[]): Element[] => elements.map(timeless).sort(byKey)
const listed = (netns: TestNetns): string => netns.nft('list', 'table', 'inet', 'members').replace(/ expires \w+/g, '')
const refused = (errnoName: string, element?: number) => (error: unknown) =>
  error instanceof NftError && error.code === 'kernel' && error.errnoName === errnoName && error.element === element

async function prepared(): Promise<TestNetns> {
  const netns = new TestNetns('nft')
  try {
    await applyText(renderTable(table), { netns: netns.path })
    return netns
  } catch (error) {
    netns[Symbol.dispose]()
    throw error
  }
}

const portElement = (i: number): Element => ({
  key: [`10.${(i >> 8) & 255}.${i & 255}.1`, 1 + (i % 65_535)],
  data: ['10.99.0.1', 80],
})

describe('elements by netlink', { skip: needsProgram('nft', 'nftables') }, () => {
  test('what we write, nft lists as if it had written it; what nft writes, we read', async () => {
    using ours = await prepared()
    using theirs = await prepared()
    using socket = openNft({ netns: ours.path })
    using other = openNft({ netns: theirs.path })
    for (const [name, pairs] of Object.entries(members)) {
      addElements(
        socket,
        setOf(table, name),
        pairs.map(([element]) => element),
      )
      theirs.nft('add', 'element', 'inet', 'members', name, `{ ${pairs.map(([, text]) => text).join(', ')} }`)
    }
    assert.equal(listed(ours), listed(theirs))
    for (const [name, pairs] of Object.entries(members)) {
      const wanted = sorted(pairs.map(([element]) => element))
      assert.deepEqual(sorted(listElements(socket, setOf(table, name))), wanted, name)
      assert.deepEqual(sorted(listElements(other, setOf(table, name))), wanted, name)
      for (const [element] of pairs) {
        const got = getElement(socket, setOf(table, name), element.key)
        assert.deepEqual(got === undefined ? got : timeless(got), element, name)
      }
    }
    for (const name of Object.keys(members)) {
      const set = setOf(table, name)
      deleteElements(socket, set, listElements(other, set))
      assert.deepEqual(listElements(socket, set), [], name)
    }
  })

  test('a lookup finds exactly its key', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const nets = setOf(table, 'nets')
    addElements(socket, nets, [{ key: ['10.0.0.0/24', 6, '80-90'] }])
    assert.equal(getElement(socket, nets, ['10.0.0.0/25', 'tcp', '80-90']), undefined)
    assert.notEqual(getElement(socket, nets, ['10.0.0.0-10.0.0.255', 'tcp', '80-90']), undefined)
    assert.equal(getElement(socket, setOf(table, 'ports'), ['10.0.0.1', 80]), undefined)
    assert.throws(() => listElements(socket, { ...nets, name: 'nothing' }), refused('ENOENT'))
  })

  test('a bad batch changes nothing and names its element', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    const many = Array.from({ length: 3000 }, (_, i) => portElement(i))
    createElements(socket, ports, [portElement(2500)])
    assert.throws(() => createElements(socket, ports, many), refused('EEXIST', 2500))
    assert.equal(listElements(socket, ports).length, 1)
    const before = generation(socket)
    assert.throws(() => deleteElements(socket, ports, [portElement(2500), portElement(1)]), refused('ENOENT', 1))
    assert.equal(listElements(socket, ports).length, 1)
    assert.equal(generation(socket), before)
    // Adding what is there is fine; adding other data under the same key is not.
    addElements(socket, ports, [portElement(2500)])
    assert.throws(() => addElements(socket, ports, [{ ...portElement(2500), data: ['10.99.0.9', 80] }]), NftError)
    assert.throws(() => addElements(socket, { ...ports, name: 'nothing' }, many), refused('ENOENT'))
    assert.throws(
      () => addElements(socket, ports, [portElement(1), { key: ['10.0.0.1', 70_000], data: ['10.0.0.2', 1] }]),
      (error) => error instanceof NftError && error.code === 'bad-value' && error.element === 1,
    )
    assert.equal(listElements(socket, ports).length, 1)
  })

  test('changes of several sets are one transaction', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const [ports, interfaces] = [setOf(table, 'ports'), setOf(table, 'interfaces')]
    assert.throws(() =>
      changeElements(socket, [
        { op: 'create', set: ports, elements: [portElement(1)] },
        { op: 'create', set: interfaces, elements: [{ key: ['eth0'], data: { jump: 'no-such-chain' } }] },
      ]),
    )
    assert.deepEqual(listElements(socket, ports), [])
    const before = generation(socket)
    changeElements(socket, [
      { op: 'create', set: ports, elements: [portElement(1)] },
      { op: 'create', set: interfaces, elements: [{ key: ['eth0'], data: { jump: 'one' } }] },
    ])
    assert.equal(generation(socket), before + 1)
  })

  test('put replaces data and comment', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    const key = ['10.0.0.1', 80]
    putElements(socket, ports, [{ key, data: ['10.1.0.1', 1], comment: 'old' }])
    putElements(socket, ports, [{ key, data: ['10.1.0.2', 2], comment: 'new' }, portElement(1)])
    assert.deepEqual(getElement(socket, ports, key), { key, data: ['10.1.0.2', 2], comment: 'new' })
    const many = Array.from({ length: 200 }, (_, i) => ({ ...portElement(i), comment: `round ${i}` }))
    putElements(socket, ports, many)
    assert.equal(getElement(socket, ports, portElement(1).key)?.comment, 'round 1')
    const ranges = setOf(table, 'ranges')
    putElements(socket, ranges, [{ key: ['10.0.0.0/8'], comment: 'a' }])
    putElements(socket, ranges, [{ key: ['10.0.0.0/8'], comment: 'b' }, { key: ['11.0.0.0/8'] }])
    assert.deepEqual(listElements(socket, ranges), [{ key: ['10.0.0.0/8'], comment: 'b' }, { key: ['11.0.0.0/8'] }])
  })

  test('only the owner deletes', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    const elements = ['a', 'b', 'c'].map((comment, i) => ({ ...portElement(i), comment }))
    addElements(socket, ports, elements)
    const keys = [0, 1, 9].map((i) => portElement(i).key)
    assert.deepEqual(
      deleteElementsIf(socket, ports, keys, ({ comment }) => comment === 'a'),
      ['deleted', 'foreign', 'missing'],
    )
    assert.deepEqual(
      listElements(socket, ports)
        .map(({ comment }) => comment ?? '')
        .toSorted((a, b) => a.localeCompare(b)),
      ['b', 'c'],
    )
    assert.equal(deleteElementsWhere(socket, ports, ({ comment }) => comment !== 'b').length, 1)
    assert.deepEqual(
      listElements(socket, ports).map(({ comment }) => comment),
      ['b'],
    )
  })

  test('a decision made on what is no longer so is made again', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    using other = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    const [mine, successor] = [
      { ...portElement(1), comment: 'a' },
      { ...portElement(1), comment: 'b' },
    ]
    addElements(socket, ports, [mine])
    let looked = 0
    const outcome = deleteElementsIf(socket, ports, [mine.key], ({ comment }) => {
      // Between our look and our delete the key gets a new owner.
      if (looked++ === 0) putElements(other, ports, [successor])
      return comment === 'a'
    })
    assert.deepEqual([outcome, looked], [['foreign'], 2])
    assert.deepEqual(getElement(socket, ports, mine.key), successor)
  })

  test('work that is disturbed for ever ends with an error', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    using other = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    let tries = 0
    addElements(socket, ports, [portElement(0)])
    assert.throws(
      () =>
        deleteElementsIf(socket, ports, [portElement(0).key], () => {
          addElements(other, ports, [portElement(++tries)])
          return true
        }),
      (error) => error instanceof NftError && error.code === 'contended',
    )
    assert.ok(tries >= 8)
  })

  test('a listing is complete while the kernel resizes the table', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    for (let round = 0; round < 12; round++) {
      await applyText(`${renderDelete(table)}${renderTable(table)}`, { netns: netns.path })
      createElements(
        socket,
        ports,
        Array.from({ length: 8000 }, (_, i) => portElement(i)),
      )
      const listed = listElements(socket, ports)
      assert.deepEqual([listed.length, new Set(listed.map(({ key }) => key.join())).size], [8000, 8000])
    }
  })

  test('ten thousand elements, and a hundred thousand', async () => {
    using netns = await prepared()
    using socket = openNft({ netns: netns.path })
    const ports = setOf(table, 'ports')
    const tenThousand = Array.from({ length: 10_000 }, (_, i) => ({ ...portElement(i), comment: `pod ${i}` }))
    createElements(socket, ports, tenThousand)
    // Strings, not a deep comparison: the difference of two long lists would take minutes to print.
    const text = (elements: readonly Element[]): string => JSON.stringify(sorted(elements))
    assert.ok(text(listElements(socket, ports)) === text(tenThousand), 'not what was written')
    deleteElements(socket, ports, tenThousand)
    assert.deepEqual(listElements(socket, ports), [])
    const hundredThousand = Array.from({ length: 100_000 }, (_, i) => ({
      key: [`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`, 80],
      data: ['10.99.0.1', 80],
    }))
    createElements(socket, ports, hundredThousand)
    assert.equal(listElements(socket, ports).length, 100_000)
  })
})
