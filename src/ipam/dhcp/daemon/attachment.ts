/** One attachment of a pod with its leases: gets them, keeps them, applies what a server changes, gives them back. */

import { messageOf, tryAgain, ioFailure, type CniError } from '#cni/errors.ts'
import { GoneError, configure, netnsAt, openPodLink, unconfigure, type Configuration } from '../io/pod-link.ts'
import { isSameConfiguration, type Lease4 } from '../lease/lease4.ts'
import type { Lease6, Offer6, State6 } from '../lease/machine6.ts'
import type { State4 } from '../lease/machine4.ts'
import { configuration4, configuration6, type Leases } from '../result.ts'
import type { Message4 } from '../wire/message4.ts'
import type { Message6 } from '../wire/message6.ts'
import type { IpText } from '#ip/text.ts'
import { client4, client6, machine4, machine6, openPort4, openPort6, placeOf, type Out4 } from './clients.ts'
import type { Deps } from './deps.ts'
import { fromWall, toWall, type LeaseRecord } from './record.ts'
import { fieldsOf, releaseLeases } from './release.ts'
import { Runner } from './runner.ts'

interface Intent4 {
  readonly address: IpText
  readonly server: IpText
}
interface Out6 {
  readonly message: Message6
}
type Runner4 = Runner<State4, Message4, Lease4, Intent4, Out4>
type Runner6 = Runner<State6, Message6, Lease6, Offer6, Out6>

/** Looks that found the interface missing before the attachment is given up: the reference looks for half a minute. */
const MISSES = 3

export class Attachment implements AsyncDisposable {
  readonly #deps: Deps
  #record: LeaseRecord
  #lease4: Lease4 | undefined
  #lease6: Lease6 | undefined
  #runner4: Runner4 | undefined
  #runner6: Runner6 | undefined
  /** The plugin was answered: the pod's link has, or soon has, what the leases say. */
  #isGiven = false
  #misses = 0
  #trouble: string | undefined
  readonly #changed = new Set<() => void>()
  #failure: CniError | undefined

  constructor(record: LeaseRecord, deps: Deps) {
    this.#record = record
    this.#deps = deps
  }

  get record(): LeaseRecord {
    return this.#record
  }

