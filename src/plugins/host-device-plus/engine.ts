/** Cards from nothing to a pod, and back: each step is on disk before it is done, so that whoever comes after a kill goes on from there. */

import { messageOf, tryAgain } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { Link } from '#netlink/link-codec.ts'
import { OpenStackError } from '#openstack/errors.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import type { Book } from './book.ts'
import { isIdle, newCardId, type Card, type Holder } from './card.ts'
import type { Home, NicCloud } from './cloud.ts'
import type { NicConf } from './config.ts'
import { awaitCard, bringBack, deviceOf, findCard } from './device.ts'
import { cniErrorOf } from './errors.ts'
import { tellStep, type NicStep } from './observe.ts'
import { roomFor } from './plan.ts'

export type NicHost = Pick<PluginHost, 'root' | 'netlink' | 'failpoint' | 'log'>

export interface EngineOptions {
  readonly conf: NicConf
  readonly host: NicHost
  readonly book: Book
  /** Opened at its first use: most calls need none. */
  readonly cloud: () => NicCloud
  readonly home: (cloud: NicCloud) => Promise<Home>
  readonly clock?: Clock
  readonly random?: () => number
  /** Milliseconds in which a request of somebody who was killed may still be carried out. */
  readonly settleMs?: number
}

/** A card with its lock, and its link on the host. */
export interface Held extends Disposable {
  readonly card: Card
  readonly link: Link
}

const SETTLE_MS = 60_000
/** A call that takes a card off the server ends well before its own deadline. */
const REMOVE_MS = 30_000
/** Between looks for a card that somebody else is making or giving back. */
const LOOK_MS = 200
const ASK_AGAIN_MS = 5_000

export class Engine {
  readonly options: EngineOptions
  readonly #clock: Clock

  constructor(options: EngineOptions) {
    this.options = options
    this.#clock = options.clock ?? systemClock
  }

  /** A card of the pool, else a new one. Throws CniError 11 at the limit, and what the cloud says as `cniErrorOf` has it. */
  async acquire(holder: Holder): Promise<Held> {
    const { conf, book } = this.options
    const deadline = this.#clock.now() + conf.attachTimeoutMs
    let full: { readonly cards: string; readonly until: number } | undefined
    for (;;) {
      const idle = await this.#takeIdle(holder)
      if (idle !== undefined) return idle
      const cards = book.list()
      const now = this.#clock.now()
      // The cloud is asked again when something has changed here, or after a while.
      const state = cards.map(({ id, state, holder: of }) => `${id} ${state} ${of?.containerId ?? ''}`).join()
      if (full === undefined || full.cards !== state || full.until <= now) {
        const made = await this.begin(holder)
        if (made !== undefined) return this.make(made.card, made.lock, made.home)
        full = { cards: state, until: now + ASK_AGAIN_MS }
      }
      // What is on its way into the pool or off the server may make room.
      const mayCome = cards.some(({ state, holder: of }) => state === 'leaving' || of === undefined)
      if (!mayCome || now > deadline)
        throw tryAgain(
          `the node has no place for another card: its limit is ${conf.deviceLimit}, what others attached included`,
          'ask for the resource heddle.io/neutron-nics in the pod, so that the scheduler counts; or raise nova.deviceLimit if the server has more PCI slots',
        )
      await this.#clock.sleep(LOOK_MS * (0.75 + this.#random() / 2))
    }
  }

  /** Without a request. */
  async #takeIdle(holder: Holder): Promise<Held | undefined> {
    const { conf, book, host } = this.options
    return book.alone(() => {
      for (const { id } of book.list().filter((card) => card.network === conf.network && isIdle(card))) {
        const lock = book.tryHold(id)
        if (lock === undefined) continue
        const card = book.read(id)
        const link = card === undefined || !isIdle(card) ? undefined : findCard(host, card)
        // Unplugged, or of the server that this disk was copied from: a round takes care of it.
        if (card === undefined || link === undefined) {
          lock[Symbol.dispose]()
          continue
        }
        return held(this.#write({ ...card, holder, device: card.device ?? deviceOf(link) }), link, lock)
      }
      return undefined
    })
  }

