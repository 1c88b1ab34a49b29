/** Traffic control, made by us and read by tc, made by tc and read by us. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cidrText } from '#ip/prefix.ts'
import { createLink, getLink } from '#netlink/link.ts'
import { addQdiscMessage, deleteQdiscMessage, describeQdisc, listQdiscs, type Qdisc } from '#netlink/qdisc.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { handleOf, holds } from '#netlink/tc.ts'
import { addHtbClassMessage, listHtbClasses } from '#netlink/tc-class.ts'
import { addFilterMessage, listFilters, type Filter } from '#netlink/tc-filter.ts'
import { needsRoot, TestNetns } from '../namespace.ts'

const skip = needsRoot

/** A device that is up; its index. */
function device(socket: NetlinkSocket): number {
  createLink(socket, { name: 'ifb7', up: true, info: { kind: 'ifb' } })
  return getLink(socket, 'ifb7').index
}

const tbfs: readonly (readonly [Omit<Extract<Qdisc, { kind: 'tbf' }>, 'kind'>, readonly string[]])[] = [
  [{ rate: 125_000, burst: 10_240, limit: 13_365 }, ['rate', '1mbit', 'burst', '10240', 'limit', '13365']],
  [{ rate: 1, burst: 1600, limit: 3000 }, ['rate', '8bit', 'burst', '1600', 'limit', '3000']],
  // From 2^32 bytes per second on the kernel has an attribute of its own.
  [{ rate: 12_500_000_000, burst: 1 << 20, limit: 1 << 21 }, ['rate', '100gbit', 'burst', '1mb', 'limit', '2mb']],
]

test('tbf: what tc shows of ours is what it shows of its own, and we read both alike', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const index = device(socket)
  const shown = (): string => netns.run('tc', '-d', 'qdisc', 'show', 'dev', 'ifb7')
  for (const [settings, words] of tbfs) {
    socket.request(addQdiscMessage(index, { kind: 'tbf', ...settings }))
    const ours = shown()
    const [seen] = listQdiscs(socket, index)
    socket.request(deleteQdiscMessage(index, 'tbf'))
    netns.run('tc', 'qdisc', 'add', 'dev', 'ifb7', 'root', 'handle', '1:', 'tbf', ...words)
    assert.equal(ours, shown())
    const [theirs] = listQdiscs(socket, index)
    netns.run('tc', 'qdisc', 'del', 'dev', 'ifb7', 'root')
    assert.deepEqual(seen, theirs)
    assert.ok(seen?.info.kind === 'tbf' && theirs?.info.kind === 'tbf')
    const { rate, ticks, limit } = seen.info
    assert.deepEqual({ rate, limit }, { rate: settings.rate, limit: settings.limit })
    assert.ok(holds(ticks, settings.burst, settings.rate), `${ticks}`)
    assert.ok(!holds(ticks, settings.burst * 1.1 + 64, settings.rate), `${ticks}`)
    assert.equal(describeQdisc(seen), 'tbf 1:')
  }
})

test('a bucket of more seconds than the kernel’s ticks can count', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const index = device(socket)
  // The burst that Kubernetes runtimes give, at the least rate that they take.
  const [rate, burst] = [125, 0xffff_ffff >>> 3]
  socket.request(addQdiscMessage(index, { kind: 'tbf', rate, burst, limit: 0xffff_ffff }))
  const [seen] = listQdiscs(socket, index)
  assert.ok(seen?.info.kind === 'tbf')
  assert.equal(seen.info.rate, rate)
  assert.ok(holds(seen.info.ticks, burst, rate))
})

test('only the kind that is named is deleted', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const index = device(socket)
  const fail = (kind: Qdisc['kind'], code: string) =>
    assert.throws(() => socket.request(deleteQdiscMessage(index, kind)), { code })
  socket.request(addQdiscMessage(index, { kind: 'tbf', rate: 1000, burst: 2000, limit: 4000 }))
  socket.request(deleteQdiscMessage(index, 'tbf'))
  // The device has the kernel's own again, with another handle.
  fail('tbf', 'EINVAL')
  netns.run('tc', 'qdisc', 'add', 'dev', 'ifb7', 'root', 'handle', '1:', 'htb')
  fail('tbf', 'EINVAL')
  fail('ingress', 'ENOENT')
  assert.throws(() => socket.request(addQdiscMessage(index, { kind: 'htb', defaultClass: 1 })), { code: 'EEXIST' })
  socket.request(deleteQdiscMessage(index, 'htb'))
  assert.doesNotMatch(netns.run('tc', 'qdisc', 'show', 'dev', 'ifb7'), /htb/)
})

const NETWORKS: readonly (readonly [string, string, string])[] = [
  ['10.0.0.0/8', 'ip', 'match ip dst 10.0.0.0/8'],
  ['192.0.2.7/32', 'ip', 'match ip dst 192.0.2.7/32'],
  ['10.1.2.128/25', 'ip', 'match ip dst 10.1.2.128/25'],
  ['fd00::/12', 'ipv6', 'match ip6 dst fd00::/12'],
  ['2001:db8:1:2::/64', 'ipv6', 'match ip6 dst 2001:db8:1:2::/64'],
  ['2001:db8::1/128', 'ipv6', 'match ip6 dst 2001:db8::1/128'],
]

