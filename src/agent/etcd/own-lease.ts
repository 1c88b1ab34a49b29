/** This node's own lease in etcd: had, kept alive, kept true, and had again when it was lost. */

import { setTimeout as delay } from 'node:timers/promises'

import { backoff } from '#etcd/backoff.ts'
import type { EtcdClient } from '#etcd/client.ts'
import { EtcdError } from '#etcd/errors.ts'
import { NO_LEASE } from '#etcd/messages.ts'
import { formatAttributes, type Attributes } from '#flannel/etcd/attributes.ts'
import { leaseName, sameSubnets, type Subnets } from '#flannel/etcd/key.ts'
import type { LeaseRanges } from '#flannel/etcd/range.ts'
import type { LeaseRecord } from '#flannel/etcd/record.ts'
import { errorFields, type Log } from '../log.ts'
import { Acquisition, type Held } from './acquisition.ts'

export interface OwnLeaseOptions {
  readonly client: EtcdClient
  /** `<prefix>/subnets/` */
  readonly prefix: string
  readonly ranges: LeaseRanges
  /** Seconds. */
  readonly ttl: number
  /** Seconds that a lease has left when it is renewed. */
  readonly renewMargin: number
  /** What of a former life is still in use. */
  readonly previous: Subnets | undefined
  /** What this node would say of itself with such subnets, or why it cannot say it yet. */
  readonly attributes: (subnets: Subnets, known: LeaseRecord | undefined) => Attributes | string
  /** The lease is there (again), maybe another one. */
  readonly onHeld: (held: Held) => void
  readonly onRenewal: (outcome: 'done' | 'failed') => void
  readonly onAcquired: (how: 'new' | 'kept' | 'reserved') => void
  readonly log: Log
  readonly random?: () => number
}

const WAIT = { base: 250, cap: 10_000 }
/** A running node whose subnet was given to another waits so often for it, about a minute, before it takes another one. */
const INSIST = 10
/** Longest that a timer may wait (ms). */
const DAY = 24 * 3600 * 1000

export class OwnLease implements AsyncDisposable {
  readonly #options: OwnLeaseOptions
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  #held: Held | undefined
  /** What this node uses, whether or not the lease is there at the moment. */
  #current: Subnets | undefined
  #renewAt = 0
  #expiresAt = 0
  #attempts = 0
  #wake = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<void>()
  #trouble: string | undefined = 'no lease has been asked for yet'

  constructor(options: OwnLeaseOptions) {
    this.#options = options
    this.#done = this.#run()
  }

  /** The key of the lease, from when it was first had: also while it is lost. */
  get key(): string | undefined {
    return this.#current === undefined ? undefined : this.#keyOf(this.#current)
  }

