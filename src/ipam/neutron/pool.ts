/** The addresses of this node: what the journal's records mean, and what follows from it. Pure; times are milliseconds since 1970. */

import type { IpText } from '#ip/text.ts'
import { familyOf } from '#ip/prefix.ts'
import type { Address, Intent, NodePort, Owner, PoolRecord } from './record.ts'

/** What the journal says, read from its beginning. Reading a record twice does no harm. */
export class Pool {
  readonly addresses = new Map<IpText, Address>()
  /** What was begun in the cloud and not seen to its end. */
  readonly intents = new Map<string, Intent>()
  /** Addresses on the port that others put there: left alone, kept in every list. */
  readonly foreign = new Set<IpText>()
  node: NodePort | undefined
  /** Who writes this journal: part of the claim on the port. */
  writer = ''

  apply(record: PoolRecord): void {
    switch (record.is) {
      case 'writer':
        this.writer = record.writer
        return
      case 'node':
        this.node = record.node
        for (const ip of record.node.own) this.foreign.delete(ip)
        return
      case 'intend':
        this.intents.set(record.intent.id, record.intent)
        return
      case 'settle':
        this.intents.delete(record.id)
        return
      case 'have':
        for (const address of record.addresses) {
          this.foreign.delete(address.ip)
          // What is a pod's stays a pod's: a record of before may be read after a snapshot.
          if (this.addresses.get(address.ip)?.owner === undefined) this.addresses.set(address.ip, address)
        }
        return
      case 'assign':
        for (const ip of record.ips) this.#change(ip, { state: 'assigned', owner: record.owner, since: record.at })
        return
      case 'free':
        for (const ip of record.ips)
          this.#change(ip, {
            state: 'free',
            owner: undefined,
            since: record.at,
            readyAt: record.readyAt,
            doubt: true,
            rested: true,
          })
        return
      case 'clear':
        for (const ip of record.ips) this.#change(ip, { doubt: false })
        return
      case 'leave':
        for (const ip of record.ips) {
          const address = this.addresses.get(ip)
          if (address?.state === 'free') this.#change(ip, { state: 'leaving' })
        }
        return
      case 'gone':
        for (const ip of record.ips) this.addresses.delete(ip)
        return
      case 'foreign':
        for (const ip of record.ips) if (!this.addresses.has(ip)) this.foreign.add(ip)
        return
      case 'unforeign':
        for (const ip of record.ips) this.foreign.delete(ip)
        return
      case 'home':
        for (const ip of record.ips) this.#change(ip, { port: record.port })
        return
      case 'moved':
        for (const [ip, { port, state }] of this.addresses) {
          if (port !== record.from) continue
          if (state === 'assigned') this.#change(ip, { port: record.to })
          else this.addresses.delete(ip)
        }
        this.intents.clear()
        this.foreign.clear()
    }
  }

  #change(ip: IpText, to: Partial<{ -readonly [K in keyof Address]: Address[K] }>): void {
    const address = this.addresses.get(ip)
    if (address !== undefined) this.addresses.set(ip, { ...address, ...to })
  }

  /** The same state in as few records as possible. */
  snapshot(): readonly PoolRecord[] {
    return [
      ...(this.writer === '' ? [] : [{ is: 'writer', writer: this.writer } as const]),
      ...(this.node === undefined ? [] : [{ is: 'node', node: this.node } as const]),
      ...(this.addresses.size === 0 ? [] : [{ is: 'have', addresses: [...this.addresses.values()] } as const]),
      ...[...this.intents.values()].map((intent) => ({ is: 'intend', intent }) as const),
      ...(this.foreign.size === 0 ? [] : [{ is: 'foreign', ips: [...this.foreign] } as const]),
    ]
  }

  /** What an attachment holds. */
  heldBy({ network, containerId, ifname }: Omit<Owner, 'boot'>): readonly Address[] {
    return [...this.addresses.values()].filter(
      ({ owner }) => owner?.network === network && owner.containerId === containerId && owner.ifname === ifname,
    )
  }

  inState(state: Address['state']): readonly Address[] {
    return [...this.addresses.values()].filter((address) => address.state === state)
  }
}

export const replay = (records: readonly PoolRecord[]): Pool => {
  const pool = new Pool()
  for (const record of records) pool.apply(record)
  return pool
}

/** May be given to a pod now. */
export const isReady = (address: Address, now: number): boolean =>
  address.state === 'free' && !address.doubt && address.readyAt <= now

