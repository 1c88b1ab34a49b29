import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { applyText, nftVersion } from '#nft/apply.ts'
import { deleteFlows, listFlows } from '#nft/conntrack.ts'
import { addElements, listElements, putElements, setOf } from '#nft/elements.ts'
import { deleteTable, ensureTable } from '#nft/ensure.ts'
import { NftError } from '#nft/error.ts'
import { fingerprint } from '#nft/fingerprint.ts'
import { listTables, readStructure } from '#nft/list.ts'
import { isIdentifier, quoteComment, quoteInterface } from '#nft/quote.ts'
import type { Table } from '#nft/table.ts'
import { hookPriority } from '#nft/table.ts'
import { renderDelete, renderTable } from '#nft/text.ts'
import { generation, openNft } from '#nft/transaction.ts'
import { type RulesetChange, type RulesetEvent, RulesetWatch } from '#nft/watch.ts'
import { needsProgram, TestNetns } from '../namespace.ts'

const table: Table = {
  family: 'inet',
  name: 'heddle',
  comment: 'pod network',
  sets: [
    { name: 'pods', key: ['ipv4_addr'], flags: ['interval'], comment: 'all pods' },
    { name: 'ports', key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'], size: 4096 },
    { name: 'fates', key: ['ipv4_addr'], data: 'verdict' },
    { name: 'recent', key: ['ipv6_addr'], flags: ['dynamic'], timeout: 90_500 },
  ],
  chains: [
    { name: 'sink', comment: 'the end', rules: [{ text: 'counter drop', owner: 'policy' }] },
    {
      name: 'forwarding',
      base: { type: 'filter', hook: 'forward', priority: hookPriority.filter, policy: 'drop' },
      rules: [
        { text: 'ct state { established, related } accept', owner: 'policy', reason: 'replies' },
        { text: 'iifname "cni0" ip saddr vmap @fates', owner: 'policy', reason: 'pod "a"' },
        { text: 'ip6 saddr fd00::/8 update @recent { ip6 saddr }', owner: 'policy' },
      ],
    },
    {
      name: 'prerouting',
      base: { type: 'nat', hook: 'prerouting', priority: hookPriority.dstnat - 7 },
      rules: [{ text: 'dnat ip to meta l4proto . th dport map @ports', owner: 'portmap' }],
    },
  ],
}

const withRule = (text: string): Table => ({
  ...table,
  chains: table.chains.map((chain) => (chain.name === 'sink' ? { ...chain, rules: [{ text, owner: 'test' }] } : chain)),
})

describe('tables', { skip: needsProgram('nft', 'nftables') }, () => {
  test('our dump says what nft -j list says', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    await applyText(renderTable(table), { netns: netns.path })
    netns.nft('add', 'table', 'bridge', 'other')
    netns.nft('add', 'chain', 'inet', 'heddle', 'plain')
    assert.deepEqual(
      listTables(socket).map(({ family, name, handle }) => ({ family, name, handle: Number(handle) })),
      netns.ruleset('table'),
    )
    const seen = readStructure(socket, table)
    assert.ok(seen)
    assert.equal(seen.table.comment, 'pod network')
    const at = { family: 'inet', table: 'heddle' }
    assert.deepEqual(
      seen.chains.map(({ name, handle, base }) => ({
        ...at,
        name,
        handle: Number(handle),
        ...(base === undefined ? {} : { type: base.type, hook: base.hook, prio: base.priority, policy: base.policy }),
      })),
      netns.ruleset('chain'),
    )
    assert.deepEqual(
      seen.rules.map(({ chain, handle, comment }) => ({ chain, handle: Number(handle), comment })),
      netns.ruleset('rule').map(({ chain, handle, comment }) => ({ chain, handle, comment })),
    )
    const typeOf = (types: unknown): unknown => (Array.isArray(types) && types.length === 1 ? types[0] : types)
    assert.deepEqual(
      seen.sets.map(({ name, handle, key, flags, size, timeout }) => ({
        name,
        handle: Number(handle),
        type: typeOf(key),
        // nft 1.0.6 does not tell of `dynamic` in JSON.
        flags: flags.filter((flag) => flag !== 'dynamic').sort((a, b) => a.localeCompare(b)),
        size,
        // nft leaves out the milliseconds.
        timeout: timeout === undefined ? undefined : Math.floor(timeout / 1000),
      })),
      [...netns.ruleset('set'), ...netns.ruleset('map')]
        .map(({ name, handle, type, flags, size, timeout }) => ({
          name,
          handle,
          type,
          flags: (Array.isArray(flags) ? flags.map(String) : []).sort((a, b) => a.localeCompare(b)),
          size,
          timeout,
        }))
        .sort((a, b) => Number(a.handle) - Number(b.handle)),
    )
    assert.deepEqual(
      seen.chains.find(({ name }) => name === 'sink'),
      { ...seen.chains.find(({ name }) => name === 'sink'), comment: 'the end' },
    )
    assert.equal(readStructure(socket, { family: 'ip', name: 'heddle' }), undefined)
  })

  test('the fingerprint sees structure only', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    const print = (): string => {
      const structure = readStructure(socket, table)
      assert.ok(structure)
      return fingerprint(structure)
    }
    await applyText(renderTable(table), { netns: netns.path })
    const first = print()
    // Applied again: other handles, other names of anonymous sets.
    await applyText(renderTable(table, readStructure(socket, table)), { netns: netns.path })
    assert.equal(print(), first)
    addElements(socket, setOf(table, 'pods'), [{ key: ['10.0.0.0/8'] }])
    netns.nft('add', 'table', 'inet', 'other')
    assert.equal(print(), first)
    const seen = new Set([first])
    for (const change of [
      ['add', 'rule', 'inet', 'heddle', 'sink', 'accept'],
      ['insert', 'rule', 'inet', 'heddle', 'sink', 'accept'],
      ['add', 'chain', 'inet', 'heddle', 'extra'],
      ['add', 'set', 'inet', 'heddle', 'extra', '{ type mark; }'],
      ['add', 'counter', 'inet', 'heddle', 'extra'],
      ['add', 'chain', 'inet', 'heddle', 'forwarding', '{ policy accept; }'],
      ['flush', 'chain', 'inet', 'heddle', 'prerouting'],
    ]) {
      netns.nft(...change)
      assert.ok(!seen.has(print()), change.join(' '))
      seen.add(print())
    }
    // Only the anonymous set's elements differ.
    using other = new TestNetns('nft')
    using there = openNft({ netns: other.path })
    const states = (list: string): string => renderTable(withRule(`ct state { ${list} } accept`))
    const prints: (string | undefined)[] = []
    for (const list of ['new, untracked', 'new, invalid', 'untracked, new']) {
      await applyText(renderDelete(table) + states(list), { netns: other.path })
      const structure = readStructure(there, table)
      prints.push(structure === undefined ? undefined : fingerprint(structure))
    }
    assert.notEqual(prints[0], prints[1])
    assert.equal(prints[0], prints[2])
  })

  test('ensure writes once, notices what others do, and keeps elements', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    assert.deepEqual(await ensureTable(socket, table), { changed: true, cause: 'missing' })
    assert.deepEqual(await ensureTable(socket, table), { changed: false })
    addElements(socket, setOf(table, 'pods'), [{ key: ['10.0.0.0/8'] }])
    addElements(socket, setOf(table, 'fates'), [{ key: ['10.0.0.1'], data: { jump: 'sink' } }])
    assert.deepEqual(await ensureTable(socket, table), { changed: false })
    {
      // As after a restart.
      using fresh = openNft({ netns: netns.path })
      const before = generation(fresh)
      assert.deepEqual(await ensureTable(fresh, structuredClone(table)), { changed: false })
      assert.equal(generation(fresh), before)
    }
    const wanted = netns.nft('-s', 'list', 'table', 'inet', 'heddle')
    for (const damage of [
      ['flush', 'chain', 'inet', 'heddle', 'forwarding'],
      ['flush', 'table', 'inet', 'heddle'],
      ['add', 'rule', 'inet', 'heddle', 'sink', 'accept'],
      ['insert', 'rule', 'inet', 'heddle', 'forwarding', 'accept'],
      ['add', 'chain', 'inet', 'heddle', 'forwarding', '{ policy accept; }'],
      ['add', 'chain', 'inet', 'heddle', 'odd/name'],
      ['add', 'set', 'inet', 'heddle', 'odd/set', '{ type mark; }'],
    ]) {
      netns.nft(...damage)
      assert.deepEqual(await ensureTable(socket, table), { changed: true, cause: 'drift' }, damage.join(' '))
      assert.equal(structureText(netns), structureOf(wanted), damage.join(' '))
      assert.deepEqual(listElements(socket, setOf(table, 'pods')), [{ key: ['10.0.0.0/8'] }])
    }
    netns.nft('flush', 'ruleset')
    assert.deepEqual(await ensureTable(socket, table), { changed: true, cause: 'missing' })
    assert.equal(structureText(netns), structureOf(wanted))
  })

  test('a new model replaces the old one; declarations that changed lose their elements, others keep them', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    await ensureTable(socket, table)
    addElements(socket, setOf(table, 'pods'), [{ key: ['10.0.0.0/8'] }])
    addElements(socket, setOf(table, 'ports'), [{ key: [6, 80], data: ['10.0.0.1', 80] }])
    const next: Table = {
      ...table,
      sets: table.sets
        .map((set) => (set.name === 'ports' ? { ...set, size: 100 } : set))
        .filter(({ name }) => name !== 'fates'),
      chains: [
        { name: 'sink', rules: [] },
        {
          name: 'prerouting',
          base: { type: 'nat', hook: 'prerouting', priority: -50 },
          rules: [{ text: 'ip saddr @pods jump sink', owner: 'x' }],
        },
      ],
    }
    assert.deepEqual(await ensureTable(socket, next), { changed: true, cause: 'outdated' })
    assert.deepEqual(listElements(socket, setOf(next, 'pods')), [{ key: ['10.0.0.0/8'] }])
    assert.deepEqual(listElements(socket, setOf(next, 'ports')), [])
    assert.deepEqual(
      netns.ruleset('chain').map(({ name, prio }) => [name, prio]),
      [
        ['sink', undefined],
        ['prerouting', -50],
      ],
    )
    assert.equal(deleteTable(socket, next), true)
    assert.equal(deleteTable(socket, next), false)
    assert.deepEqual(listTables(socket), [])
  })

  test('what nft refuses changes nothing and names the line; what is missing has a remedy', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    await ensureTable(socket, table)
    const before = netns.nft('list', 'ruleset')
    await assert.rejects(
      ensureTable(socket, withRule('ip saddr @nothing drop')),
      (error) =>
        error instanceof NftError &&
        error.code === 'refused' &&
        error.text?.includes('@nothing') === true &&
        (error.line ?? 0) > 1,
    )
    assert.equal(netns.nft('list', 'ruleset'), before)
    addElements(socket, setOf(table, 'fates'), [{ key: ['10.0.0.1'], data: { jump: 'sink' } }])
    const without: Table = { ...table, chains: table.chains.filter(({ name }) => name !== 'sink') }
    await assert.rejects(
      ensureTable(socket, without),
      (error) => error instanceof NftError && error.errnoName === 'EBUSY',
    )
    await assert.rejects(
      applyText('list ruleset', { program: 'nft-is-not-here' }),
      (error) =>
        error instanceof NftError && error.code === 'no-nft' && error.message.includes('apt-get install nftables'),
    )
    assert.match(await nftVersion(), /^\d+\.\d+/)
  })

  test('writers at the same time agree', async () => {
    using netns = new TestNetns('nft')
    const sockets = Array.from({ length: 4 }, () => openNft({ netns: netns.path }))
    await Promise.all(sockets.flatMap((socket) => [ensureTable(socket, table), ensureTable(socket, table)]))
    for (const socket of sockets) {
      assert.deepEqual(await ensureTable(socket, table), { changed: false })
      socket[Symbol.dispose]()
    }
  })

  test('property: hostile names, comments and interfaces stay what they are in nft', async () => {
    using netns = new TestNetns('nft')
    const words = fc.constantFrom(
      'drop',
      'policy',
      'map',
      'fwd',
      'dup',
      'x',
      'over',
      'until',
      'to',
      'on',
      'osf',
      'all',
      'second',
      'level',
    )
    const hostile = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 140 }),
      fc.stringMatching(/^["'\\;{}#$*@ \na-z]{0,15}$/),
      words,
    )
    const texts = fc.sample(hostile, 600)
    const rules: string[] = []
    const comments: string[] = []
    for (const text of texts) {
      const comment = quoteComment(text)
      if (comment !== '""') {
        rules.push(`add rule ip hostile main accept comment ${comment}`)
        comments.push(comment.slice(1, -1))
      }
      if (isIdentifier(text)) rules.push(`add chain ip hostile ${text}`)
      try {
        rules.push(`add rule ip hostile other iifname ${quoteInterface(text)} accept`)
      } catch {
        // Refused: that is the other half of being safe.
      }
    }
    const prelude = 'add table ip hostile\nadd chain ip hostile main\nadd chain ip hostile other\n'
    await applyText(`${prelude}${rules.join('\n')}\n`, { netns: netns.path })
    const found = netns.ruleset('rule')
    assert.deepEqual(
      found.filter(({ chain }) => chain === 'main').map(({ comment }) => comment),
      comments,
    )
    assert.equal(netns.ruleset('table').length, 1)
    assert.ok(found.every(({ expr }) => JSON.stringify(expr).includes('"accept"')))
  })
})

