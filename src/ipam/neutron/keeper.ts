/**
 * Keeps this node's addresses in the cloud: finds the port, claims it, asks for addresses and gives them back, and mends what others did. Everything is in the
 * journal before it is done, so that a crash at any point leaves what the next start understands. Nothing here runs by itself.
 */

import { parseIp } from '#ip/address.ts'
import { contains, familyOf, parseCidr } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { isCode, OpenStackError } from '#openstack/errors.ts'
import { listFloatingIps, pointFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { NothingDone, type Backing, type BackingEvent, type Ledger, type Seen, type View } from './backing.ts'
import type { Book } from './book.ts'
import { attach } from './attach.ts'
import { claimTag, standingOf, takenError } from './claim.ts'
import type { CloudApi } from './cloud.ts'
import type { NeutronConf } from './config.ts'
import { tryReadFacts, type Facts, type Validity } from './facts.ts'
import { FixedIps } from './fixed-ips.ts'
import type { HostCard } from './host-card.ts'
import { doubtfulOf } from './pool.ts'
import type { Address, Intent } from './record.ts'

export type KeeperEvent =
  | BackingEvent
  | 'grown'
  | 'shrunk'
  | 'adopted'
  | 'restored'
  | 'lost'
  | 'vanished'
  | 'foreign'
  | 'floating-ip-removed'
  | 'port-replaced'

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void

export interface KeeperOptions {
  readonly conf: NeutronConf
  readonly book: Book
  readonly api: CloudApi
  readonly card: () => HostCard
  readonly hostname: () => string
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** Where a test may kill the process. Named `neutron.<step>`. */
  readonly failpoint: (name: string) => void
  readonly onEvent: (event: KeeperEvent, count: number) => void
  readonly signal: AbortSignal
}

/** A request whose answer never came may still be carried out; later than this nobody waits for that. ms */
const LATE_MS = 120_000
/** Requests without an answer, until no more are made. */
const MAX_OPEN = 4

export class Keeper {
  readonly #options: KeeperOptions
  #backing: Backing | undefined
  #facts: Facts | undefined
  #isNew = false

  constructor(options: KeeperOptions) {
    this.#options = options
    const facts = tryReadFacts(options.conf.factsFile)
    const { node } = options.book.pool
    // Of another port they would mislead the pods.
    if (facts !== undefined && node !== undefined && facts.node.port === node.port) this.#facts = facts
  }

  /** What pods are told; undefined before the port was found once. */
  get facts(): Facts | undefined {
    return this.#facts
  }

  get isAttached(): boolean {
    return this.#backing !== undefined
  }

  get kind(): Validity | undefined {
    return this.#backing?.kind
  }

  /** Forgets where the port is, to find it anew. */
  detach(): void {
    this.#backing = undefined
  }

  #event(event: KeeperEvent, count = 1): void {
    this.#options.onEvent(event, count)
  }

  #onBacking = (event: BackingEvent, ips: readonly IpText[]): void => {
    this.#event(event)
    if (event === 'interleaved')
      this.#options.log('warn', 'somebody else writes the port of this node; its list is written again', {
        addresses: ips,
      })
  }

  /**
   * Finds port, networks and subnets, and claims the port. @throws LookupError, ClaimError, OpenStackError, CniError
   */
  async attach(): Promise<void> {
    const { facts, backing, isNew } = await attach({
      ...this.#options,
      validity: this.#facts?.validity,
      onBacking: this.#onBacking,
    })
    this.#facts = facts
    this.#backing = backing
    this.#isNew = isNew
  }

  /**
   * Takes what journal and facts say for true, without asking Neutron: for a program that lives for one call. False where they do not suffice. `reconcile` finds out where
   * they are wrong.
   */
  attachKnown(): boolean {
    const { api, book, card, conf } = this.#options
    const { node } = book.pool
    const facts = this.#facts
    const kind = conf.validity === 'auto' ? 'fixed_ips' : conf.validity
    if (node === undefined || facts?.validity !== 'fixed_ips' || kind !== 'fixed_ips') return false
    if (card().mac !== node.mac || (conf.portId !== '' && conf.portId !== node.port)) return false
    if (conf.subnetIds.some((id) => facts.subnets.every((subnet) => subnet.id !== id))) return false
    const { clock, random, failpoint } = this.#options
    this.#backing = new FixedIps({ api, clock, random, failpoint, onEvent: this.#onBacking, port: node.port })
    return true
  }

  #ledger(): Ledger {
    const { pool } = this.#options.book
    return {
      own: new Set(pool.node?.own),
      kept: new Set([...pool.addresses.values()].filter(({ state }) => state !== 'leaving').map(({ ip }) => ip)),
      foreign: pool.foreign,
    }
  }

  get #attached(): Backing {
    if (this.#backing === undefined) throw new OpenStackError('paused', 'the port of this node is not found yet')
    return this.#backing
  }

  #addressFrom(seen: Seen, readyAt: number, doubt: boolean): Address {
    const now = this.#options.clock.wall()
    const { ip, subnet, port, mac, prefix } = seen
    return {
      ip,
      subnet,
      port,
      ...(mac === undefined ? {} : { mac }),
      ...(prefix === undefined ? {} : { prefix }),
      state: 'free',
      readyAt,
      since: now,
      doubt,
      rested: doubt,
    }
  }

  /** Those that the journal does not know yet; of an address family that this node serves, and none of the subnet's own. */
  #fresh(seen: readonly Seen[]): readonly Seen[] {
    const { pool } = this.#options.book
    const own = new Set(pool.node?.own)
    const subnets = new Map(this.#facts?.subnets.map((subnet) => [subnet.id, subnet]))
    return seen.filter(({ ip, subnet }) => {
      if (pool.addresses.has(ip) || own.has(ip)) return false
      const known = subnets.get(subnet)
      // Neutron gives the gateway's address to whoever asks for it.
      return known !== undefined && known.gateway !== ip && contains(parseCidr(known.cidr), parseIp(ip))
    })
  }

  /**
   * Asks for addresses of a subnet; how many came. They may be given out when they have settled. @throws OpenStackError `subnet-full`, `over-quota` and others
   */
  async grow(subnet: string, count: number): Promise<number> {
    const { book, clock, conf, failpoint, log } = this.#options
    const backing = this.#attached
    if (book.pool.intents.size >= MAX_OPEN)
      throw new OpenStackError(
        'paused',
        `${book.pool.intents.size} requests have no answer yet: their addresses may still come`,
      )
    const plan = await backing.plan(subnet, count)
    const intent: Intent = {
      id: crypto.randomUUID().slice(0, 18),
      port: book.pool.node?.port || 'none',
      subnet,
      at: clock.wall(),
      ...plan,
    }
    await book.write({ is: 'intend', intent })
    failpoint('neutron.intended')
    let seen: readonly Seen[]
    try {
      seen = await backing.grow(intent, this.#ledger())
    } catch (error) {
      if (!(error instanceof NothingDone)) throw error
      await book.write({ is: 'settle', id: intent.id })
      throw error.cause
    }
    failpoint('neutron.grown')
    const fresh = this.#fresh(seen)
    const readyAt = clock.wall() + conf.pool.settleMs
    await book.write(
      { is: 'have', addresses: fresh.map((one) => this.#addressFrom(one, readyAt, false)) },
      { is: 'settle', id: intent.id },
    )
    failpoint('neutron.had')
    this.#event('grown', fresh.length)
    log('debug', 'addresses came', { addresses: fresh.map(({ ip }) => ip), subnet })
    return fresh.length
  }

  /** Gives free addresses back to the cloud. What is a pod's by now stays. */
  async shrink(addresses: readonly Address[]): Promise<void> {
    const { book, failpoint } = this.#options
    const ips = addresses.map(({ ip }) => ip).filter((ip) => book.pool.addresses.get(ip)?.state === 'free')
    if (ips.length > 0) await book.write({ is: 'leave', ips })
    failpoint('neutron.leaving')
    const leaving = book.pool.inState('leaving')
    if (leaving.length === 0) return
    await this.clean(leaving.filter(({ doubt }) => doubt))
    const sure = book.pool.inState('leaving').filter(({ doubt }) => !doubt)
    try {
      await this.#attached.shrink(sure, this.#ledger())
    } catch (error) {
      throw error instanceof NothingDone ? error.cause : error
    }
    failpoint('neutron.left')
    await book.write({ is: 'gone', ips: sure.map(({ ip }) => ip) })
    this.#event('shrunk', sure.length)
  }

  /**
   * Takes floating IPs away from addresses that were pods', so that whoever has them next has no public address by accident. They may be given out afterwards.
   */
  async clean(
    addresses: readonly Address[] = doubtfulOf(this.#options.book.pool, this.#options.clock.wall()),
  ): Promise<void> {
    const { api, book, conf, log } = this.#options
    if (addresses.length === 0) return
    const ips = new Set(addresses.map(({ ip }) => ip))
    const ports = conf.floatingIps
      ? new Set(addresses.filter(({ ip }) => familyOf(ip) === 4).map(({ port }) => port))
      : []
    for (const port of ports) {
      for (const floating of await listFloatingIps(api.client, { port }, await api.turn())) {
        const { fixed_ip_address: fixed } = floating
        // A pod may have got the address while the list was on its way.
        if (fixed === undefined || !ips.has(fixed) || book.pool.addresses.get(fixed)?.state === 'assigned') continue
        await pointFloatingIp(api.client, floating.id, undefined, await api.turn())
        this.#event('floating-ip-removed')
        log('info', 'a floating IP pointed at an address whose pod is gone; it was taken away', {
          floating: floating.floating_ip_address,
          address: fixed,
        })
      }
    }
    await book.write({ is: 'clear', ips: [...ips].filter((ip) => book.pool.addresses.get(ip)?.state !== 'assigned') })
  }

  /** Compares the cloud with the journal, and mends what differs. @throws OpenStackError `not-found`: the port is gone; ClaimError */
  async reconcile(): Promise<void> {
    const { book, log } = this.#options
    const backing = this.#attached
    const { pool } = book
    let view = await backing.observe()
    const me = { boot: book.boot, writer: pool.writer }
    if (standingOf(view.claims, me) === 'taken')
      throw takenError(
        pool.node?.port ?? '',
        view.claims.filter((tag) => tag !== claimTag(me)),
      )
    if (await this.#recover(view)) view = await backing.observe()

    const missing = [...pool.addresses.values()].filter(({ ip }) => !view.seen.has(ip))
    // What ports of their own reserve is not gone because the pair is: those that leave are deleted by `shrink`.
    const over = backing.kind === 'fixed_ips' ? missing.filter(({ state }) => state !== 'assigned') : []
    const wanted = missing.filter((address) => address.state !== 'leaving' && !over.includes(address))
    const vanished = over.filter(({ state }) => state === 'free')
    if (vanished.length > 0) {
      this.#event('vanished', vanished.length)
      log('warn', 'free addresses are not on the port any more', { addresses: vanished.map(({ ip }) => ip) })
    }
    if (over.length > 0) await book.write({ is: 'gone', ips: over.map(({ ip }) => ip) })
    if (wanted.length > 0) await this.#restore(backing, wanted)

    const unknown = this.#fresh([...view.seen.values()]).filter(({ ip }) => !pool.foreign.has(ip))
    const adopted = unknown.filter(
      ({ intent }) => intent === 'earlier' || (this.#isNew && backing.kind === 'fixed_ips'),
    )
    await this.#adopt(adopted)
    this.#isNew = false
    const foreign = unknown.filter(({ ip }) => !pool.addresses.has(ip)).map(({ ip }) => ip)
    if (foreign.length > 0) {
      this.#event('foreign', foreign.length)
      log('warn', 'there are addresses on the port that somebody else put there; they are left alone', {
        addresses: foreign,
      })
      await book.write({ is: 'foreign', ips: foreign })
    }
    const left = [...pool.foreign].filter((ip) => !view.seen.has(ip))
    if (left.length > 0) await book.write({ is: 'unforeign', ips: left })
    for (const [port, moved] of Map.groupBy(pool.addresses.values(), ({ ip }) => view.seen.get(ip)?.port)) {
      const ips = moved.filter((address) => address.port !== port).map(({ ip }) => ip)
      if (port !== undefined && ips.length > 0) await book.write({ is: 'home', ips, port })
    }
  }

  /** What requests without an answer brought. True where something did. */
  async #recover(view: View): Promise<boolean> {
    const { book, clock, conf } = this.#options
    const backing = this.#attached
    let found = false
    for (const intent of book.pool.intents.values()) {
      const seen = this.#fresh(await backing.recover(intent, view, this.#ledger()))
      const now = clock.wall()
      if (seen.length > 0) {
        found = true
        // Whether somebody used them meanwhile is not known: a floating IP is looked for.
        await book.write({
          is: 'have',
          addresses: seen.map((one) => this.#addressFrom(one, now + conf.pool.settleMs, true)),
        })
        this.#event('adopted', seen.length)
      }
      const isOver = seen.length >= intent.count || now > intent.at + LATE_MS || intent.at > now + LATE_MS
      if (isOver) await book.write({ is: 'settle', id: intent.id })
    }
    return found
  }

  /** Addresses of an earlier life of this machine. Those with a floating IP are somebody's who is still there. */
  async #adopt(seen: readonly Seen[]): Promise<void> {
    const { api, book, clock, conf, log } = this.#options
    if (seen.length === 0) return
    const inUse = new Set<IpText>()
    if (conf.floatingIps)
      for (const port of new Set(seen.map((one) => one.port)))
        for (const { fixed_ip_address: ip } of await listFloatingIps(api.client, { port }, await api.turn()))
          if (ip !== undefined) inUse.add(ip)
    const taken = seen.filter(({ ip }) => !inUse.has(ip))
    await book.write({ is: 'have', addresses: taken.map((one) => this.#addressFrom(one, clock.wall(), false)) })
    this.#event('adopted', taken.length)
    log('info', 'addresses of an earlier life of this node are used again', { addresses: taken.map(({ ip }) => ip) })
  }

  async #restore(backing: Backing, wanted: readonly Address[]): Promise<void> {
    const { book, log } = this.#options
    const lost = new Set(await backing.restore(wanted, this.#ledger()))
    const back = wanted.filter(({ ip }) => !lost.has(ip))
    if (back.length > 0) {
      this.#event('restored', back.length)
      log('warn', 'addresses had been taken from the port; they are there again', {
        addresses: back.map(({ ip }) => ip),
      })
    }
    const gone = wanted.filter(({ ip, state }) => lost.has(ip) && state !== 'assigned').map(({ ip }) => ip)
    if (gone.length > 0) await book.write({ is: 'gone', ips: gone })
    const pods = wanted.filter(({ ip, state }) => lost.has(ip) && state === 'assigned')
    if (pods.length === 0) return
    this.#event('lost', pods.length)
    log('error', 'addresses of pods were taken from the port and are somebody else’s now: delete these pods', {
      addresses: pods.map(({ ip, owner }) => `${ip} ${owner?.containerId ?? ''}`),
    })
  }

  /** True where requests without an answer, or addresses that leave, wait for a look. */
  get isUnsettled(): boolean {
    const { pool } = this.#options.book
    return pool.intents.size > 0 || pool.inState('leaving').length > 0
  }

  /** The codes after which growth pauses: asking again at once brings the same answer. */
  static isExhausted(error: unknown): error is OpenStackError {
    return isCode(error, 'subnet-full', 'over-quota')
  }
}
