/**
 * Keeps this node's routes in its cloud's tables as they should be: looks every minute or so, and changes what differs. One pass at a time; each begins with a
 * look at the table as it is, so that a pass that was cut off, a table that tells the past, and an operator's changes are all the same case.
 */

import { backoff } from '#cloud/again.ts'
import type { CloudName, CloudTables } from '#cloud/client.ts'
import { CloudError } from '#cloud/errors.ts'
import { planRoutes, type Step, type TablePlan, type TableRoute } from '#cloud/route-plan.ts'
import type { Lease } from '#flannel/lease.ts'
import type { Local } from '#flannel/local.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import type { Clock } from '#sys/clock.ts'
import { errorFields, type Log } from '../log.ts'
import type { CloudJournal, NotedRoute } from './journal.ts'

export interface CloudRunnerOptions {
  readonly cloud: CloudName
  /** Asks where this node is; anew when its address changes. */
  readonly open: (address: IpText, signal: AbortSignal) => Promise<CloudTables>
  readonly journal: CloudJournal
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly onPass: (outcome: 'done' | 'failed') => void
  readonly onChange: (step: Step['do']) => void
  /** Why the tables are not as they should be, or undefined. */
  readonly onState: (trouble: string | undefined) => void
}

/** Between two looks, and between a change and the look at what became of it (ms). */
const LOOK = 60_000
const SOON = 2_000
const LONGEST_RETRY = 120_000
/** One pass; an API that answers slowly must not hold it for ever. */
const PASS = 300_000
/** A look at the whole table, for dead routes of others, after so many at this node's own; each node counts from elsewhere. */
const WHOLE_EVERY = 30

export class CloudRunner implements AsyncDisposable {
  readonly #options: CloudRunnerOptions
  readonly #abort = new AbortController()
  readonly #peers = new Map<string, CidrText>()
  readonly #done: Promise<void>
  #notes: Map<string, NotedRoute>
  #nextHop: string
  #local: { readonly subnet: CidrText; readonly network: CidrText; readonly address: IpText } | undefined
  #tables: { readonly address: IpText; readonly tables: CloudTables } | undefined
  #isListed = false
  #passes: number
  #wake: (() => void) | undefined
  #isWoken = false
  #inForce: CidrText | undefined
  /** So long (ms) the API wants to be left alone. */
  #askedFor = 0