/** Structure of `nft list` without the note, whose hashes change with what was there before. */
const structureOf = (text: string): string =>
  text
    .replace(/\n\tset heddle-stamp \{.*?\n\t\}\n/s, '')
    .replace(/\n\t\telements = .*?\}/gs, '')
    .split(/\n\n/)
    .toSorted((a, b) => a.localeCompare(b))
    .join('\n\n')
    .replace(/[{}\s]+/g, ' ')
    .trim()
const structureText = (netns: TestNetns): string => structureOf(netns.nft('-s', 'list', 'table', 'inet', 'heddle'))

describe('watching', { skip: needsProgram('nft', 'nftables') }, () => {
  test('tells who changed which table, and what is our own', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    await ensureTable(socket, table)
    const events: RulesetEvent[] = []
    using watch = new RulesetWatch((event) => void events.push(event), { netns: netns.path, own: [socket] })
    assert.ok(watch)
    const next = async (): Promise<RulesetChange> => {
      for (let i = 0; i < 200 && events.length === 0; i++) await sleep(5)
      const event = events.shift()
      assert.ok(event?.kind === 'change', 'no event within a second')
      return event
    }
    addElements(socket, setOf(table, 'pods'), [{ key: ['10.0.0.0/8'] }])
    const own = await next()
    assert.deepEqual(own.tables, [{ family: 'inet', name: 'heddle', structure: false }])
    assert.deepEqual([own.own, own.process.id, own.generation], [true, process.pid, generation(socket)])
    netns.nft('add table ip one; add table ip6 two; flush chain inet heddle sink')
    const foreign = await next()
    assert.deepEqual([foreign.own, foreign.process.name], [false, 'nft'])
    assert.deepEqual(
      foreign.tables
        .map(({ family, name, structure }) => `${family} ${name} ${structure}`)
        .toSorted((a, b) => a.localeCompare(b)),
      ['inet heddle true', 'ip one true', 'ip6 two true'],
    )
    assert.deepEqual(await ensureTable(socket, table), { changed: true, cause: 'drift' })
  })

  test('own elements need no second reading, and hide nothing that others do before, between or after them', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    const pods = setOf(table, 'pods')
    const put = (last: number): void => putElements(socket, pods, [{ key: [`10.0.${last}.0/24`] }])
    // Changes nothing when it is there, and then makes no generation.
    const again = (): void => addElements(socket, pods, [{ key: ['10.0.1.0/24'] }])
    const foreign = (): unknown => netns.nft('add', 'rule', 'inet', 'heddle', 'sink', 'accept')
    const requests = async (): Promise<number> => {
      let count = 0
      const real = socket.get.bind(socket)
      const dump = socket.dump.bind(socket)
      socket.get = (...args) => ((count += 1), real(...args))
      socket.dump = (...args) => ((count += 1), dump(...args))
      assert.deepEqual(await ensureTable(socket, table), { changed: false })
      Object.assign(socket, { get: real, dump })
      return count
    }
    await ensureTable(socket, table)
    put(1)
    put(2)
    assert.equal(await requests(), 1)
    put(3)
    assert.equal(await requests(), 1)
    const drift = { changed: true, cause: 'drift' }
    for (const order of [
      [foreign, put],
      [put, foreign],
      [put, foreign, put],
      [again, foreign],
      [again, foreign, put],
    ]) {
      for (const act of order) act(4)
      assert.deepEqual(await ensureTable(socket, table), drift)
      put(5)
      assert.equal(await requests(), 1)
    }
  })

  test('lost notifications are reported, and later ones come again', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    await ensureTable(socket, table)
    const events: RulesetEvent[] = []
    using watch = new RulesetWatch((event) => void events.push(event), { netns: netns.path })
    assert.ok(watch)
    // Far more than the buffer holds, without giving the watch a turn.
    const fates = setOf(table, 'ports')
    for (let round = 0; round < 12; round++) {
      const elements = Array.from({ length: 4096 }, (_, i) => ({
        key: [round % 2, i],
        data: ['10.0.0.1', 80],
        comment: 'x'.repeat(120),
      }))
      addElements(socket, fates, elements)
      netns.nft('flush', 'map', 'inet', 'heddle', 'ports')
    }
    for (let i = 0; i < 200 && !events.some(({ kind }) => kind === 'overrun'); i++) await sleep(10)
    assert.ok(events.some(({ kind }) => kind === 'overrun'))
    netns.nft('add', 'table', 'ip', 'later')
    const isLater = (event: RulesetEvent): boolean =>
      event.kind === 'change' && event.tables.some(({ name }) => name === 'later')
    for (let i = 0; i < 400 && !events.some(isLater); i++) await sleep(5)
    assert.ok(events.some(isLater))
  })
})

