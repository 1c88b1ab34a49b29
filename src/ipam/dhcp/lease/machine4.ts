/**
 * The DHCPv4 client as a pure function: a state, what happens, and what is to be done about it. Source: RFC 2131 §4.4, figure 5.
 *
 *     selecting ──offer──▶ requesting ──ack──▶ bound ──T1──▶ renewing ──T2──▶ rebinding
 *         ▲                    │ nak            ▲ └──────────ack──────────────┘  │
 *         └────────────────────┴────────────────┴──────────nak, expired──────────┘
 */

import type { IpText, MacText } from '#ip/text.ts'
import type { Identity } from '../wire/identity.ts'
import { ANY4, type Message4, type MessageType4 } from '../wire/message4.ts'
import { ipToBytes, parseIp } from '#ip/address.ts'
import { hostAddressOf, OPTION4, textOf } from '../wire/option4.ts'
import { discoverWait, renewWait, type Random } from './backoff.ts'
import { leaseFrom, type Lease4 } from './lease4.ts'

export interface Client4 {
  readonly mac: MacText
  readonly identity: Identity
  /** Codes that are asked for (option 55). */
  readonly requested: ReadonlySet<number>
  /** Options that are told to the server, by code. */
  readonly provided: ReadonlyMap<number, Uint8Array>
  /** Ask the server to answer by broadcast. */
  readonly broadcast: boolean
  /** ms */
  readonly resendMax: number
  readonly random: Random
}

export type Phase4 = 'selecting' | 'requesting' | 'bound' | 'renewing' | 'rebinding' | 'pausing'

export interface State4 {
  readonly phase: Phase4
  readonly xid: number
  /** When the exchange began (ms): the message's `secs`. */
  readonly since: number
  /** Messages of this phase that were sent. */
  readonly attempt: number
  /** When to call `timer4`; absent: never. */
  readonly wakeAt?: number
  /** When the last REQUEST was sent. */
  readonly sentAt: number
  readonly offer?: { readonly address: IpText; readonly server: IpText }
  /** Held while bound, renewing or rebinding. */
  readonly lease?: Lease4
  /** What to ask for by preference: the address of a lease that ran out. */
  readonly wish?: IpText
  /** Refusals one after the other. */
  readonly naks: number
  /** Why the last answer was of no use, for whoever waits. */
  readonly problem?: string
}

export type Action4 =
  | { readonly do: 'send'; readonly message: Message4; readonly to: 'broadcast' | IpText; readonly from: IpText }
  /** A REQUEST goes out: from now on the server may believe that the address is ours. Before the `send`. */
  | { readonly do: 'intend'; readonly address: IpText; readonly server: IpText }
  | { readonly do: 'bound'; readonly lease: Lease4; readonly how: 'new' | 'renewed' | 'rebound' }
  | { readonly do: 'lost'; readonly lease: Lease4; readonly why: 'nak' | 'expired' }

export interface Step4 {
  readonly state: State4
  readonly actions: readonly Action4[]
}

const newXid = (random: Random): number => Math.floor(random() * 0x1_0000_0000)
/** REQUESTs for an offer that nobody acknowledges before asking anew. */
const MAX_REQUESTS = 4

function compose(
  client: Client4,
  type: MessageType4,
  state: { readonly xid: number; readonly since: number },
  now: number,
  more: { readonly ciaddr?: IpText; readonly options?: Iterable<readonly [number, Uint8Array]> },
): Message4 {
  const options = new Map<number, Uint8Array>([[OPTION4.clientId, client.identity.clientId]])
  if (type !== 'release') {
    for (const [code, value] of client.provided) options.set(code, value)
    if (client.requested.size > 0) options.set(OPTION4.parameterList, Uint8Array.from(client.requested))
    options.set(OPTION4.maxSize, Uint8Array.of(1500 >> 8, 1500 & 255))
  } else {
    const own = client.provided.get(OPTION4.clientId)
    if (own !== undefined) options.set(OPTION4.clientId, own)
  }
  for (const [code, value] of more.options ?? []) options.set(code, value)
  return {
    op: 1,
    type,
    xid: state.xid,
    secs: Math.floor((now - state.since) / 1000),
    broadcast: client.broadcast && more.ciaddr === undefined,
    ciaddr: more.ciaddr ?? ANY4,
    yiaddr: ANY4,
    giaddr: ANY4,
    mac: client.mac,
    options,
  }
}

