/** The daemon's heart: serves pods from the pool, and keeps the pool filled. One step in the cloud at a time; nobody who has an address in the pool waits for one. */

import { CniError, messageOf, tryAgain, unavailable } from '#cni/errors.ts'
import type { Attachment } from '#cni/plugin.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { isCode, type OpenStackError } from '#openstack/errors.ts'
import type { Book } from './book.ts'
import { ClaimError } from './claim.ts'
import type { CloudApi } from './cloud.ts'
import type { NeutronConf } from './config.ts'
import type { Facts } from './facts.ts'
import { Growth } from './growth.ts'
import { Keeper, type Log } from './keeper.ts'
import { countsOf, deficitOf, doubtfulOf, idlePrefixOf, nextReadyAt, readyOf, surplusOf, type Counts } from './pool.ts'
import type { Address } from './record.ts'
import { soonest } from './soonest.ts'
import { Trouble, type Condition, type Level, type Step } from './trouble.ts'

export interface EngineOptions {
  readonly conf: NeutronConf
  readonly book: Book
  readonly keeper: Keeper
  readonly api: CloudApi
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly failpoint: (name: string) => void
  /** Ends the requests that are under way. */
  readonly stop: AbortController
}

export interface Request extends Attachment {
  readonly network: string
  /** Of these subnets only; empty: of any. */
  readonly subnetIds: readonly string[]
}

export interface EngineView {
  readonly families: ReadonlyMap<4 | 6, Counts>
  readonly level: Level
  readonly waiting: number
  /** Seconds since the oldest request without an answer; 0: there is none. */
  readonly oldestIntent: number
  readonly foreign: number
}

/** ms between two looks at what others may have changed; every second look where something is open. */
const LOOK_MS = 60_000
const SOON_MS = 5_000
const MAX_WAITING = 1024
/** ms between two looks for floating IPs while nobody waits. */
const CLEAN_MS = 5_000

export class Engine implements AsyncDisposable {
  readonly #options: EngineOptions
  readonly #running: Promise<void>
  #wake = Promise.withResolvers<void>()
  #change = Promise.withResolvers<void>()
  #waiting = new Map<object, readonly (4 | 6)[]>()
  #lookAt = 0
  #cleanedAt = Number.NEGATIVE_INFINITY
  readonly #growth: Growth
  readonly #trouble: Trouble

  constructor(options: EngineOptions) {
    this.#options = options
    this.#trouble = new Trouble(options.clock, options.random)
    this.#growth = new Growth(options.clock)
    this.#running = this.#run()
  }

  get facts(): Facts | undefined {
    return this.#options.keeper.facts
  }

  /** The port was found, and is kept. */
  get isUp(): boolean {
    return this.#options.keeper.isAttached
  }

