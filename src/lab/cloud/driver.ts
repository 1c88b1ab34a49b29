/** Keeps the kernel as Neutron's database says: reads it after every request that somebody made, and now and then anyway. */

import { ensureTable } from '#nft/ensure.ts'
import { openNft } from '#nft/transaction.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { systemClock, type Clock } from '#sys/clock.ts'
import { errorFields, type Log } from '#agent/log.ts'
import { netnsPath } from '../paths.ts'
import type { LabPlan } from '../plan.ts'
import { layCables } from './cables.ts'
import { readDatabase, type Database } from './database.ts'
import { allowedOf, guardTable, type Guarded } from './guard.ts'
import { natTable } from './nat.ts'
import type { CloudPlan } from './plan.ts'
import type { CloudState } from './state.ts'
import { wiringOf } from './wiring.ts'

export interface DriverOptions {
  readonly plan: LabPlan
  readonly cloud: CloudPlan
  readonly state: CloudState
  readonly admin: OpenStackClient
  readonly log: Log
  readonly clock?: Clock
}

/** Between two readings that nobody asked for. */
const IDLE_MS = 10_000
/** A request is seen before it is answered: a moment later there is something to read. */
const SOON_MS = 50
/** At most so often, however busy the API is. */
const GAP_MS = 250
const MAX_BACKOFF_MS = 5000

export class Driver implements AsyncDisposable {
  readonly #options: DriverOptions
  readonly #clock: Clock
  readonly #fabric: NetlinkSocket
  readonly #router: NetlinkSocket
  readonly #ended = new AbortController()
  /** When an address was first seen, by port, MAC and address: it may send when the filter's delay is over. */
  #seen = new Map<string, number>()
  #database: Database | undefined
  #wanted = true
  #wake: (() => void) | undefined
  #waiting: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = []
  readonly #running: Promise<void>

  constructor(options: DriverOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#fabric = openNft({ netns: netnsPath(options.plan.fabric.namespace) })
    this.#router = openNft({ netns: netnsPath(options.cloud.router) })
    this.#running = this.#run()
  }

  /** Something may have changed. */
  nudge(): void {
    this.#wanted = true
    this.#wake?.()
  }

  /** Resolves when what the database says now is done; rejects with the failure of the next attempt. */
  settled(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ resolve, reject })
    this.nudge()
    return promise
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort()
    this.#wake?.()
    await this.#running
    for (const { reject } of this.#waiting) reject(new Error('the cloud ends'))
    this.#fabric[Symbol.dispose]()
    this.#router[Symbol.dispose]()
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended
    let failures = 0
    let next = 0
    while (!signal.aborted) {
      if (!this.#wanted) await this.#pause(next)
      if (signal.aborted) return
      await this.#sleep(
        failures === 0 ? SOON_MS : Math.min(GAP_MS * 2 ** failures, MAX_BACKOFF_MS) * (0.5 + Math.random()),
      )
      this.#wanted = false
      const asking = this.#waiting
      this.#waiting = []
      try {
        next = await this.#once()
        failures = 0
        for (const { resolve } of asking) resolve()
      } catch (error) {
        if (signal.aborted) return
        failures++
        this.#wanted = true
        this.#options.log.warn(
          { failures, ...errorFields(error) },
          'the cloud is not as its database says: trying again',
        )
        for (const { reject } of asking) reject(error)
      }
      await this.#sleep(GAP_MS)
    }
  }

  /** One round. Returns the milliseconds until the next one is due anyway. */
  async #once(): Promise<number> {
    const { admin, state, plan, cloud } = this.#options
    const database = await readDatabase(admin, state.router, this.#database)
    this.#database = database
    const wiring = wiringOf(database, state)
    await layCables(plan, cloud.router, wiring)
    const cards = new Set(wiring.cards.map(({ port }) => port))
    const { guarded, due } = this.#guarded(database.ports.filter(({ id }) => cards.has(id)))
    await ensureTable(this.#fabric, guardTable(guarded))
    await ensureTable(this.#router, natTable(database, wiring))
    return due
  }

  /** What each port may send from now on, and when the next address is due. What was there at the start is not made to wait. */
  #guarded(ports: Database['ports']): { readonly guarded: readonly Guarded[]; readonly due: number } {
    const isFirst = this.#seen.size === 0
    const now = this.#clock.now()
    const delay = this.#options.cloud.filterDelayMs
    const seen = new Map<string, number>()
    let due = IDLE_MS
    const guarded = ports.map((port): Guarded => ({
      port,
      allowed: allowedOf(port).filter(({ mac, from }) => {
        const key = `${port.id} ${mac} ${from}`
        const since = this.#seen.get(key) ?? (isFirst ? -Infinity : now)
        seen.set(key, since)
        const left = since + delay - now
        if (left > 0) due = Math.min(due, left)
        return left <= 0
      }),
    }))
    this.#seen = seen
    return { guarded, due }
  }

  /** Until somebody nudges, or the time is over. */
  async #pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    using _timer = this.#clock.timeout(ms, resolve)
    await promise
    this.#wake = undefined
  }

  async #sleep(ms: number): Promise<void> {
    await this.#clock.sleep(ms, this.#ended.signal).catch(() => undefined)
  }
}