const address = (ip: IpText): Uint8Array => ipToBytes(parseIp(ip))

/** INIT: asks whoever hears it. */
export function start4(client: Client4, now: number, wish?: IpText, naks = 0): Step4 {
  const state = { phase: 'selecting' as const, xid: newXid(client.random), since: now, attempt: 0, sentAt: now, naks }
  return discover(client, wish === undefined ? state : { ...state, wish }, now)
}

/** Goes on with a lease that was got before: nothing is sent before its T1. */
export function resume4(client: Client4, lease: Lease4, now: number): Step4 {
  const state = { phase: 'bound' as const, xid: newXid(client.random), since: now, attempt: 0, sentAt: now, naks: 0 }
  return timer4(client, { ...state, lease, ...wake(lease.renewAt) }, now)
}

const wake = (at: number | undefined): { readonly wakeAt?: number } => (at === undefined ? {} : { wakeAt: at })

function discover(client: Client4, state: State4, now: number): Step4 {
  const options: [number, Uint8Array][] =
    state.wish === undefined ? [] : [[OPTION4.requestedAddress, address(state.wish)]]
  const message = compose(client, 'discover', state, now, { options })
  const { offer: _, lease: __, ...rest } = state
  return {
    state: {
      ...rest,
      phase: 'selecting',
      attempt: state.attempt + 1,
      wakeAt: now + discoverWait(state.attempt, client.random, client.resendMax),
    },
    actions: [{ do: 'send', message, to: 'broadcast', from: ANY4 }],
  }
}

/** REQUEST in each of its meanings (RFC 2131 §4.3.2): for an offer, to renew, to rebind. */
function request(client: Client4, state: State4, now: number): Step4 {
  const { offer, lease, phase } = state
  if (phase === 'requesting' && offer !== undefined) {
    const options: [number, Uint8Array][] = [
      [OPTION4.requestedAddress, address(offer.address)],
      [OPTION4.serverId, address(offer.server)],
    ]
    const message = compose(client, 'request', state, now, { options })
    const wakeAt = now + discoverWait(state.attempt, client.random, client.resendMax)
    const send: Action4 = { do: 'send', message, to: 'broadcast', from: ANY4 }
    return {
      state: { ...state, attempt: state.attempt + 1, sentAt: now, wakeAt },
      actions: state.attempt === 0 ? [{ do: 'intend', ...offer }, send] : [send],
    }
  }
  if (lease === undefined) return start4(client, now)
  const end = phase === 'renewing' ? lease.rebindAt : lease.expiresAt
  const message = compose(client, 'request', state, now, { ciaddr: lease.address })
  return {
    state: {
      ...state,
      attempt: state.attempt + 1,
      sentAt: now,
      ...wake(end === undefined ? undefined : now + renewWait(end - now)),
    },
    actions: [{ do: 'send', message, to: phase === 'renewing' ? lease.server : 'broadcast', from: lease.address }],
  }
}

/** `wakeAt` has come. Called early it does nothing. */
export function timer4(client: Client4, state: State4, now: number): Step4 {
  if (state.wakeAt === undefined || now < state.wakeAt) return { state, actions: [] }
  const { lease } = state
  const fresh = { xid: newXid(client.random), since: now, attempt: 0 }
  switch (state.phase) {
    case 'selecting':
      return discover(client, state, now)
    case 'pausing':
      return start4(client, now, state.wish, state.naks)
    case 'requesting':
      return state.attempt < MAX_REQUESTS ? request(client, state, now) : start4(client, now, state.wish, state.naks)
    default: {
      if (lease === undefined) return start4(client, now)
      if (lease.expiresAt !== undefined && now >= lease.expiresAt) {
        const again = start4(client, now, lease.address)
        return { state: again.state, actions: [{ do: 'lost', lease, why: 'expired' }, ...again.actions] }
      }
      if (lease.rebindAt !== undefined && now >= lease.rebindAt)
        return request(client, { ...state, ...(state.phase === 'rebinding' ? {} : fresh), phase: 'rebinding' }, now)
      return request(client, { ...state, ...(state.phase === 'renewing' ? {} : fresh), phase: 'renewing' }, now)
    }
  }
}

