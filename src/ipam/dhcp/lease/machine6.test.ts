import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { ipText } from '#ip/address.ts'
import { identityOf } from '../wire/identity.ts'
import type { IaAddress, Message6, MessageType6 } from '../wire/message6.ts'
import { RETRANSMIT, retransmitWait } from './backoff.ts'
import { message6, release6, resume6, start6, timer6, type Client6, type State6, type Step6 } from './machine6.ts'

const client: Client6 = { identity: identityOf('c1/net1/eth0'), rapidCommit: false, random: () => 0.5 }
const A = Uint8Array.of(0, 1, 0xa)
const B = Uint8Array.of(0, 1, 0xb)

const given: IaAddress = { address: ipText('fd00::5'), preferred: 100, valid: 200 }

function answer(
  state: State6,
  type: MessageType6,
  more: Partial<Message6> = {},
  addresses = [given],
  code?: number,
): Message6 {
  const status = code === undefined ? {} : { status: { code, message: '' } }
  return {
    type,
    xid: state.xid,
    clientId: client.identity.duid,
    serverId: A,
    ias: [{ iaid: client.identity.iaid, t1: 0, t2: 0, addresses, ...status }],
    options: new Map(),
    ...more,
  }
}

const doing = (step: Step6): string[] =>
  step.actions.map((action) => {
    if (action.do === 'send')
      return `${action.message.type}${action.message.serverId === undefined ? '' : ` to ${Buffer.from(action.message.serverId).toString('hex')}`}`
    return action.do === 'bound' ? action.how : action.do === 'lost' ? `lost: ${action.why}` : action.do
  })

function bound(): State6 {
  let step = start6(client, 0)
  step = message6(client, step.state, answer(step.state, 'advertise', { preference: 255 }), 10)
  return message6(client, step.state, answer(step.state, 'reply'), 20).state
}

test('the best advertisement of the first second is taken; 255 ends the waiting', () => {
  let step = start6(client, 0)
  assert.deepEqual(doing(step), ['solicit'])
  assert.equal(step.state.wakeAt, 1050, 'never shorter than a second, and spread')
  step = message6(client, step.state, answer(step.state, 'advertise'), 10)
  assert.deepEqual(doing(step), [])
  step = message6(client, step.state, answer(step.state, 'advertise', { serverId: B, preference: 7 }), 20)
  step = message6(client, step.state, answer(step.state, 'advertise', { preference: 3 }), 30)
  const chosen = timer6(client, step.state, 1050)
  assert.deepEqual(doing(chosen), ['intend', 'request to 00010b'])
  const first = message6(client, step.state, answer(step.state, 'advertise', { preference: 255 }), 40)
  assert.deepEqual(doing(first), ['intend', 'request to 00010a'])
})

test('a later advertisement is taken at once; waits double', () => {
  let step = start6(client, 0)
  const waits: number[] = []
  for (let i = 0; i < 4; i++) {
    const now = step.state.wakeAt ?? 0
    step = timer6(client, step.state, now)
    waits.push((step.state.wakeAt ?? 0) - now)
  }
  assert.deepEqual(waits, [2100, 4200, 8400, 16_800])
  assert.deepEqual(doing(message6(client, step.state, answer(step.state, 'advertise'), 20_000)), [
    'intend',
    'request to 00010a',
  ])
})

test('rapid commit: only where both want it', () => {
  const quick = { ...client, rapidCommit: true }
  const { state } = start6(quick, 0)
  assert.deepEqual(doing(message6(quick, state, answer(state, 'reply', { rapidCommit: true }), 5)), ['new'])
  assert.deepEqual(doing(message6(quick, state, answer(state, 'reply'), 5)), [])
  const slow = start6(client, 0).state
  assert.deepEqual(doing(message6(client, slow, answer(slow, 'reply', { rapidCommit: true }), 5)), [])
})

