/** The socket itself: batches, broken conversations, slow requests, events. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatIp, ip4, ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText, ipNetText } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { addAddr, addrMessage } from '#netlink/addr.ts'
import { fdbMessage, listFdb } from '#netlink/fdb.ts'
import {
  createLink,
  createLinkMessage,
  deleteLink,
  deleteLinkMessage,
  getLink,
  listLinks,
  setLinkMessage,
} from '#netlink/link.ts'
import type { Message } from '#netlink/message.ts'
import { NetlinkMonitor, type NetlinkEvent } from '#netlink/monitor.ts'
import { listNeighs, neighMessage } from '#netlink/neigh.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import type { Sys } from '#sys/sys.ts'
import { needsRoot, TestNetns } from '../namespace.ts'

const options = { skip: needsRoot }
const MAC = parseMac('02:00:00:00:00:01')

/** A namespace with one device that is up, and a socket in it. */
function setup(): { netns: TestNetns; socket: NetlinkSocket; oif: number } & Disposable {
  const netns = new TestNetns('netlink')
  const socket = NetlinkSocket.open({ netns: netns.path })
  createLink(socket, {
    name: 'd0',
    up: true,
    info: { kind: 'vxlan', data: { id: 1, port: 8472, local: ipText('10.0.0.1') } },
  })
  const oif = getLink(socket, 'd0').index
  // Without any address there is no local table, and the kernel takes every gateway for a broadcast address.
  addAddr(socket, { index: oif, address: ipNetText('10.99.0.1/32') })
  return {
    netns,
    socket,
    oif,
    [Symbol.dispose]() {
      socket[Symbol.dispose]()
      netns[Symbol.dispose]()
    },
  }
}

const prefix = (n: number): CidrText => cidrText(`${formatIp(ip4(0x1400_0000 + n * 256))}/24`)
const address = (n: number) => formatIp(ip4(0x1400_0000 + n * 256))

test('a batch: mixed messages, each with its own result', options, () => {
  using at = setup()
  const results = at.socket.batch([
    neighMessage('replace', { index: at.oif, ip: address(1), mac: MAC }),
    fdbMessage('replace', { index: at.oif, mac: MAC, dst: ipText('10.0.0.2') }),
    routeMessage('replace', { dst: prefix(1), gateway: address(1), oif: at.oif, onlink: true }),
    routeMessage('delete', { dst: prefix(2) }),
    routeMessage('add', { dst: 'nonsense' as CidrText, oif: at.oif }),
    routeMessage('add', { dst: prefix(1), gateway: address(1), oif: at.oif, onlink: true }),
    routeMessage('add', { dst: prefix(3), gateway: address(3), oif: at.oif, onlink: true }),
  ])
  assert.deepEqual(
    results.map((result) => result?.code),
    [undefined, undefined, undefined, 'ESRCH', 'EINVAL', 'EEXIST', undefined],
  )
  assert.match(results[4]?.message ?? '', /nonsense/)
  assert.deepEqual(
    listRoutes(at.socket, { family: 4, table: 254 }).map((route) => route.dst),
    [prefix(1), prefix(3)],
  )
  assert.deepEqual(at.socket.batch([]), [])
  const allBad = at.socket.batch([routeMessage('add', { dst: 'x' as CidrText })])
  assert.equal(allBad[0]?.code, 'EINVAL')
})

test('ten thousand entries, and as many errors: every result arrives', options, () => {
  using at = setup()
  const count = 4000
  const messages: Message[] = []
  for (let n = 0; n < count; n++) {
    messages.push(
      neighMessage('replace', { index: at.oif, ip: address(n), mac: MAC }),
      routeMessage('add', { dst: prefix(n), gateway: address(n), oif: at.oif, onlink: true, protocol: 72 }),
    )
  }
  assert.ok(at.socket.batch(messages).every((result) => result === undefined))
  assert.equal(listRoutes(at.socket, { protocol: 72 }).length, count)
  assert.equal(listNeighs(at.socket, { index: at.oif, family: 4 }).filter((n) => n.mac === MAC).length, count)

  const again = at.socket.batch(messages.filter((_, i) => i % 2 === 1))
  assert.ok(again.every((result) => result?.code === 'EEXIST'))
  assert.equal(again.length, count)
  const gone = Array.from({ length: count }, (_, n) => routeMessage('delete', { dst: prefix(n), oif: at.oif }))
  assert.ok(at.socket.batch(gone).every((result) => result === undefined))
  assert.ok(
    at.socket.batch(gone).every((result) => result?.code === 'ESRCH' && result.op.startsWith('route delete 20.')),
  )
})

