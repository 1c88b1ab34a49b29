/**
 * The DHCPv6 client for one IA_NA as a pure function: a state, what happens, and what is to be done about it. Source: RFC 8415 §18.2.
 *
 *     soliciting ──best advertisement──▶ requesting ──reply──▶ bound ──T1──▶ renewing ──T2──▶ rebinding
 *         ▲                                  ▲                  ▲ └───────────reply───────────┘  │
 *         └────────────no such address───────┴──no binding──────┴──────────────expired───────────┘
 */

import type { Dns } from '#cni/result.ts'
import { dnsOf } from '#cni/result.ts'
import type { IpText } from '#ip/text.ts'
import type { Identity } from '../wire/identity.ts'
import { addresses6Of, OPTION6, STATUS6, type IaNa, type Message6, type MessageType6 } from '../wire/message6.ts'
import { searchListOf } from '../wire/option4.ts'
import { RETRANSMIT, retransmitWait, type Random, type Retransmission } from './backoff.ts'
import type { Times } from './lease4.ts'

export interface Client6 {
  readonly identity: Identity
  /** Take a server's answer to SOLICIT as final where it offers that. */
  readonly rapidCommit: boolean
  readonly random: Random
}

export interface Lease6 extends Times {
  readonly addresses: readonly IpText[]
  /** The server's DUID in hexadecimal. */
  readonly server: string
  readonly dns: Dns
}

export type Phase6 = 'soliciting' | 'requesting' | 'bound' | 'renewing' | 'rebinding'

export interface Offer6 {
  readonly addresses: readonly IpText[]
  readonly server: string
}

export interface State6 {
  readonly phase: Phase6
  readonly xid: number
  readonly since: number
  readonly attempt: number
  readonly wakeAt?: number
  readonly sentAt: number
  /** The last wait (ms), which the next is made of. */
  readonly waited?: number
  /** While soliciting the best so far; while requesting what is asked for. */
  readonly offer?: Offer6 & { readonly preference: number }
  readonly lease?: Lease6
  /** A server's wish for the longest time between two SOLICITs (ms). */
  readonly solicitMax?: number
  readonly problem?: string
}

export type Action6 =
  | { readonly do: 'send'; readonly message: Message6 }
  | ({ readonly do: 'intend' } & Offer6)
  | { readonly do: 'bound'; readonly lease: Lease6; readonly how: 'new' | 'renewed' | 'rebound' }
  | { readonly do: 'lost'; readonly lease: Lease6; readonly why: 'expired' | 'withdrawn' }

export interface Step6 {
  readonly state: State6
  readonly actions: readonly Action6[]
}

const FOREVER = 0xffff_ffff
const MAX_REQUESTS = 10
const MIN_VALID = 2
const ORO = [OPTION6.dns, OPTION6.domainSearch, OPTION6.solMaxRt]

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const newXid = (random: Random): number => Math.floor(random() * 0x100_0000)
const fresh = (client: { readonly random: Random }, now: number) => ({
  xid: newXid(client.random),
  since: now,
  attempt: 0,
  sentAt: now,
})

function compose(
  client: Client6,
  type: MessageType6,
  state: { readonly xid: number; readonly since: number },
  now: number,
  more: { readonly server?: string; readonly addresses?: readonly IpText[] },
): Message6 {
  const { iaid, duid } = client.identity
  const addresses = (more.addresses ?? []).map((address) => ({ address, preferred: 0, valid: 0 }))
  return {
    type,
    xid: state.xid,
    clientId: duid,
    ...(more.server === undefined ? {} : { serverId: Buffer.from(more.server, 'hex') }),
    ias: [{ iaid, t1: 0, t2: 0, addresses }],
    elapsed: (now - state.since) / 10,
    ...(type === 'solicit' && client.rapidCommit ? { rapidCommit: true } : {}),
    ...(type === 'release' ? {} : { requested: ORO }),
    options: new Map(),
  }
}

export function start6(client: Client6, now: number): Step6 {
  return solicit(client, { phase: 'soliciting', ...fresh(client, now) }, now)
}

/** Goes on with a lease that was got before. */
export function resume6(client: Client6, lease: Lease6, now: number): Step6 {
  const { renewAt } = lease
  const state: State6 = {
    phase: 'bound',
    ...fresh(client, now),
    lease,
    ...(renewAt === undefined ? {} : { wakeAt: renewAt }),
  }
  return timer6(client, state, now)
}

function solicit(client: Client6, state: State6, now: number): Step6 {
  const max = state.solicitMax ?? RETRANSMIT.solicit.max
  const rule: Retransmission = { initial: RETRANSMIT.solicit.initial, max }
  const waited = retransmitWait(rule, state.waited, client.random, true)
  return {
    state: { ...state, attempt: state.attempt + 1, sentAt: now, waited, wakeAt: now + waited },
    actions: [{ do: 'send', message: compose(client, 'solicit', state, now, {}) }],
  }
}

