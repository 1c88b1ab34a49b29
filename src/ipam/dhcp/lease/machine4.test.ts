import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { formatIp, ipText, ipToBytes, parseIp } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import type { IpText } from '#ip/text.ts'
import { identityOf } from '../wire/identity.ts'
import { ANY4, MESSAGE4, type Message4, type MessageType4 } from '../wire/message4.ts'
import { OPTION4 } from '../wire/option4.ts'
import { discoverWait, renewWait } from './backoff.ts'
import { message4, release4, resume4, start4, timer4, type Client4, type State4, type Step4 } from './machine4.ts'

const client: Client4 = {
  mac: parseMac('02:00:00:00:00:05'),
  identity: identityOf('c1/net1/eth0'),
  requested: new Set([1, 3]),
  provided: new Map([[12, Buffer.from('web')]]),
  broadcast: false,
  resendMax: 62_000,
  random: () => 0.5,
}

const server = ipText('10.0.0.1')
const ip = (text: string): Uint8Array => ipToBytes(parseIp(text))
const seconds = (n: number): Uint8Array => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(n)
  return bytes
}

/** A server's answer to what the client sent last. */
function answer(
  state: State4,
  type: MessageType4,
  more: Record<number, Uint8Array> = {},
  yiaddr = '10.0.0.5',
): Message4 {
  const usual: [number, Uint8Array][] = [
    [OPTION4.serverId, ip(server)],
    [OPTION4.subnetMask, ip('255.255.255.0')],
    [OPTION4.router, ip(server)],
    [OPTION4.leaseTime, seconds(100)],
  ]
  const options = new Map([...usual, ...Object.entries(more).map(([code, value]) => [Number(code), value] as const)])
  return {
    op: 2,
    type,
    xid: state.xid,
    secs: 0,
    broadcast: false,
    ciaddr: ANY4,
    yiaddr: ipText(yiaddr),
    giaddr: ANY4,
    mac: client.mac,
    options,
  }
}

const doing = (step: Step4): string[] =>
  step.actions.map((action) =>
    action.do === 'send'
      ? `${action.message.type} to ${action.to}`
      : action.do === 'bound'
        ? action.how
        : action.do === 'lost'
          ? `lost: ${action.why}`
          : action.do,
  )

/** A bound client, its lease of 100 s counted from 0. */
function bound(more: Record<number, Uint8Array> = {}): State4 {
  const offered = message4(client, start4(client, 0).state, answer(start4(client, 0).state, 'offer', more), 0)
  return message4(client, offered.state, answer(offered.state, 'ack', more), 20).state
}

test('discover, request, bound: what is sent, and what of it a server sees', () => {
  const first = start4(client, 0)
  assert.deepEqual(doing(first), ['discover to broadcast'])
  const [send] = first.actions
  assert.ok(send?.do === 'send')
  assert.deepEqual([...(send.message.options.get(55) ?? [])], [1, 3])
  assert.equal(Buffer.from(send.message.options.get(12) ?? []).toString(), 'web')
  assert.equal(send.message.broadcast, false)
  const second = message4(client, first.state, answer(first.state, 'offer'), 5)
  assert.deepEqual(doing(second), ['intend', 'request to broadcast'])
  const third = message4(client, second.state, answer(second.state, 'ack'), 10)
  assert.deepEqual(doing(third), ['new'])
  assert.deepEqual(third.state.lease && { ...third.state.lease, routes: [] }, {
    address: '10.0.0.5',
    length: 24,
    server: '10.0.0.1',
    router: '10.0.0.1',
    routes: [],
    dns: {},
    // A little early: 5 % at most, here the middle.
    renewAt: 5 + 50_000 * 0.975,
    rebindAt: 5 + 87_500,
    expiresAt: 5 + 100_000,
  })
})

test('nothing but our own answers moves it', () => {
  const { state } = start4(client, 0)
  const offer = answer(state, 'offer')
  const others: Message4[] = [
    { ...offer, xid: state.xid + 1 },
    { ...offer, op: 1 },
    { ...offer, mac: parseMac('02:00:00:00:00:06') },
    { ...offer, type: 'ack' },
    { ...offer, type: 'nak' },
  ]
  for (const other of others) assert.equal(message4(client, state, other, 1).state, state)
  const unusable: Record<string, Message4> = {
    'server identifier': answer(state, 'offer', { [OPTION4.serverId]: ip('0.0.0.0') }),
    'subnet mask': answer(state, 'offer', { [OPTION4.subnetMask]: ip('255.0.255.0') }),
    'no host can have': answer(state, 'offer', {}, '127.0.0.1'),
    'option 121': answer(state, 'offer', { 121: Uint8Array.of(99) }),
  }
  for (const [word, message] of Object.entries(unusable)) {
    const step = message4(client, state, message, 1)
    assert.equal(step.actions.length, 0)
    assert.match(step.state.problem ?? '', new RegExp(word))
  }
})