  /** Why the lease is not there, or says something else than it should. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Seconds that the lease has without a renewal; undefined for a reservation, or none. */
  get left(): number | undefined {
    if (this.#held === undefined || this.#held.lease === NO_LEASE) return undefined
    return Math.max(0, (this.#expiresAt - performance.now()) / 1000)
  }

  /** What the lease should say may be other than before. */
  changed(): void {
    this.#wake.resolve()
  }

  /** What the datastore says of our key; undefined when it is gone. */
  seen(record: LeaseRecord | undefined): void {
    const held = this.#held
    if (held === undefined) return
    // What we wrote ourselves, or have already written anew.
    if (record !== undefined && record.modRevision <= held.modRevision) return
    if (record !== undefined && record.value === held.value && record.lease === held.lease) {
      this.#held = { ...held, modRevision: record.modRevision }
      return
    }
    this.#options.log.warn(
      { key: held.key, lease: record?.lease.toString(16) ?? 'gone' },
      record === undefined
        ? 'our lease was deleted: taking it again'
        : 'our lease was written by somebody else: looking at it again',
    )
    this.#lost()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    this.#wake.resolve()
    this.#ended.resolve()
    await this.#done
  }

  #keyOf = (subnets: Subnets): string => this.#options.prefix + leaseName(subnets)

  #lost(): void {
    this.#held = undefined
    this.#trouble = 'the lease is lost; taking it again'
    this.#wake.resolve()
  }

  async #run(): Promise<void> {
    const { random = Math.random } = this.#options
    const { signal } = this.#abort
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers<void>()
      const waitsFor = await this.#tried(signal)
      if (waitsFor === undefined) this.#attempts = 0
      const wait = waitsFor === undefined ? this.#renewAt - performance.now() : backoff(++this.#attempts, WAIT, random)
      // What failed is put off whatever happens; what is well waits for a change.
      const wake = waitsFor === undefined ? this.#wake.promise : this.#ended.promise
      const sleeping = new AbortController()
      const timer = delay(Math.min(Math.max(wait, 10), DAY), undefined, { signal: sleeping.signal, ref: false })
      await Promise.race([timer.catch(() => undefined), wake])
      sleeping.abort()
    }
  }

  /** Undefined when all is well, else why not. */
  async #tried(signal: AbortSignal): Promise<string | undefined> {
    const { log } = this.#options
    const before = this.#trouble
    try {
      this.#trouble = await this.#step(signal)
      if (this.#trouble !== undefined && this.#trouble !== before)
        log.warn({ reason: this.#trouble }, 'this node cannot have its lease yet; trying again')
    } catch (error) {
      if (signal.aborted) return undefined
      const { error: message, code } = errorFields(error)
      if (message !== before) log.warn({ error: message, code }, 'the lease cannot be kept; trying again')
      this.#trouble = message
    }
    return this.#trouble
  }

  /** One step to where the lease is there and true. Returns why it cannot be. Throws EtcdError. */
  async #step(signal: AbortSignal): Promise<string | undefined> {
    const { attributes, onHeld, onAcquired, log } = this.#options
    if (this.#held === undefined) {
      const before = this.key
      // Who runs pods in a subnet does not give it up because of one lost race.
      const insists = this.#current !== undefined && this.#attempts < INSIST
      const acquisition = new Acquisition({ ...this.#options, current: this.#current, insists })
      const held = await acquisition.run(signal)
      if (typeof held === 'string') return held
      this.#hold(held)
      if (this.#current !== undefined && !sameSubnets(this.#current, held.subnets))
        log.error({ before, now: held.key }, "this node's subnet was given to another node: its pods must be made anew")
      this.#current = held.subnets
      onAcquired(held.how)
      log.info({ key: held.key, how: held.how, seconds: held.left }, 'this node has a lease')
      onHeld(held)
    }
    const held = this.#held
    if (held === undefined) return 'the lease is lost; taking it again'
    if (held.lease !== NO_LEASE && performance.now() >= this.#renewAt) await this.#renew(held, signal)
    return this.#keepTrue(attributes, signal)
  }

  async #keepTrue(attributes: OwnLeaseOptions['attributes'], signal: AbortSignal): Promise<string | undefined> {
    const held = this.#held
    if (held === undefined) return 'the lease is lost; taking it again'
    const wanted = attributes(held.subnets, undefined)
    // While an interface is away the lease says what it said.
    if (typeof wanted === 'string') return undefined
    const value = formatAttributes(wanted)
    if (value === held.value) return undefined
    const { client, log } = this.#options
    const { key, modRevision, lease } = held
    const { succeeded, header } = await client.putIf({ key, modRevision }, value, lease, { signal })
    // Whatever happened to it is read anew.
    if (this.#held !== held) return 'the lease has changed meanwhile'
    if (!succeeded) {
      this.#held = undefined
      return 'the lease was changed by somebody else'
    }
    this.#held = { ...held, value, modRevision: header.revision }
    log.info({ key }, 'published in our lease')
    return undefined
  }

  async #renew(held: Held, signal: AbortSignal): Promise<void> {
    const { client, onRenewal, log } = this.#options
    try {
      const ttl = await client.keepAlive(held.lease, { signal })
      onRenewal('done')
      if (this.#held?.lease === held.lease) this.#schedule(ttl)
    } catch (error) {
      if (!signal.aborted) onRenewal('failed')
      if (!(error instanceof EtcdError) || error.code !== 'not-found') throw error
      log.warn({ key: held.key }, 'our lease has ended before it was renewed: taking it again')
      this.#held = undefined
    }
  }

  #hold(held: Held): void {
    this.#held = held
    if (held.lease === NO_LEASE) this.#renewAt = Infinity
    else this.#schedule(held.left)
  }

  /** `left` in seconds. With a lease shorter than the margin, a third of it is the margin. */
  #schedule(left: number): void {
    const { renewMargin } = this.#options
    this.#expiresAt = performance.now() + left * 1000
    this.#renewAt = performance.now() + Math.max(left - renewMargin, left / 3) * 1000
  }
}