describe('connection tracking', { skip: needsProgram('nft', 'nftables') }, () => {
  test('UDP flows are listed and deleted by filter, others stay', async () => {
    using netns = new TestNetns('nft')
    using socket = openNft({ netns: netns.path })
    netns.run('ip', 'link', 'set', 'lo', 'up')
    // Tracking starts with a rule that needs it.
    await applyText(
      'add table ip t\nadd chain ip t out { type nat hook output priority -100; }\nadd rule ip t out udp dport 5353 dnat to 127.0.0.1:5454\nadd rule ip t out ct state new accept\n',
      { netns: netns.path },
    )
    const send = `const s = require('node:dgram').createSocket('udp4')
      s.bind(4000, '127.0.0.1', () => { for (const port of [5353, 6000, 6001]) s.send('x', port, '127.0.0.1'); setTimeout(() => s.close(), 50) })
      s.on('error', () => undefined)`
    netns.run(process.execPath, '-e', send)
    const [mapped] = listFlows(socket, 4, { protocol: 17, original: { dstPort: 5353 } })
    assert.ok(mapped)
    assert.deepEqual([mapped.original.dst, mapped.original.srcPort, mapped.reply.srcPort], ['127.0.0.1', 4000, 5454])
    const before = listFlows(socket, 4).length
    assert.equal(before, 3)
    assert.equal(deleteFlows(socket, 4, { protocol: 17, reply: { src: mapped.reply.src, srcPort: 5454 } }), 1)
    assert.equal(listFlows(socket, 4).length, 2)
    assert.equal(deleteFlows(socket, 4, { protocol: 6 }), 0)
    assert.equal(deleteFlows(socket, 6, {}), 0)
    assert.equal(listFlows(socket, 4).length, 2)
    assert.equal(deleteFlows(socket, 4, { original: { dstPort: 6000 } }), 1)
  })
})