/** REQUEST, RENEW or REBIND, by the phase; the next one at the latest at `end`. */
function ask(client: Client6, state: State6, now: number): Step6 {
  const { phase, lease } = state
  const wanted = phase === 'requesting' ? state.offer : lease
  if (wanted === undefined) return start6(client, now)
  const rule = phase === 'requesting' ? RETRANSMIT.request : phase === 'renewing' ? RETRANSMIT.renew : RETRANSMIT.rebind
  const end = phase === 'renewing' ? lease?.rebindAt : lease?.expiresAt
  const waited = retransmitWait(rule, state.waited, client.random)
  const type = phase === 'requesting' ? 'request' : phase === 'renewing' ? 'renew' : 'rebind'
  const { addresses, server } = wanted
  const message = compose(client, type, state, now, { addresses, ...(phase === 'rebinding' ? {} : { server }) })
  const next = {
    ...state,
    attempt: state.attempt + 1,
    sentAt: now,
    waited,
    wakeAt: end === undefined ? now + waited : Math.max(now, Math.min(now + waited, end)),
  }
  const send: Action6 = { do: 'send', message }
  const isFirst = phase === 'requesting' && state.attempt === 0
  return { state: next, actions: isFirst ? [{ do: 'intend', addresses, server }, send] : [send] }
}

function enter(client: Client6, state: State6, phase: Phase6, now: number): Step6 {
  const { waited: _, wakeAt: __, ...rest } = state
  return ask(client, { ...rest, phase, ...fresh(client, now) }, now)
}

/** `wakeAt` has come. Called early it does nothing. */
export function timer6(client: Client6, state: State6, now: number): Step6 {
  if (state.wakeAt === undefined || now < state.wakeAt) return { state, actions: [] }
  const { lease, phase } = state
  if (lease?.expiresAt !== undefined && now >= lease.expiresAt) return lose(client, lease, 'expired', now)
  if (phase === 'soliciting')
    return state.offer === undefined ? solicit(client, state, now) : enter(client, state, 'requesting', now)
  if (phase === 'requesting') {
    if (state.attempt < MAX_REQUESTS) return ask(client, state, now)
    return lease === undefined ? start6(client, now) : enter(client, state, 'rebinding', now)
  }
  if (lease === undefined) return start6(client, now)
  if (lease.rebindAt !== undefined && now >= lease.rebindAt)
    return phase === 'rebinding' ? ask(client, state, now) : enter(client, state, 'rebinding', now)
  return phase === 'renewing' ? ask(client, state, now) : enter(client, state, 'renewing', now)
}

function lose(client: Client6, lease: Lease6, why: 'expired' | 'withdrawn', now: number): Step6 {
  const again = start6(client, now)
  return { state: again.state, actions: [{ do: 'lost', lease, why }, ...again.actions] }
}

/** A message came. What is not for this client, not expected now, or of no use changes nothing. */
export function message6(client: Client6, state: State6, message: Message6, now: number): Step6 {
  const ignored = { state, actions: [] }
  const { clientId, serverId, xid, type } = message
  if (xid !== state.xid || clientId === undefined || serverId === undefined) return ignored
  if (hex(clientId) !== hex(client.identity.duid)) return ignored
  const heard = limited(state, message)
  const ia = message.ias.find(({ iaid }) => iaid === client.identity.iaid)
  const server = hex(serverId)
  if (type === 'advertise' && state.phase === 'soliciting') return onAdvertise(client, heard, message, ia, server, now)
  if (type !== 'reply') return ignored
  if (state.phase === 'soliciting') {
    const isFinal = client.rapidCommit && message.rapidCommit === true && usable(message, ia) === undefined
    return isFinal && ia !== undefined ? bind(client, heard, message, ia, server, now) : ignored
  }
  if (state.phase === 'requesting' && server !== state.offer?.server) return ignored
  if (state.phase === 'renewing' && server !== state.lease?.server) return ignored
  return state.phase === 'bound' ? ignored : onReply(client, heard, message, ia, server, now)
}

/** RFC 8415 §18.2.9: values outside a minute to a day are ignored. */
const limited = (state: State6, { solMaxRt }: Message6): State6 =>
  solMaxRt === undefined || solMaxRt < 60 || solMaxRt > 86_400 ? state : { ...state, solicitMax: 1000 * solMaxRt }

/** Why no address can be taken from a message; undefined when one can. */
function usable(message: Message6, ia: IaNa | undefined): string | undefined {
  for (const status of [message.status, ia?.status]) {
    if (status !== undefined && status.code !== STATUS6.success)
      return `status ${status.code}${status.message === '' ? '' : ` (${status.message})`}`
  }
  if (ia === undefined) return 'no IA_NA of ours'
  return ia.addresses.some(({ valid }) => valid > 0) ? undefined : 'no address'
}