  /** A place for another card, taken before anything is asked for. Undefined at the limit. */
  async begin(holder: Holder | undefined): Promise<{ card: Card; lock: Disposable; home: Home } | undefined> {
    const { conf, book } = this.options
    const [home, attached] = await this.ask(
      `network ${JSON.stringify(conf.network)} needs another card`,
      async (cloud) => {
        const found = await this.options.home(cloud)
        return [found, await cloud.attached(found.server)] as const
      },
    )
    return book.alone(() => {
      if (roomFor(conf.deviceLimit, attached, cardsOf(book, home.server)) === 0) return undefined
      const id = newCardId()
      const lock = book.tryHold(id)
      if (lock === undefined) return undefined
      const { network, cluster } = conf
      const of = holder === undefined ? {} : { holder }
      const card = {
        version: 1,
        id,
        state: 'creating',
        since: this.#clock.wall(),
        cluster,
        server: home.server,
        network,
        ...of,
      } as const
      try {
        return { card: this.#write(card), lock, home }
      } catch (error) {
        lock[Symbol.dispose]()
        throw error
      }
    })
  }

  /** Port, card, link. What fails is taken back before the error goes on, as far as the cloud lets it. */
  async make(begun: Card, lock: Disposable, { server, networkId }: Home): Promise<Held> {
    const { conf, host } = this.options
    let card = begun
    const what = `network ${JSON.stringify(conf.network)}: no card for the pod`
    try {
      host.failpoint('host-device-plus.creating')
      const port = await this.#step('create', what, (cloud) => cloud.create(card, networkId, conf))
      host.failpoint('host-device-plus.created')
      card = this.#write({ ...card, state: 'attaching', since: this.#clock.wall(), port })
      host.failpoint('host-device-plus.attaching')
      const link = await this.#step('attach', what, (cloud) => this.#attach(cloud, server, port.id, port.mac))
      host.failpoint('host-device-plus.attached')
      card = this.#write({ ...card, state: 'ready', since: this.#clock.wall(), device: deviceOf(link) })
      host.failpoint('host-device-plus.ready')
      return held(card, link, lock)
    } catch (error) {
      await this.drop(card, !isUnsure(error)).catch((cause: unknown) =>
        host.log('warn', `card ${card.id} that could not be made is still to be removed`, { error: messageOf(cause) }),
      )
      lock[Symbol.dispose]()
      throw error
    }
  }

  /** The link counts, not the answer: it may come although that got lost, and some time after it. */
  async #attach(cloud: NicCloud, server: string, port: string, mac: NonNullable<Link['mac']>): Promise<Link> {
    const { host, conf } = this.options
    const { attachTimeoutMs } = conf
    using _turn = await cloud.turn(attachTimeoutMs)
    const stop = new AbortController()
    const link = awaitCard(host, mac, attachTimeoutMs, stop.signal, this.#clock)
    const asked = cloud.attach(server, port, attachTimeoutMs, stop.signal).catch((error: unknown) => {
      if (error instanceof OpenStackError && error.perhapsDone) return
      throw error
    })
    try {
      const [found] = await Promise.all([link, asked])
      return found
    } catch (error) {
      stop.abort(error)
      throw error
    } finally {
      await Promise.allSettled([link, asked])
    }
  }

  /**
   * After its pod: the link comes back at once, while its namespace is there. Then it is of the pool, or on its way out, which `finish` or a round
   * goes on with. Holds the lock while it works.
   */
  async release(id: string): Promise<void> {
    const { conf, book, host } = this.options
    using _lock = await book.hold(id)
    const card = book.read(id)
    if (card === undefined) return
    host.failpoint('host-device-plus.return')
    const link = await bringBack(host, card)
    host.failpoint('host-device-plus.returned')
    const { holder: _, ...free } = card
    const isKept = conf.onDelete === 'keep' && card.state === 'ready' && card.lost === undefined && link !== undefined
    await book.alone(() => {
      const idle = book.list().filter((one) => one.network === card.network && isIdle(one)).length
      const state = isKept && idle < conf.poolSize ? 'ready' : 'leaving'
      this.#write({ ...free, state, since: card.state === state ? card.since : this.#clock.wall() })
    })
    host.failpoint('host-device-plus.freed')
  }

  /** Takes what is on its way out off the server, as far as the cloud lets it now. */
  async finish(id: string): Promise<void> {
    const { book } = this.options
    using lock = book.tryHold(id)
    const card = lock === undefined ? undefined : book.read(id)
    if (card?.state === 'leaving') await this.drop(card)
  }

  /**
   * Off the server, then off Neutron, then off the disk. The lock is held, and the link is not in a pod. `isSettled`: no request for its port is under
   * way any more; else the record stays until none can be.
   */
  async drop(card: Card, isSettled?: boolean): Promise<void> {
    const { conf, book, host } = this.options
    const { holder: _, ...free } = card
    const leaving: Card = card.state === 'leaving' ? card : this.#write({ ...free, state: 'leaving' })
    await this.#step('detach', `card ${card.id} cannot be removed`, async (cloud) => {
      const home = await this.options.home(cloud)
      if (home.server !== card.server) {
        host.log('warn', `card ${card.id} is server ${card.server}'s, and this is ${home.server}: it is forgotten`)
        book.remove(card.id)
        return
      }
      host.failpoint('host-device-plus.detach')
      const named = (await cloud.find(leaving)).map(({ id }) => id)
      const ports = [...new Set([...(leaving.port === undefined ? [] : [leaving.port.id]), ...named])]
      await cloud.remove(card.server, ports, Math.min(conf.attachTimeoutMs, REMOVE_MS))
      host.failpoint('host-device-plus.detached')
      const isOver = ports.length > 0 || this.#clock.wall() - card.since >= this.#settleMs
      if (isSettled ?? isOver) book.remove(card.id)
    })
  }

  /** Places of the server that pods have or can have. Throws as `cniErrorOf` has it. */
  async places(): Promise<{ readonly room: number; readonly portRoom: number }> {
    const { conf, book } = this.options
    return this.ask('no card can be made', async (cloud) => {
      const { server } = await this.options.home(cloud)
      const [attached, portRoom] = await Promise.all([cloud.attached(server), cloud.portRoom()])
      return { room: roomFor(conf.deviceLimit, attached, cardsOf(book, server)), portRoom }
    })
  }

  #write(card: Card): Card {
    return this.options.book.write(card)
  }

  get #settleMs(): number {
    return this.options.settleMs ?? SETTLE_MS
  }

  #random(): number {
    return (this.options.random ?? Math.random)()
  }

  async #step<T>(step: NicStep, doing: string, work: (cloud: NicCloud) => Promise<T>): Promise<T> {
    try {
      const result = await this.ask(doing, work)
      tellStep(step, 'done')
      return result
    } catch (error) {
      tellStep(step, 'failed')
      throw error
    }
  }

  async ask<T>(doing: string, work: (cloud: NicCloud) => Promise<T>): Promise<T> {
    try {
      return await work(this.options.cloud())
    } catch (error) {
      throw cniErrorOf(error, doing)
    }
  }
}

const held = (card: Card, link: Link, lock: Disposable): Held => ({
  card,
  link,
  [Symbol.dispose]: () => lock[Symbol.dispose](),
})

export const cardsOf = (book: Book, server: string): readonly Card[] =>
  book.list().filter((card) => card.server === server)

/** A request was sent, and nobody knows what became of it. */
const isUnsure = (error: unknown): boolean =>
  error instanceof Error && error.cause instanceof OpenStackError && error.cause.perhapsDone