test('T1: unicast to its server; T2: to everybody; the end: the address is lost, and asked for by name', () => {
  let state = bound()
  assert.deepEqual(doing(timer4(client, state, 1000)), [])
  let step = timer4(client, state, 48_751)
  assert.deepEqual(doing(step), ['request to 10.0.0.1'])
  assert.ok(step.actions[0]?.do === 'send' && step.actions[0].message.ciaddr === '10.0.0.5')
  // A minute at least, but never beyond T2.
  assert.equal(step.state.wakeAt, 87_500)
  state = step.state
  step = timer4(client, state, 87_500)
  assert.deepEqual(doing(step), ['request to broadcast'])
  assert.notEqual(step.state.phase, state.phase)
  assert.equal(step.state.wakeAt, 100_000)
  step = timer4(client, step.state, 100_000)
  assert.deepEqual(doing(step), ['lost: expired', 'discover to broadcast'])
  const discover = step.actions[1]
  assert.ok(discover?.do === 'send')
  assert.deepEqual([...(discover.message.options.get(50) ?? [])], [10, 0, 0, 5])
  assert.equal(step.state.lease, undefined)
})

test('an answer while renewing or rebinding begins the lease anew; only rebinding takes it from another server', () => {
  const renewing = timer4(client, bound(), 48_751).state
  const stranger = answer(renewing, 'ack', { [OPTION4.serverId]: ip('10.0.0.9') })
  assert.deepEqual(doing(message4(client, renewing, stranger, 48_800)), [])
  const renewed = message4(client, renewing, answer(renewing, 'ack'), 48_800)
  assert.deepEqual(doing(renewed), ['renewed'])
  assert.equal(renewed.state.lease?.expiresAt, 48_751 + 100_000)
  const rebinding = timer4(client, renewing, 87_500).state
  const other = answer(rebinding, 'ack', { [OPTION4.serverId]: ip('10.0.0.9') })
  assert.deepEqual(doing(message4(client, rebinding, other, 87_600)), ['rebound'])
})

test('a refusal: at once without the address; the next ones slow it down', () => {
  const renewing = timer4(client, bound(), 48_751).state
  const forged = answer(renewing, 'nak', { [OPTION4.serverId]: ip('10.0.0.9') })
  assert.deepEqual(doing(message4(client, renewing, forged, 48_800)), [])
  let step = message4(client, renewing, answer(renewing, 'nak', { 56: Buffer.from('no\nway') }), 48_800)
  assert.deepEqual(doing(step), ['lost: nak'])
  assert.equal(step.state.wakeAt, 48_800)
  assert.match(step.state.problem ?? '', /refuses 10\.0\.0\.5: noway/)
  const waits: number[] = []
  let now = 48_800
  for (let i = 0; i < 6; i++) {
    now = step.state.wakeAt ?? 0
    step = timer4(client, step.state, now)
    assert.deepEqual(doing(step), ['discover to broadcast'])
    step = message4(client, step.state, answer(step.state, 'offer'), now)
    step = message4(client, step.state, answer(step.state, 'nak'), now)
    waits.push((step.state.wakeAt ?? 0) - now)
  }
  assert.deepEqual(waits, [1000, 2000, 2000, 4000, 8000, 16_000])
})

test('an offer that is never acknowledged is dropped after four requests', () => {
  let step = start4(client, 0)
  step = message4(client, step.state, answer(step.state, 'offer'), 0)
  const sent: string[] = doing(step)
  for (let i = 0; i < 4; i++) {
    step = timer4(client, step.state, step.state.wakeAt ?? 0)
    sent.push(...doing(step))
  }
  assert.deepEqual(sent, ['intend', ...Array<string>(4).fill('request to broadcast'), 'discover to broadcast'])
})