test('nothing but our own answers moves it', () => {
  const { state } = start6(client, 0)
  const good = answer(state, 'advertise')
  const { serverId: _, ...nameless } = good
  const { clientId: __, ...unaddressed } = good
  const others: Message6[] = [
    { ...good, xid: state.xid + 1 },
    { ...good, clientId: B },
    nameless,
    unaddressed,
    { ...good, type: 'reply' },
    { ...good, type: 'solicit' },
  ]
  for (const other of others) assert.equal(message6(client, state, other, 1).state, state)
  const none = message6(client, state, answer(state, 'advertise', {}, [], 2), 1)
  assert.equal(none.state.offer, undefined)
  assert.match(none.state.problem ?? '', /status 2/)
})

test('T1, T2 and the end, from the preferred and valid lifetimes', () => {
  const state = bound()
  assert.deepEqual(
    [state.lease?.renewAt, state.lease?.rebindAt, state.lease?.expiresAt],
    [10 + 48_750, 10 + 80_000, 10 + 200_000],
  )
  let step = timer6(client, state, 48_760)
  assert.deepEqual(doing(step), ['renew to 00010a'])
  step = timer6(client, step.state, 80_010)
  assert.deepEqual(doing(step), ['rebind'])
  const rebound = message6(client, step.state, answer(step.state, 'reply', { serverId: B }), 80_100)
  assert.deepEqual(doing(rebound), ['rebound'])
  assert.equal(rebound.state.lease?.server, '00010b')
  step = timer6(client, step.state, 200_010)
  assert.deepEqual(doing(step), ['lost: expired', 'solicit'])
})

test('a server that has forgotten us is asked again; one that takes the address back is believed', () => {
  const renewing = timer6(client, bound(), 48_760).state
  const forgotten = message6(client, renewing, answer(renewing, 'reply', {}, [], 3), 48_800)
  assert.deepEqual(doing(forgotten), ['intend', 'request to 00010a'])
  assert.equal(forgotten.state.lease?.addresses[0], 'fd00::5')
  const back = message6(client, renewing, answer(renewing, 'reply', {}, [{ ...given, preferred: 0, valid: 0 }]), 48_800)
  assert.deepEqual(doing(back), ['lost: withdrawn', 'solicit'])
  const refused = message6(client, forgotten.state, answer(forgotten.state, 'reply', {}, [], 4), 48_900)
  assert.deepEqual(doing(refused), ['lost: withdrawn', 'solicit'])
  const silent = message6(client, renewing, answer(renewing, 'reply', {}, [], 1), 48_800)
  assert.deepEqual([doing(silent), silent.state.phase], [[], 'renewing'])
})

test('a refused request is asked again later, not at once', () => {
  let step = start6(client, 0)
  step = message6(client, step.state, answer(step.state, 'advertise', { preference: 255 }), 10)
  step = message6(client, step.state, answer(step.state, 'reply', {}, [], 2), 20)
  assert.deepEqual(doing(step), [])
  assert.deepEqual([step.state.phase, step.state.wakeAt], ['soliciting', 20 + 1050])
  assert.deepEqual(doing(timer6(client, step.state, 1070)), ['solicit'])
})

test('a lease from before goes on; one for ever sleeps for ever', () => {
  const { lease } = bound()
  assert.ok(lease !== undefined)
  assert.deepEqual(doing(resume6(client, lease, 100)), [])
  assert.deepEqual(doing(resume6(client, lease, 90_000)), ['rebind'])
  const { renewAt: _, rebindAt: __, expiresAt: ___, ...forever } = lease
  assert.equal(resume6(client, forever, 100).state.wakeAt, undefined)
  const { ias, type } = release6(client, lease, 0)
  assert.deepEqual([type, ias[0]?.addresses[0]?.address], ['release', 'fd00::5'])
})

test('waits of RFC 8415: within a tenth, never beyond the longest and its tenth', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.values(RETRANSMIT)),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (rule, r) => {
        let wait: number | undefined
        for (let i = 0; i < 40; i++) {
          wait = retransmitWait(rule, wait, () => r)
          assert.ok(wait >= rule.initial * 0.9 && wait <= rule.max * 1.1)
        }
        assert.ok(retransmitWait(rule, undefined, () => r, true) >= rule.initial)
      },
    ),
  )
})