/** A message came. What is not for this client, not expected now, or of no use changes nothing. */
export function message4(client: Client4, state: State4, message: Message4, now: number): Step4 {
  const ignored = { state, actions: [] }
  if (message.op !== 2 || message.xid !== state.xid || message.mac !== client.mac) return ignored
  if (message.type === 'offer' && state.phase === 'selecting') return onOffer(client, state, message, now)
  if (message.type === 'ack') return onAck(client, state, message, now)
  if (message.type === 'nak') return onNak(client, state, message, now)
  return ignored
}

function onOffer(client: Client4, state: State4, message: Message4, now: number): Step4 {
  const lease = leaseFrom(message, client.requested, now, client.random)
  if ('problem' in lease) return { state: { ...state, problem: lease.problem }, actions: [] }
  const offer = { address: lease.address, server: lease.server }
  return request(client, { ...state, phase: 'requesting', attempt: 0, offer }, now)
}

function onAck(client: Client4, state: State4, message: Message4, now: number): Step4 {
  const { phase, offer, lease: held } = state
  if (phase !== 'requesting' && phase !== 'renewing' && phase !== 'rebinding') return { state, actions: [] }
  const lease = leaseFrom(message, client.requested, state.sentAt, client.random)
  if ('problem' in lease) return { state: { ...state, problem: lease.problem }, actions: [] }
  if (phase === 'requesting' && (lease.address !== offer?.address || lease.server !== offer.server))
    return { state, actions: [] }
  // Renewing speaks to one server; only rebinding takes another's word.
  if (phase === 'renewing' && lease.server !== held?.server) return { state, actions: [] }
  const how = phase === 'requesting' ? 'new' : phase === 'renewing' ? 'renewed' : 'rebound'
  return {
    state: {
      phase: 'bound',
      xid: state.xid,
      since: now,
      attempt: 0,
      sentAt: now,
      naks: 0,
      lease,
      ...wake(lease.renewAt),
    },
    actions: [{ do: 'bound', lease, how }],
  }
}

function onNak(client: Client4, state: State4, message: Message4, now: number): Step4 {
  const { phase, offer, lease } = state
  const server = hostAddressOf(message.options.get(OPTION4.serverId))
  if (phase !== 'requesting' && phase !== 'renewing' && phase !== 'rebinding') return { state, actions: [] }
  const expected = phase === 'requesting' ? offer?.server : phase === 'renewing' ? lease?.server : server
  if (server === undefined || server !== expected) return { state, actions: [] }
  const reason = textOf(message.options.get(OPTION4.message))
  const paused: State4 = {
    phase: 'pausing',
    xid: state.xid,
    since: now,
    attempt: 0,
    sentAt: now,
    naks: state.naks + 1,
    // At once the first time; then slower and slower.
    wakeAt: now + (state.naks === 0 ? 0 : discoverWait(state.naks, client.random, client.resendMax)),
    problem: `server ${server} refuses ${offer?.address ?? lease?.address ?? 'it'}${reason === undefined ? '' : `: ${reason}`}`,
  }
  const lost: readonly Action4[] = lease === undefined ? [] : [{ do: 'lost', lease, why: 'nak' }]
  return { state: paused, actions: lost }
}

/** What gives an address back (RFC 2131 §4.4.6). The server does not answer it. */
export const release4 = (client: Client4, address_: IpText, server: IpText, now: number): Message4 =>
  compose(client, 'release', { xid: newXid(client.random), since: now }, now, {
    ciaddr: address_,
    options: [[OPTION4.serverId, address(server)]],
  })