function onAdvertise(
  client: Client6,
  state: State6,
  message: Message6,
  ia: IaNa | undefined,
  server: string,
  now: number,
): Step6 {
  const problem = usable(message, ia)
  if (problem !== undefined || ia === undefined)
    return { state: { ...state, problem: `server ${server} offers nothing: ${problem}` }, actions: [] }
  const preference = message.preference ?? 0
  if (state.offer !== undefined && state.offer.preference >= preference) return { state, actions: [] }
  const offer = { addresses: addressesOf(ia), server, preference }
  const next = { ...state, offer }
  // All of the first wait is for better offers, unless this is the best there can be (RFC 8415 §18.2.1).
  return preference === 255 || state.attempt > 1 ? enter(client, next, 'requesting', now) : { state: next, actions: [] }
}

const addressesOf = (ia: IaNa): readonly IpText[] =>
  ia.addresses.filter(({ valid }) => valid > 0).map(({ address }) => address)

function onReply(
  client: Client6,
  state: State6,
  message: Message6,
  ia: IaNa | undefined,
  server: string,
  now: number,
): Step6 {
  const problem = usable(message, ia)
  if (problem === undefined && ia !== undefined) return bind(client, state, message, ia, server, now)
  const told = { ...state, problem: `server ${server}: ${problem}` }
  const codes = [message.status?.code, ia?.status?.code]
  const { lease } = state
  if (state.phase === 'requesting') {
    const isRefused = codes.some((code) => code === STATUS6.noAddrsAvail || code === STATUS6.notOnLink)
    if (!isRefused) return { state: told, actions: [] }
    if (lease !== undefined) return lose(client, lease, 'withdrawn', now)
    // Not at once: the same server would answer the same.
    const { offer: _, ...rest } = told
    const waited = retransmitWait(RETRANSMIT.solicit, undefined, client.random, true)
    return { state: { ...rest, phase: 'soliciting', ...fresh(client, now), waited, wakeAt: now + waited }, actions: [] }
  }
  if (lease === undefined) return { state: told, actions: [] }
  if (codes.includes(STATUS6.noBinding)) {
    const offer = { addresses: lease.addresses, server, preference: 0 }
    return enter(client, { ...told, offer }, 'requesting', now)
  }
  const isWithdrawn =
    ia?.addresses.some(({ address, valid }) => valid === 0 && lease.addresses.includes(address)) === true
  return isWithdrawn ? lose(client, lease, 'withdrawn', now) : { state: told, actions: [] }
}

function bind(client: Client6, state: State6, message: Message6, ia: IaNa, server: string, now: number): Step6 {
  const dns = dnsOf({
    nameservers: addresses6Of(message.options.get(OPTION6.dns)),
    search: searchListOf(message.options.get(OPTION6.domainSearch)),
  })
  const lease = { addresses: addressesOf(ia), server, dns, ...timesOf(ia, state.sentAt, client.random) }
  const how = state.phase === 'renewing' ? 'renewed' : state.phase === 'rebinding' ? 'rebound' : 'new'
  const { renewAt } = lease
  const bound: State6 = {
    phase: 'bound',
    ...fresh(client, now),
    lease,
    ...(renewAt === undefined ? {} : { wakeAt: renewAt }),
  }
  return { state: bound, actions: [{ do: 'bound', lease, how }] }
}

/** T1 and T2 are the server's, or parts of the shortest preferred lifetime (§14.2); all ends with the shortest valid one. */
function timesOf(ia: IaNa, sentAt: number, random: Random): Times {
  const live = ia.addresses.filter(({ valid }) => valid > 0)
  const preferred = Math.min(...live.map((address) => address.preferred))
  const valid = Math.max(MIN_VALID, Math.min(...live.map((address) => address.valid)))
  if (valid === FOREVER) return {}
  const base = preferred > 0 && preferred !== FOREVER ? preferred : valid
  const isSane = ia.t1 > 0 && ia.t1 < ia.t2 && ia.t2 < valid
  const early = 1 - 0.05 * random()
  return {
    renewAt: sentAt + 1000 * (isSane ? ia.t1 : base * 0.5) * early,
    rebindAt: sentAt + 1000 * (isSane ? ia.t2 : base * 0.8),
    expiresAt: sentAt + 1000 * valid,
  }
}

/** What gives the addresses back (§18.2.7). */
export const release6 = (client: Client6, { addresses, server }: Offer6, now: number): Message6 =>
  compose(client, 'release', { xid: newXid(client.random), since: now }, now, { addresses, server })