test(
  'after an error and after a timeout the socket goes on, and old answers are not taken for new ones',
  options,
  () => {
    using netns = new TestNetns('netlink')
    const real = nativeSys()
    let mute = false
    // A kernel that does not answer: the receive that should bring the answer times out, and the answer comes late.
    const sys: Sys = { ...real, recv: (fd, buffer, flags) => (mute ? -11 : real.recv(fd, buffer, flags)) }
    using socket = NetlinkSocket.open({ netns: netns.path, timeoutMs: 200, sys })
    mute = true
    assert.throws(() => getLink(socket, 'lo'), { code: 'ETIMEDOUT' })
    mute = false
    assert.throws(() => getLink(socket, 'nope'), { code: 'ENODEV' })
    assert.equal(getLink(socket, 'lo').name, 'lo')
    assert.equal(listLinks(socket).length, 1)
  },
)

test('a batch in turns lets the event loop live, and other requests between', options, async () => {
  using at = setup()
  const messages = Array.from({ length: 1000 }, (_, n) => routeMessage('add', { dst: prefix(n % 999), oif: at.oif }))
  let ticks = 0
  const ticker = setInterval(() => {
    ticks++
    assert.equal(getLink(at.socket, 'd0').index, at.oif)
  }, 0)
  const results = await at.socket.batchInTurns(messages)
  clearInterval(ticker)
  assert.deepEqual(results.map((result) => result?.code).filter(Boolean), ['EEXIST'])
  assert.equal(results[999]?.code, 'EEXIST')
  assert.ok(ticks > 0)
})

test('a real timeout ends a wait that nobody answers', options, () => {
  using netns = new TestNetns('netlink')
  using socket = NetlinkSocket.open({ netns: netns.path, timeoutMs: 100 })
  const started = performance.now()
  // NLMSG_NOOP is not answered unless an acknowledgement is asked for.
  assert.throws(() => socket.get({ op: () => 'noop', type: 1, flags: 0, write: () => undefined }, () => 1), {
    code: 'ETIMEDOUT',
  })
  const took = performance.now() - started
  assert.ok(took >= 90 && took < 2000, `${took} ms`)
})

test('a listing that changes while it is read is read again', options, () => {
  using netns = new TestNetns('netlink')
  const real = nativeSys()
  let disturbed = 0
  const sys: Sys = {
    ...real,
    recv(fd, buffer, flags) {
      const length = real.recv(fd, buffer, flags)
      // NLM_F_DUMP_INTR, as the kernel sets it in the first reading.
      if (length > 0 && disturbed++ === 0) buffer[6] = (buffer[6] ?? 0) | 0x10
      return length
    },
  }
  using socket = NetlinkSocket.open({ netns: netns.path, sys })
  assert.deepEqual(
    listLinks(socket).map((link) => link.name),
    ['lo'],
  )
  assert.ok(disturbed >= 4, 'two readings, each of data and end')

  const always: Sys = {
    ...real,
    recv(fd, buffer, flags) {
      const length = real.recv(fd, buffer, flags)
      if (length > 0) buffer[6] = (buffer[6] ?? 0) | 0x10
      return length
    },
  }
  using unlucky = NetlinkSocket.open({ netns: netns.path, sys: always })
  assert.throws(() => listLinks(unlucky), { code: 'EINTR', message: /changed during each of 16/ })
})

test('answers longer than the buffer are asked for again with a larger one', options, () => {
  using at = setup()
  const real = nativeSys()
  let asked = 0
  const sys: Sys = {
    ...real,
    recv(fd, buffer, flags) {
      // As if the buffer were 256 bytes the first time.
      asked++
      return asked === 1 ? real.recv(fd, buffer.subarray(0, 256), flags) + buffer.length : real.recv(fd, buffer, flags)
    },
  }
  using socket = NetlinkSocket.open({ netns: at.netns.path, sys })
  assert.equal(getLink(socket, 'd0').name, 'd0')
  asked = 0
  using another = NetlinkSocket.open({ netns: at.netns.path, sys })
  assert.equal(listLinks(another).length, 2)
  assert.ok(asked > 3, 'the listing was read twice')
})