test('times of a lease: the server’s where they make sense, an hour where it says nothing, for ever where it says so', () => {
  const times = (more: Record<number, Uint8Array>): (number | undefined)[] => {
    const { lease } = bound(more)
    return [lease?.renewAt, lease?.rebindAt, lease?.expiresAt]
  }
  assert.deepEqual(times({ 58: seconds(10), 59: seconds(20) }), [9750, 20_000, 100_000])
  assert.deepEqual(times({ 58: seconds(90), 59: seconds(20) }), [48_750, 87_500, 100_000])
  assert.deepEqual(times({ 51: new Uint8Array(0) }), [1_755_000, 3_150_000, 3_600_000])
  assert.deepEqual(times({ 51: seconds(0xffff_ffff) }), [undefined, undefined, undefined])
  assert.deepEqual(times({ 51: seconds(0) }), [975, 1750, 2000])
})

test('a lease from before goes on where it is: nothing before T1, the next thing after it', () => {
  const { lease } = bound()
  assert.ok(lease !== undefined)
  assert.deepEqual(doing(resume4(client, lease, 1000)), [])
  assert.deepEqual(doing(resume4(client, lease, 60_000)), ['request to 10.0.0.1'])
  assert.deepEqual(doing(resume4(client, lease, 90_000)), ['request to broadcast'])
  assert.deepEqual(doing(resume4(client, lease, 200_000)), ['lost: expired', 'discover to broadcast'])
})

test('waits: four quick ones, then doubling to the limit, within their jitter', () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100].map((attempt) => discoverWait(attempt, () => 0.5)),
    [500, 1000, 2000, 2000, 4000, 8000, 16_000, 32_000, 62_000, 62_000, 62_000],
  )
  fc.assert(
    fc.property(
      fc.nat(50),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      fc.integer({ min: 500, max: 100_000 }),
      (attempt, r, max) => {
        const wait = discoverWait(attempt, () => r, max)
        const middle = discoverWait(attempt, () => 0.5, max)
        assert.ok(wait > 0 && Math.abs(wait - middle) <= Math.min(1000, middle / 4) + 1)
      },
    ),
  )
  assert.deepEqual([400_000, 120_000, 90_000, 30_000, -5].map(renewWait), [200_000, 60_000, 60_000, 30_000, 0])
})

test('whatever comes whenever: it never sleeps for ever without a lease for ever, and never holds a lease that is over', () => {
  const event = fc.record({
    wait: fc.nat(200_000),
    type: fc.constantFrom(...(Object.keys(MESSAGE4) as MessageType4[]), 'timer' as const),
    who: fc.constantFrom('10.0.0.1', '10.0.0.9', '0.0.0.0'),
    address: fc.constantFrom('10.0.0.5', '10.0.0.6', '255.255.255.255'),
    lease: fc.constantFrom(0, 5, 100, 0xffff_ffff),
  })
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      let now = 0
      let held: IpText | undefined
      let step = start4(client, now)
      for (const { wait, type, who, address, lease } of events) {
        // Timers come in time, as the runner sees to.
        const until = now + wait
        for (let i = 0; i < 50 && step.state.wakeAt !== undefined && step.state.wakeAt <= until; i++) {
          now = Math.max(now, step.state.wakeAt)
          step = timer4(client, step.state, now)
          for (const action of step.actions) if (action.do === 'lost') held = undefined
        }
        now = until
        if (type !== 'timer') {
          step = message4(
            client,
            step.state,
            answer(step.state, type, { 54: ip(who), 51: seconds(lease) }, address),
            now,
          )
          for (const action of step.actions) {
            if (action.do === 'bound') held = action.lease.address
            if (action.do === 'lost') held = undefined
          }
        }
        assert.equal(step.state.lease?.address, held)
        if (step.state.wakeAt === undefined) assert.equal(step.state.lease?.expiresAt, undefined)
      }
    }),
    { numRuns: 300 },
  )
})

test('a release names address, server and client, and nothing else', () => {
  const message = release4(client, ipText('10.0.0.5'), server, 0)
  assert.equal(message.type, 'release')
  assert.equal(message.ciaddr, '10.0.0.5')
  assert.deepEqual([...message.options.keys()], [61, 54])
  const own = { ...client, provided: new Map([[61, Buffer.from('mine')]]) }
  assert.equal(Buffer.from(release4(own, server, server, 0).options.get(61) ?? []).toString(), 'mine')
  assert.equal(formatIp(parseIp(server)), '10.0.0.1')
})