test('htb with classes, and filters by network', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const index = device(socket)
  const filters = NETWORKS.map(([network]) => ({
    class: handleOf(1, 1),
    end: 'destination' as const,
    network: cidrText(network),
  }))
  const show = () =>
    ['qdisc', 'class', 'filter']
      .map((object) => netns.run('tc', '-d', object, 'show', 'dev', 'ifb7'))
      .join('')
      .replaceAll(/fh \S+|key ht \S+|order \d+/g, '')
  for (const message of [
    addQdiscMessage(index, { kind: 'htb', defaultClass: 0x30 }),
    addHtbClassMessage(index, { minor: 0x30, rate: 125_000, burst: 20_480 }),
    addHtbClassMessage(index, { minor: 1, rate: 100_000_000_000, burst: 100_000_000 }),
    ...filters.map((filter) => addFilterMessage(index, handleOf(1), filter)),
  ])
    socket.request(message)
  const ours = show()
  const read = (): unknown => [
    listQdiscs(socket, index),
    listHtbClasses(socket, index),
    listFilters(socket, index, handleOf(1)),
  ]
  const seen = read()
  socket.request(deleteQdiscMessage(index, 'htb'))
  const tc = (...args: readonly string[]) => netns.run('tc', ...args)
  tc('qdisc', 'add', 'dev', 'ifb7', 'root', 'handle', '1:', 'htb', 'default', '30')
  const child = ['class', 'add', 'dev', 'ifb7', 'parent', '1:', 'classid']
  tc(...child, '1:30', 'htb', 'rate', '1mbit', 'burst', '20480', 'cburst', '20480')
  tc(...child, '1:1', 'htb', 'rate', '800gbit', 'burst', '100000000', 'cburst', '100000000', 'quantum', '200000')
  for (const [, protocol, match] of NETWORKS) {
    const where = ['dev', 'ifb7', 'parent', '1:', 'protocol', protocol, 'prio', protocol === 'ip' ? '16' : '15']
    tc('filter', 'add', ...where, 'u32', ...match.split(' '), 'flowid', '1:1')
  }
  // tc marks a class as terminal in its own way; the flag says the same.
  assert.equal(ours.replaceAll(/ terminal|\*/g, ''), show().replaceAll(/ terminal|\*/g, ''))
  assert.deepEqual(seen, read())
  const listed = listFilters(socket, index, handleOf(1))
  for (const filter of filters) assert.ok(listed.some((one) => JSON.stringify(one) === JSON.stringify(filter)))
  assert.equal(listed.length, filters.length)
})

test('filters tell source from destination, and know the whole world', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const index = device(socket)
  const wanted = ['10.0.0.0/8', '0.0.0.0/0', 'fd00::/33', '::/0'].flatMap((network) =>
    (['source', 'destination'] as const).map((end): Filter => ({
      class: handleOf(1, 7),
      end,
      network: cidrText(network),
    })),
  )
  socket.request(addQdiscMessage(index, { kind: 'htb', defaultClass: 0 }))
  socket.request(addHtbClassMessage(index, { minor: 7, rate: 1000, burst: 2000 }))
  for (const filter of wanted) socket.request(addFilterMessage(index, handleOf(1), filter))
  const order = (filters: readonly unknown[]): readonly string[] => filters.map((one) => JSON.stringify(one)).sort()
  assert.deepEqual(order(listFilters(socket, index, handleOf(1))), order(wanted))
  assert.match(netns.run('tc', 'filter', 'show', 'dev', 'ifb7'), /match 0a000000\/ff000000 at 12/)
})

test('received packets to another device', { skip }, () => {
  using netns = new TestNetns('hdla-tc')
  using socket = NetlinkSocket.open({ netns: netns.path })
  const to = device(socket)
  netns.run('ip', 'link', 'add', 'x0', 'type', 'veth', 'peer', 'name', 'x1')
  const { index } = getLink(socket, 'x0')
  const show = () =>
    ['qdisc', 'filter']
      .map((object) => netns.run('tc', '-d', object, 'show', 'dev', 'x0', ...(object === 'filter' ? ['ingress'] : [])))
      .join('')
      .replaceAll(/index \d+/g, '')
  socket.request(addQdiscMessage(index, { kind: 'ingress' }))
  socket.request(addFilterMessage(index, handleOf(0xffff), { redirect: to }))
  const ours = show()
  assert.deepEqual(listFilters(socket, index, handleOf(0xffff)), [{ redirect: to }])
  socket.request(deleteQdiscMessage(index, 'ingress'))
  netns.run('tc', 'qdisc', 'add', 'dev', 'x0', 'handle', 'ffff:', 'ingress')
  const add = (priority: string, what: string): string => {
    const where = ['dev', 'x0', 'parent', 'ffff:', 'protocol', 'all', 'prio', priority]
    const action = ['action', 'mirred', 'egress', what, 'dev', 'ifb7']
    return netns.run('tc', 'filter', 'add', ...where, 'u32', 'match', 'u32', '0', '0', ...action)
  }
  add('1', 'redirect')
  assert.equal(ours, show())
  assert.deepEqual(listFilters(socket, index, handleOf(0xffff)), [{ redirect: to }])
  add('2', 'mirror')
  assert.deepEqual(listFilters(socket, index, handleOf(0xffff)), [{ redirect: to }, 'other'])
})