  get #stopped(): boolean {
    return this.#options.stop.signal.aborted
  }

  /** Address families of the subnets that a request may get addresses of. */
  #familiesOf(subnetIds: readonly string[]): readonly (4 | 6)[] {
    const { facts } = this
    const subnets = facts?.subnets.filter(({ id }) => subnetIds.length === 0 || subnetIds.includes(id)) ?? []
    return ([4, 6] as const).filter((family) => subnets.some(({ cidr }) => familyOf(cidr) === family))
  }

  /** One ready address of each family, or none. */
  #pick(request: Request, families: readonly (4 | 6)[]): readonly Address[] | undefined {
    const { book, clock } = this.#options
    const picked: Address[] = []
    for (const family of families) {
      const address = readyOf(book.pool, family, clock.wall()).find(
        ({ subnet }) => request.subnetIds.length === 0 || request.subnetIds.includes(subnet),
      )
      if (address === undefined) return undefined
      picked.push(address)
    }
    return picked.length === 0 ? undefined : picked
  }

  /** ADD: the addresses that the attachment has, or new ones; on disk before it answers. Throws CniError 5, 7, 11. */
  async allocate(request: Request, signal: AbortSignal): Promise<readonly Address[]> {
    const { book, clock, conf, failpoint, stop } = this.#options
    const { network, containerId, ifname } = request
    const owner = { network, containerId, ifname, boot: book.boot }
    const unknown = request.subnetIds.find((id) => this.facts?.subnets.every((subnet) => subnet.id !== id))
    if (this.facts !== undefined && unknown !== undefined)
      throw new CniError(
        'invalidConfig',
        `subnet ${unknown} is not one that this node has addresses of`,
        'name it in subnetIds of the daemon too',
      )
    const end = clock.now() + conf.api.addDeadlineMs
    const key = {}
    try {
      for (;;) {
        const held = book.pool.heldBy(request)
        const families = this.#familiesOf(request.subnetIds)
        const picked = held.length > 0 ? held : this.#pick(request, families)
        if (picked !== undefined) {
          failpoint('neutron.picked')
          await book.write({ is: 'assign', ips: picked.map(({ ip }) => ip), owner, at: clock.wall() })
          failpoint('neutron.assigned')
          this.#notify()
          return picked
        }
        const isFirst = !this.#waiting.has(key)
        if (isFirst && this.#waiting.size >= MAX_WAITING)
          throw tryAgain(`${this.#waiting.size} pods wait for an address already`, this.#why())
        this.#waiting.set(key, families)
        // Once only: each change wakes all who wait, and they are not to wake each other for ever.
        if (isFirst) this.#wake.resolve()
        const left = end - clock.now()
        const hopeless = this.#hopeless(families, left)
        if (hopeless !== undefined) throw tryAgain('no address is free', hopeless)
        if (left <= 0 || signal.aborted || this.#stopped)
          throw tryAgain(`no address came within ${Math.round(conf.api.addDeadlineMs / 1000)} s`, this.#why())
        await soonest(clock, left, this.#change.promise, AbortSignal.any([signal, stop.signal]))
      }
    } finally {
      this.#waiting.delete(key)
    }
  }

  /** Why waiting would be in vain: a full subnet, and nothing on its way. */
  #hopeless(families: readonly (4 | 6)[], left: number): string | undefined {
    const { book, clock, conf } = this.#options
    for (const family of families) {
      const subnets = this.facts?.subnets.filter(({ cidr }) => familyOf(cidr) === family) ?? []
      const full = subnets.map(({ id }) => this.#growth.fullReason(id))
      const reason = full.includes(undefined) ? undefined : full[0]
      const counts = countsOf(book.pool, family, clock.wall())
      const atMost = conf.pool.max !== 0 && counts.total - counts.leaving >= conf.pool.max
      if (reason === undefined && !atMost) continue
      const soon = (nextReadyAt(book.pool, clock.wall()) ?? Number.POSITIVE_INFINITY) - clock.wall()
      if (soon <= left || counts.ready > 0 || doubtfulOf(book.pool, clock.wall(), left).length > 0) continue
      return reason ?? `pool.max is ${conf.pool.max}, and all of them are given out`
    }
    return undefined
  }

  #why(): string {
    return this.conditions()[0]?.message ?? 'the pool is being filled'
  }

  /** DEL: what the attachment held rests, then serves others. False where it held nothing. Never asks Neutron. Throws CniError 5. */
  async release(attachment: Attachment & { readonly network: string }): Promise<boolean> {
    const { book, failpoint } = this.#options
    const held = book.pool.heldBy(attachment)
    if (held.length === 0) return false
    failpoint('neutron.freeing')
    await this.#free(held.map(({ ip }) => ip))
    failpoint('neutron.freed')
    return true
  }

  async #free(ips: readonly IpText[]): Promise<void> {
    const { book, clock, conf } = this.#options
    const at = clock.wall()
    await book.write({ is: 'free', ips, at, readyAt: at + conf.pool.cooldownMs })
    this.#notify()
  }

  /** GC: frees what attachments of the network hold that are not among the valid ones; how many addresses. Throws CniError 5. */
  async collect(network: string, valid: readonly Attachment[]): Promise<number> {
    const { book } = this.#options
    const keep = new Set(valid.map(({ containerId, ifname }) => `${containerId} ${ifname}`))
    const stale = [...book.pool.addresses.values()].filter(
      ({ owner }) => owner?.network === network && !keep.has(`${owner.containerId} ${owner.ifname}`),
    )
    if (stale.length > 0) await this.#free(stale.map(({ ip }) => ip))
    return stale.length
  }

  heldBy(attachment: Attachment & { readonly network: string }): readonly Address[] {
    return this.#options.book.pool.heldBy(attachment)
  }

  /** STATUS. Throws CniError 50 where an ADD could not be served. */
  status(): void {
    const { book, clock } = this.#options
    const conditions = this.conditions()
    const [worst] = conditions
    if (worst === undefined) return
    const families = this.#familiesOf([])
    const served =
      families.length > 0 && families.every((family) => readyOf(book.pool, family, clock.wall()).length > 0)
    if (served && !book.isBroken) return
    throw unavailable(`neutron-ipam: ${worst.message}`, 'pods that run keep their addresses')
  }

  conditions(): readonly Condition[] {
    const { book } = this.#options
    const full = this.#growth.reason
    return [
      ...(book.isBroken
        ? [{ reason: 'StateNotWritable', message: `${book.path} cannot be written: is the disk full?` } as const]
        : []),
      ...(this.#trouble.condition === undefined ? [] : [this.#trouble.condition]),
      ...(full === undefined ? [] : [{ reason: 'AddressesExhausted', message: full } as const]),
    ]
  }

  view(): EngineView {
    const { book, clock } = this.#options
    const now = clock.wall()
    const intents = [...book.pool.intents.values()].map(({ at }) => at)
    return {
      families: new Map(this.#familiesOf([]).map((family) => [family, countsOf(book.pool, family, now)])),
      level: this.#level(),
      waiting: this.#waiting.size,
      oldestIntent: intents.length === 0 ? 0 : Math.max(0, (now - Math.min(...intents)) / 1000),
      foreign: book.pool.foreign.size,
    }
  }

  #level(): Level {
    return this.#trouble.level(this.#options.api.client.breakerState('network').state === 'open')
  }

  #notify(): void {
    this.#wake.resolve()
    const { resolve } = this.#change
    this.#change = Promise.withResolvers()
    resolve()
  }

  async #run(): Promise<void> {
    const { clock, stop } = this.#options
    while (!this.#stopped) {
      this.#wake = Promise.withResolvers()
      let wait = 0
      try {
        wait = await this.#round()
      } catch (error) {
        if (this.#stopped) return
        this.#failed(error)
      }
      if (wait > 0) await soonest(clock, wait, this.#wake.promise, stop.signal)
      this.#notifyWaiters()
    }
  }

  #notifyWaiters(): void {
    const { resolve } = this.#change
    this.#change = Promise.withResolvers()
    resolve()
  }

  /** One step, or none. Answers the ms until the next may be due; 0: at once. */
  async #round(): Promise<number> {
    const { keeper, clock, book, random } = this.#options
    const now = clock.now()
    if (now < this.#trouble.retryAt) return Math.min(this.#trouble.retryAt - now, this.#untilReady())
    if (!keeper.isAttached) {
      this.#trouble.begin('attach')
      await keeper.attach()
      this.#lookAt = now
      this.#succeeded('attach')
      return 0
    }
    const level = this.#level()
    if (now >= this.#lookAt && (level === 2 || keeper.isUnsettled || this.#trouble.failures > 0)) {
      this.#lookAt = now + (keeper.isUnsettled ? SOON_MS : LOOK_MS * (0.75 + random() / 2))
      this.#trouble.begin('look')
      await keeper.reconcile()
      if (!keeper.isUnsettled) this.#lookAt = clock.now() + LOOK_MS * (0.75 + random() / 2)
      this.#succeeded('look')
      return 0
    }
    const doubtful = doubtfulOf(book.pool, clock.wall())
    if (doubtful.length > 0 && (this.#waiting.size > 0 || now - this.#cleanedAt >= CLEAN_MS)) {
      this.#cleanedAt = now
      this.#trouble.begin('clean')
      await keeper.clean(doubtful)
      this.#succeeded('clean')
      return 0
    }
    for (const family of this.#familiesOf([])) if (await this.#grow(family)) return 0
    // Who waits has not taken yet what just came.
    if (level === 2 && this.#waiting.size === 0 && (await this.#shrink())) return 0
    // Nothing is left to do: what failed is not needed any more.
    this.#succeeded()
    const soon = doubtful.length > 0 ? Math.max(1, this.#cleanedAt + CLEAN_MS - now) : Number.POSITIVE_INFINITY
    const look = this.#lookAt > now ? this.#lookAt - now : SOON_MS
    return Math.max(1, Math.min(look, this.#untilReady(), soon, LOOK_MS))
  }

  /** ms until an address is ready, where somebody waits for it; else until there is something to do with it. */
  #untilReady(): number {
    const { book, clock } = this.#options
    const next = nextReadyAt(book.pool, clock.wall())
    return next === undefined ? LOOK_MS : Math.max(1, next - clock.wall() + 1)
  }

  async #grow(family: 4 | 6): Promise<boolean> {
    const { book, clock, conf, keeper, log } = this.#options
    const waiting = [...this.#waiting.values()].filter((families) => families.includes(family)).length
    const counts = countsOf(book.pool, family, clock.wall())
    const count = deficitOf(counts, conf.pool, waiting, this.#growth.factor(family))
    if (count <= 0) return false
    const subnets = this.facts?.subnets.filter(({ cidr }) => familyOf(cidr) === family) ?? []
    const subnet = subnets.find(({ id }) => this.#growth.fullReason(id) === undefined)
    if (subnet === undefined) return false
    this.#trouble.begin('grow')
    try {
      await keeper.grow(subnet.id, Math.min(64, count))
      this.#growth.grew(family, subnet.id)
      this.#succeeded('grow')
    } catch (error) {
      if (!Keeper.isExhausted(error)) throw error
      // Half of it may still fit: the last addresses of a subnet are asked for one by one before it counts as full.
      if (count > 1 && (await this.#growLast(subnet.id, error))) return true
      this.#growth.filled(subnet.id, messageOf(error))
      log('warn', 'no more addresses come from this subnet for now', { subnet: subnet.id, reason: messageOf(error) })
      this.#succeeded('grow')
    }
    return true
  }

  /** What is left of a subnet that has fewer than were asked for. */
  async #growLast(subnet: string, full: OpenStackError): Promise<boolean> {
    if (this.#options.keeper.kind === 'prefix' || full.code !== 'subnet-full') return false
    try {
      return (await this.#options.keeper.grow(subnet, 1)) > 0
    } catch (error) {
      if (Keeper.isExhausted(error)) return false
      throw error
    }
  }

  async #shrink(): Promise<boolean> {
    const { book, clock, conf, keeper } = this.#options
    const now = clock.wall()
    for (const family of this.#familiesOf([])) {
      const surplus =
        keeper.kind === 'prefix'
          ? idlePrefixOf(book.pool, family, conf.pool, now)
          : surplusOf(book.pool, family, conf.pool, now)
      if (surplus.length === 0 && book.pool.inState('leaving').length === 0) continue
      this.#trouble.begin('shrink')
      await keeper.shrink(surplus)
      this.#succeeded('shrink')
      return true
    }
    return false
  }

  #succeeded(step?: Step): void {
    if (this.#trouble.succeeded(step)) this.#options.log('info', 'Neutron does again what it did not', {})
  }

  #failed(error: unknown): void {
    const { keeper, log } = this.#options
    const wait = this.#trouble.failed(error)
    this.#lookAt = Math.min(this.#lookAt, this.#trouble.retryAt)
    // The port, or what lies on it, may be another by now.
    if (isCode(error, 'not-found') || error instanceof ClaimError) keeper.detach()
    const { failures } = this.#trouble
    const fields = { reason: messageOf(error), failures, retryInMs: Math.round(wait) }
    log(failures === 1 ? 'warn' : 'debug', 'a step in the cloud failed; it is tried again', fields)
  }

  /** Ends the requests that are under way: what they brought is found at the next start. Pods keep their addresses. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.stop.abort(new Error('the daemon ends'))
    this.#notify()
    await this.#running
  }
}