  get leases(): Leases {
    return { lease4: this.#lease4, lease6: this.#lease6 }
  }

  /** Every family that was asked for has its lease. */
  get isComplete(): boolean {
    const { families } = this.#record
    return families.every((family) => (family === 4 ? this.#lease4 : this.#lease6) !== undefined)
  }

  /** Begins to ask. */
  start(): void {
    for (const family of this.#record.families) {
      if (family === 4) (this.#runner4 = this.#makeFour()).start()
      else (this.#runner6 = this.#makeSix()).start()
    }
  }

  /** Goes on where another process stopped. A family without a lease is asked for. */
  resume(): void {
    const { clock } = this.#deps
    const { lease4, lease6, families } = this.#record
    this.#isGiven = true
    if (families.includes(4)) {
      this.#runner4 = this.#makeFour()
      if (lease4 === undefined) this.#runner4.start()
      else this.#runner4.resume((this.#lease4 = fromWall(lease4, clock)))
    }
    if (families.includes(6)) {
      this.#runner6 = this.#makeSix()
      if (lease6 === undefined) this.#runner6.start()
      else this.#runner6.resume((this.#lease6 = fromWall(lease6, clock)))
    }
  }

  /** Resolves when every lease is there. Throws CniError 11 when the signal comes first, 5 when a lease cannot be written down. */
  async complete(signal: AbortSignal, patience: string): Promise<Leases> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure
      if (this.isComplete) {
        this.#isGiven = true
        return this.leases
      }
      if (signal.aborted) throw this.#late(patience)
      await this.#change(signal)
    }
  }

  /** Gives everything back; the attachment is over then. Never throws. */
  async release(): Promise<void> {
    const { book, failpoint } = this.#deps
    await this[Symbol.asyncDispose]()
    this.#record = { ...this.#record, isReleasing: true }
    // A full disk keeps no address: what it still holds of this one is found to be over at the next start.
    await book.put(this.#record).catch((error: unknown) => this.#tell(messageOf(error)))
    failpoint('dhcp.releasing')
    await releaseLeases(this.#record, this.#deps)
    failpoint('dhcp.released')
    await book.drop(this.#record.key).catch((error: unknown) => this.#tell(messageOf(error)))
  }

  /** Why nobody needs it any more, or undefined: its namespace is gone, or its interface has been for a while. Looks, and counts. */
  goneReason(): string | undefined {
    const { netns, netnsId } = this.#record
    if (netnsAt(netns) !== netnsId) return `the namespace ${netns} is gone`
    try {
      openPodLink(placeOf(this.#record))[Symbol.dispose]()
      this.#misses = 0
    } catch (error) {
      if (!(error instanceof GoneError)) throw error
      if (++this.#misses >= MISSES) return error.message
    }
    return undefined
  }

  /** Ends asking and renewing. Leases, link and record stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#runner4?.[Symbol.asyncDispose](), this.#runner6?.[Symbol.asyncDispose]()])
  }

  #late(patience: string): CniError {
    const { ifname, containerId, network, families } = this.#record
    const silent = families.filter((family) => (family === 4 ? this.#lease4 : this.#lease6) === undefined)
    const problems = [this.#runner4?.state?.problem, this.#runner6?.state?.problem, this.#trouble]
    const why = problems.filter((problem) => problem !== undefined).join('; ')
    return tryAgain(
      `no DHCP${silent.includes(6) && !silent.includes(4) ? 'v6' : ''} server gave ${ifname} of container ${containerId} (network ${network}) an address within ${patience}`,
      why === '' ? 'is there a server on this link, and do its ranges have a free address?' : why,
    )
  }

  #change(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const wake = (): void => {
      this.#changed.delete(wake)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    this.#changed.add(wake)
    signal.addEventListener('abort', wake, { once: true })
    return promise
  }

  #notify(): void {
    for (const wake of this.#changed) wake()
  }

  #makeFour(): Runner4 {
    const { clock, random, resendMax, count } = this.#deps
    const place = placeOf(this.#record)
    return new Runner<State4, Message4, Lease4, Intent4, Out4>(machine4(client4(this.#record, random, resendMax)), {
      clock,
      open: (onMessage, lease) => openPort4(place, lease?.address, onMessage, () => count('garbage', 4)),
      intend: async ({ address, server }) => {
        await this.#remember({ intent4: { address, server } })
        this.#deps.failpoint('dhcp.requesting')
      },
      bound: (lease, how) => this.#boundFour(lease, how),
      lost: async (lease, why) => {
        this.#lease4 = undefined
        await this.#lost(4, configuration4(lease, this.#record.priority), why)
      },
      trouble: (what) => this.#tell(what),
    })
  }

  #makeSix(): Runner6 {
    const { clock, random, count } = this.#deps
    const place = placeOf(this.#record)
    return new Runner<State6, Message6, Lease6, Offer6, Out6>(machine6(client6(this.#record, random)), {
      clock,
      open: (onMessage) => openPort6(place, onMessage, () => count('garbage', 6)),
      intend: ({ addresses, server }) => this.#remember({ intent6: { addresses, server } }),
      bound: (lease, how) => this.#boundSix(lease, how),
      lost: async (lease, why) => {
        this.#lease6 = undefined
        await this.#lost(6, configuration6(lease), why)
      },
      trouble: (what) => this.#tell(what),
    })
  }

  async #boundFour(lease: Lease4, how: 'new' | 'renewed' | 'rebound'): Promise<void> {
    this.#deps.failpoint('dhcp.acknowledged')
    const before = this.#lease4
    const { intent4: _, ...record } = this.#record
    this.#record = { ...record, lease4: toWall(lease, this.#deps.clock) }
    await this.#keep()
    this.#deps.failpoint('dhcp.bound')
    const { priority } = this.#record
    const isSame = before !== undefined && isSameConfiguration(before, lease)
    this.#lease4 = lease
    this.#report(4, how, { address: lease.address, server: lease.server })
    if (this.#isGiven && !isSame)
      this.#apply(
        4,
        before === undefined ? undefined : configuration4(before, priority),
        configuration4(lease, priority),
      )
    this.#notify()
  }

  async #boundSix(lease: Lease6, how: 'new' | 'renewed' | 'rebound'): Promise<void> {
    const before = this.#lease6
    const { intent6: _, ...record } = this.#record
    this.#record = { ...record, lease6: toWall(lease, this.#deps.clock) }
    await this.#keep()
    const isSame = before !== undefined && String(before.addresses) === String(lease.addresses)
    this.#lease6 = lease
    this.#report(6, how, { address: lease.addresses.join(' '), server: lease.server })
    if (this.#isGiven && !isSame)
      this.#apply(6, before === undefined ? undefined : configuration6(before), configuration6(lease))
    this.#notify()
  }

  #report(family: 4 | 6, how: 'new' | 'renewed' | 'rebound', fields: object): void {
    const event = how === 'new' ? 'acquired' : how
    this.#deps.count(event, family)
    this.#deps.log(how === 'renewed' ? 'debug' : 'info', `dhcp: ${event} a lease`, {
      ...fieldsOf(this.#record),
      ...fields,
    })
  }

  /** The disk is full, say: a new lease is not handed out, a renewed one is used nevertheless. */
  async #keep(): Promise<void> {
    try {
      await this.#deps.book.put(this.#record)
    } catch (error) {
      if (!this.#isGiven) {
        this.#failure = ioFailure('the DHCP lease cannot be written down', messageOf(error), { cause: error })
        this.#notify()
        throw error
      }
      this.#tell(messageOf(error))
    }
  }

  async #remember(part: Partial<LeaseRecord>): Promise<void> {
    this.#record = { ...this.#record, ...part }
    await this.#keep()
  }

  /** What a server changed after the pod had been given its address: the link follows. */
  #apply(family: 4 | 6, before: Configuration | undefined, after: Configuration): void {
    const fields = { ...fieldsOf(this.#record), before: before?.addresses, after: after.addresses }
    this.#deps.count('changed', family)
    this.#deps.log('warn', 'dhcp: a server changed what a pod has; its interface is changed too', fields)
    using pod = openPodLink(placeOf(this.#record))
    if (before !== undefined) unconfigure(pod, before)
    configure(pod, after)
  }

  /** From now on the address is not ours (RFC 2131 §4.4.5): it goes from the link at once. */
  async #lost(family: 4 | 6, what: Configuration, why: string): Promise<void> {
    this.#deps.count('lost', family)
    this.#deps.log('warn', `dhcp: a pod has lost its address (${why}); asking for another`, {
      ...fieldsOf(this.#record),
      addresses: what.addresses,
    })
    {
      using pod = openPodLink(placeOf(this.#record))
      unconfigure(pod, what)
    }
    const { lease4: _, ...rest } = this.#record
    const { lease6: __, ...others } = this.#record
    this.#record = family === 4 ? rest : others
    await this.#keep()
  }

  #tell(what: string): void {
    this.#trouble = what
    this.#deps.log('debug', `dhcp: ${what}`, fieldsOf(this.#record))
    this.#notify()
  }
}