/** Free addresses that may be given out, those first that have rested longest. */
export const readyOf = (pool: Pool, family: 4 | 6, now: number): readonly Address[] =>
  [...pool.addresses.values()]
    .filter((address) => familyOf(address.ip) === family && isReady(address, now))
    .toSorted((a, b) => a.readyAt - b.readyAt || (a.ip < b.ip ? -1 : 1))

/** Freed addresses that were a pod's and may still be a floating IP's; their rest is over, or ends within `ahead`. */
export const doubtfulOf = (pool: Pool, now: number, ahead = 0): readonly Address[] =>
  [...pool.addresses.values()].filter(
    ({ state, doubt, readyAt }) => doubt && (state === 'leaving' || (state === 'free' && readyAt <= now + ahead)),
  )

export interface Wanted {
  readonly minimum: number
  readonly warm: number
  readonly max: number
  readonly batch: number
  readonly idleReclaimMs: number
}

export interface Counts {
  readonly total: number
  readonly assigned: number
  readonly ready: number
  /** Free, not settled yet: they become ready by themselves. */
  readonly settling: number
  /** Freed not long ago, or with a floating IP perhaps. */
  readonly cooling: number
  readonly leaving: number
}

/** How many addresses of a family are in which state. */
export function countsOf(pool: Pool, family: 4 | 6, now: number): Counts {
  const counts = { total: 0, assigned: 0, ready: 0, settling: 0, cooling: 0, leaving: 0 }
  for (const address of pool.addresses.values()) {
    if (familyOf(address.ip) !== family) continue
    counts.total++
    if (address.state === 'assigned') counts.assigned++
    else if (address.state === 'leaving') counts.leaving++
    else if (isReady(address, now)) counts.ready++
    else if (address.doubt || address.rested) counts.cooling++
    else counts.settling++
  }
  return counts
}

/**
 * How many addresses of a family to ask for: 0, or a batch or more. `waiting`: ADDs that wait for one. What cools does not count as free for
 * them, but it does for the warm pool, which else would grow with every pod that goes.
 */
export function deficitOf(counts: Counts, wanted: Wanted, waiting: number, growth = 1): number {
  const held = counts.total - counts.leaving
  const soon = counts.ready + counts.settling
  const need = Math.max(
    wanted.warm - soon - counts.cooling,
    wanted.minimum - held,
    waiting > 0 ? waiting + wanted.warm - soon : 0,
  )
  if (need <= 0) return 0
  const asked = Math.max(need, Math.min(64, wanted.batch * growth))
  return Math.min(wanted.max === 0 ? 4096 : wanted.max, held + asked) - held
}

/** Given back at once: it is one request, however many they are. */
const MOST_LEAVING = 32

/** Free addresses that nobody has needed for long, and that are more than what has to stay: the most idle first. */
export function surplusOf(pool: Pool, family: 4 | 6, wanted: Wanted, now: number): readonly Address[] {
  const counts = countsOf(pool, family, now)
  const room = Math.min(
    counts.ready - wanted.warm,
    counts.total - counts.leaving - wanted.minimum,
    Math.max(wanted.batch, MOST_LEAVING),
  )
  if (room <= 0) return []
  return readyOf(pool, family, now)
    .filter(({ since }) => since <= now - wanted.idleReclaimMs)
    .toSorted((a, b) => a.since - b.since)
    .slice(0, room)
}

/** The next time at which an address becomes ready by itself; undefined for none. */
export function nextReadyAt(pool: Pool, now: number): number | undefined {
  let next: number | undefined
  for (const { state, readyAt } of pool.addresses.values())
    if (state === 'free' && readyAt > now && (next === undefined || readyAt < next)) next = readyAt
  return next
}

/** Prefixes go as a whole: one of which nothing has been used for long, if the others are enough. */
export function idlePrefixOf(pool: Pool, family: 4 | 6, wanted: Wanted, now: number): readonly Address[] {
  const counts = countsOf(pool, family, now)
  for (const [prefix, group] of Map.groupBy(pool.addresses.values(), (address) => address.prefix)) {
    if (prefix === undefined || familyOf(prefix) !== family) continue
    const isIdle = group.every(
      ({ state, doubt, since }) => state === 'free' && !doubt && since <= now - wanted.idleReclaimMs,
    )
    const isMore = counts.ready - group.length >= wanted.warm && counts.total - group.length >= wanted.minimum
    if (isIdle && isMore) return group
  }
  return []
}