test('slow requests run beside the event loop, many at once', options, async () => {
  using at = setup()
  const count = 8
  for (let i = 0; i < count; i++)
    createLink(at.socket, { name: `v${i}`, up: true, info: { kind: 'veth', data: { peer: { name: `w${i}` } } } })
  let ticks = 0
  const ticker = setInterval(() => ticks++, 1)
  const deletions = Promise.all(Array.from({ length: count }, (_, i) => deleteLink(at.socket, `v${i}`)))
  // The same socket serves other requests meanwhile.
  assert.equal(getLink(at.socket, 'd0').index, at.oif)
  await deletions
  clearInterval(ticker)
  assert.ok(ticks > 2, `the event loop turned ${ticks} times`)
  assert.deepEqual(
    listLinks(at.socket).map((link) => link.name),
    ['lo', 'd0'],
  )
})

test('a sibling lives in the same namespace', options, () => {
  using at = setup()
  using sibling = at.socket.sibling()
  assert.equal(getLink(sibling, 'd0').index, at.oif)
})

/** Waits until the events satisfy a condition, with a deadline. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 3000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('the events did not come')
    await new Promise((resolve) => void setTimeout(resolve, 2))
  }
}

test('a monitor tells of every kind of change, made by anyone', options, async () => {
  using at = setup()
  const events: NetlinkEvent[] = []
  using _monitor = new NetlinkMonitor({
    netns: at.netns.path,
    groups: ['link', 'addr', 'route', 'rule', 'neigh'],
    onEvent: (event) => events.push(event),
    onError: assert.ifError,
  })
  at.netns.run('ip', 'address', 'add', '10.0.0.1/24', 'dev', 'd0')
  at.netns.run('ip', 'route', 'add', '10.9.0.0/24', 'via', '10.0.0.9')
  at.netns.run('ip', 'neighbour', 'add', '10.0.0.9', 'lladdr', MAC, 'dev', 'd0')
  at.netns.run('bridge', 'fdb', 'add', MAC, 'dev', 'd0', 'dst', '10.0.0.7')
  at.netns.run('ip', 'rule', 'add', 'priority', '9', 'lookup', '100')
  at.netns.run('ip', 'link', 'delete', 'd0')
  await until(() => events.some((event) => event.kind === 'link' && event.change === 'delete'))
  const seen = (kind: string, change: string): boolean =>
    events.some((e) => e.kind === kind && 'change' in e && e.change === change)
  for (const kind of ['addr', 'route', 'neigh', 'fdb']) {
    assert.ok(seen(kind, 'new'), `${kind} new`)
    assert.ok(kind === 'route' || seen(kind, 'delete'), `${kind} delete`)
  }
  assert.ok(seen('rule', 'new'))
  const route = events.find((e) => e.kind === 'route' && e.route.dst === '10.9.0.0/24')
  assert.ok(route?.kind === 'route' && route.route.gateway === '10.0.0.9')
  const fdb = events.find((e) => e.kind === 'fdb' && e.fdb.mac === MAC)
  assert.ok(fdb?.kind === 'fdb' && fdb.fdb.dst === '10.0.0.7')
})

test('a monitor that falls behind says so, and goes on', options, async () => {
  using at = setup()
  const events: NetlinkEvent[] = []
  using _monitor = new NetlinkMonitor({
    netns: at.netns.path,
    groups: ['route', 'link'],
    bufferSize: 4096,
    onEvent: (event) => events.push(event),
    onError: assert.ifError,
  })
  // One synchronous batch: the monitor cannot read before it is done, and its buffer holds a few events only.
  at.socket.batch(Array.from({ length: 2000 }, (_, n) => routeMessage('add', { dst: prefix(n), oif: at.oif })))
  await until(() => events.some((event) => event.kind === 'overrun'))
  assert.ok(events.filter((event) => event.kind === 'route').length < 2000)
  await until(() => events.length > 0)
  events.length = 0
  at.socket.request(setLinkMessage('d0', { mtu: 1300 }))
  await until(() => events.some((event) => event.kind === 'link' && event.link.mtu === 1300))
})

test('a batch can make devices and what stands on them', options, () => {
  using at = setup()
  const results = at.socket.batch([
    createLinkMessage({ name: 'br0', index: 50, up: true, info: { kind: 'bridge' } }),
    addrMessage('add', { index: 50, address: ipNetText('10.7.0.1/24') }),
    routeMessage('add', { dst: cidrText('10.8.0.0/24'), gateway: ipText('10.7.0.2') }),
    deleteLinkMessage('nope'),
  ])
  assert.deepEqual(
    results.map((result) => result?.code),
    [undefined, undefined, undefined, 'ENODEV'],
  )
  addAddr(at.socket, { index: 50, address: ipNetText('10.7.0.3/24') })
  assert.equal(listRoutes(at.socket, { oif: 50, family: 4, table: 254 }).length, 2)
  assert.ok(listFdb(at.socket, { master: 50 }).length > 0)
})