  private constructor(options: CloudRunnerOptions, nextHop: string, routes: readonly NotedRoute[]) {
    this.#options = options
    this.#nextHop = nextHop
    this.#notes = new Map(routes.map((route) => [keyOf(route.table, route.destination), route]))
    this.#passes = Math.floor(options.random() * WHOLE_EVERY)
    this.#done = this.#run().catch((error: unknown) => {
      if (!this.#abort.signal.aborted)
        options.log.error(errorFields(error), 'the route table is kept no longer; this is a mistake in Heddle itself')
    })
  }

  static async open(options: CloudRunnerOptions): Promise<CloudRunner> {
    const notes = await options.journal.read(options.log)
    return notes?.cloud === options.cloud
      ? new CloudRunner(options, notes.nextHop, notes.routes)
      : new CloudRunner(options, '', [])
  }

  /** Why no packet finds its way to this node's pods, as far as is known. A route that was seen once, in this life or a former one, is believed to be there. */
  get absent(): string | undefined {
    const subnet = this.#local?.subnet
    if (subnet === undefined || subnet === this.#inForce) return undefined
    const isNoted = [...this.#notes.values()].some(({ destination, whole }) => destination === subnet && whole)
    return isNoted ? undefined : `the route to ${subnet} in the route table of the cloud`
  }

  setLocal(local: Local): void {
    const own = local[4]
    this.#local = own === undefined ? undefined : { subnet: own.subnet, network: own.network, address: own.address }
    this.#again()
  }

  setPeer(name: string, lease: Lease | undefined): void {
    const subnet = lease?.[4]?.subnet
    if (subnet === undefined) this.#peers.delete(name)
    else this.#peers.set(name, subnet)
  }

  /** From now on all peers are known. */
  removeLeftovers(): void {
    this.#isListed = true
  }

  /** The routes stay: traffic outlives the agent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#done
  }

  #again(): void {
    this.#isWoken = true
    this.#wake?.()
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    const { random } = this.#options
    for (let failures = 0, changes = 0; !signal.aborted;) {
      this.#isWoken = false
      const result = await this.#pass(signal)
      failures = result === 'failed' ? failures + 1 : 0
      changes = result === 'changed' ? changes + 1 : 0
      const next = result === 'changed' ? Math.min(LOOK, SOON * 2 ** Math.min(changes - 1, 10)) : LOOK
      const pause =
        result === 'failed' ? backoff(failures, this.#askedFor, random, LONGEST_RETRY) : next * (0.75 + random() / 2)
      if (!this.#isWoken) await this.#pause(pause)
    }
  }

  /** Waits, unless somebody wakes it. */
  async #pause(ms: number): Promise<void> {
    const wake = new AbortController()
    this.#wake = () => wake.abort()
    await this.#options.clock.sleep(ms, AbortSignal.any([this.#abort.signal, wake.signal])).catch(() => undefined)
    this.#wake = undefined
  }

  async #pass(signal: AbortSignal): Promise<'failed' | 'changed' | 'quiet'> {
    const { onPass, onState, log } = this.#options
    if (this.#local === undefined) return 'quiet'
    try {
      const changed = await this.#mend(AbortSignal.any([signal, AbortSignal.timeout(PASS)]))
      this.#askedFor = 0
      onPass('done')
      return changed ? 'changed' : 'quiet'
    } catch (error) {
      if (signal.aborted) return 'quiet'
      this.#askedFor = error instanceof CloudError ? (error.retryAfterMs ?? 0) : 0
      onPass('failed')
      onState(errorFields(error).error)
      log.warn(
        { cloud: this.#options.cloud, ...errorFields(error) },
        'the route table of the cloud could not be kept; trying again',
      )
      return 'failed'
    }
  }

  async #mend(signal: AbortSignal): Promise<boolean> {
    const local = this.#local
    if (local === undefined) return false
    const tables = await this.#open(local.address, signal)
    const all = this.#isListed && this.#passes++ % WHOLE_EVERY === 0
    const seen = await tables.list({ subnet: local.subnet, all }, signal)
    const plan = planRoutes({
      tables: tables.tables,
      nextHop: tables.nextHop,
      ...local,
      seen,
      isNoted: (table, destination) => this.#notes.has(keyOf(table, destination)),
      ...(this.#isListed ? { alive: new Set(this.#peers.values()) } : {}),
    })
    for (const step of plan.steps) await this.#do(step, tables, signal)
    await this.#conclude(plan, tables, local.subnet)
    return plan.steps.length > 0 || !plan.isInForce
  }

  async #open(address: IpText, signal: AbortSignal): Promise<CloudTables> {
    if (this.#tables?.address === address) return this.#tables.tables
    const tables = await this.#options.open(address, signal)
    await tables.prepare(signal)
    // What was noted of another instance is no longer this node's.
    if (tables.nextHop !== this.#nextHop) this.#notes = new Map()
    this.#nextHop = tables.nextHop
    this.#tables = { address, tables }
    return tables
  }

  /** Noted before and after: whoever is killed in between leaves somebody who knows what was begun. */
  async #do(step: Step, tables: CloudTables, signal: AbortSignal): Promise<void> {
    const { table, destination } = step.do === 'create' ? step : step.route
    const key = keyOf(table, destination)
    try {
      if (step.do === 'remove') {
        await tables.remove(step.route, signal)
        if (step.route.nextHop === tables.nextHop) this.#notes.delete(key)
      } else {
        this.#notes.set(key, { table, destination, whole: false })
        await this.#note(tables)
        if (step.do === 'create') await tables.create(table, destination, signal)
        else await tables.replace(step.route, signal)
      }
    } catch (error) {
      // The table is other than it was told: the next look shows how.
      if (!(error instanceof CloudError) || (error.code !== 'exists' && error.code !== 'not-found')) throw error
      this.#options.log.info(
        { step: step.do, table, destination, ...errorFields(error) },
        'the route table has changed meanwhile',
      )
      return
    }
    this.#options.onChange(step.do)
    this.#options.log.info(
      { step: step.do, table, destination, nextHop: tables.nextHop },
      'changed the route table of the cloud',
    )
  }

  async #conclude({ conflicts, isInForce, steps }: TablePlan, tables: CloudTables, subnet: CidrText): Promise<void> {
    if (isInForce) {
      this.#inForce = subnet
      for (const table of tables.tables)
        this.#notes.set(keyOf(table, subnet), { table, destination: subnet, whole: true })
    }
    await this.#note(tables)
    const [first] = conflicts
    if (first !== undefined) throw new CloudError('conflict', conflictText(first))
    this.#options.onState(isInForce && steps.length === 0 ? undefined : `the route to ${subnet} is being made`)
  }

  async #note({ nextHop }: CloudTables): Promise<void> {
    await this.#options.journal.write({ cloud: this.#options.cloud, nextHop, routes: [...this.#notes.values()] })
  }
}

const keyOf = (table: string, destination: CidrText): string => `${table} ${destination}`

const conflictText = ({ table, destination, id, nextHop }: TableRoute): string =>
  `route table ${table}: ${destination} leads to ${nextHop === '' ? 'something else' : nextHop}${id === '' ? '' : ` (${id})`}, by somebody else's route`
