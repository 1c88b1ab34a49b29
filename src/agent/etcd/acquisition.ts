/**
 * Getting a lease: the one that this node has, else a free one, always by a transaction, so that of two nodes that want the same one has it and the other looks
 * again. Unlike flannel's, whose lost race ends the daemon.
 */

import type { EtcdClient } from '#etcd/client.ts'
import { EtcdError } from '#etcd/errors.ts'
import { NO_LEASE, type LeaseId } from '#etcd/messages.ts'
import { formatAttributes, sameNode, type Attributes } from '#flannel/etcd/attributes.ts'
import { leaseName, overlap, sameSubnets, type Subnets } from '#flannel/etcd/key.ts'
import { chooseSubnets, fits, isPart, type LeaseRanges } from '#flannel/etcd/range.ts'
import { leaseRecord, type LeaseRecord } from '#flannel/etcd/record.ts'
import type { Log } from '../log.ts'

export interface Held {
  readonly key: string
  readonly subnets: Subnets
  /** NO_LEASE: an operator reserved it, and it stays. */
  readonly lease: LeaseId
  readonly value: string
  readonly modRevision: number
  /** Seconds that it has; 0 for a reservation. */
  readonly left: number
  readonly how: 'new' | 'kept' | 'reserved'
}

export interface AcquisitionOptions {
  readonly client: EtcdClient
  readonly prefix: string
  readonly ranges: LeaseRanges
  readonly ttl: number
  readonly previous: Subnets | undefined
  /** What this node uses at the moment. */
  readonly current: Subnets | undefined
  /** Nothing but `current` will do yet. */
  readonly insists: boolean
  readonly attributes: (subnets: Subnets, known: LeaseRecord | undefined) => Attributes | string
  readonly log: Log
  readonly random?: () => number
}

export class Acquisition {
  readonly #options: AcquisitionOptions

  constructor(options: AcquisitionOptions) {
    this.#options = options
  }

  /** The lease, or why there is none yet. Throws EtcdError. */
  async run(signal: AbortSignal): Promise<Held | string> {
    const { ranges, current, insists, previous, random = Math.random } = this.#options
    const records = await this.#list(signal)
    const some = current ?? previous ?? chooseSubnets(ranges, [], () => 0)
    if (some === undefined) return 'the network configuration leaves no subnet to lease'
    const self = this.#self(some)
    if (typeof self === 'string') return self
    const mine = records.filter(({ attributes }) => attributes !== undefined && sameNode(attributes, self))
    const isFree = (wanted: Subnets): boolean => !records.some(({ subnets }) => overlap(subnets, wanted))

    const running = current === undefined ? undefined : mine.find(({ subnets }) => sameSubnets(subnets, current))
    if (running !== undefined) return this.#settle(await this.#keep(running, signal), mine, signal)
    if (current !== undefined && isFree(current)) return this.#settle(await this.#create(current, signal), mine, signal)
    if (insists && current !== undefined) {
      const holder = records.find(({ subnets }) => overlap(subnets, current))
      return `${leaseName(current)} is in use here, and leased by ${holder?.attributes?.publicIp ?? 'another node'}`
    }
    // As flannel: by the own address, then by subnet.env, then any. Of several that are ours, that which was in use.
    const fitting = mine.filter(({ subnets }) => fits(ranges, subnets))
    const known = fitting.find(({ subnets }) => sameSubnets(subnets, previous)) ?? fitting[0]
    if (known !== undefined) return this.#settle(await this.#keep(known, signal), mine, signal)
    await this.#drop(mine, signal)
    if (previous !== undefined && fits(ranges, previous) && isFree(previous)) return this.#create(previous, signal)
    const chosen = chooseSubnets(
      ranges,
      records.filter((record) => !mine.includes(record) || record.lease === NO_LEASE).map(({ subnets }) => subnets),
      random,
    )
    return chosen === undefined ? 'every subnet from SubnetMin to SubnetMax is leased' : this.#create(chosen, signal)
  }

  /** What this node would publish, whatever its subnet; only its addresses are of interest. */
  #self(some: Subnets): Attributes | string {
    return this.#options.attributes(some, undefined)
  }

  async #list(signal: AbortSignal): Promise<readonly LeaseRecord[]> {
    const { kvs } = await this.#options.client.list(this.#options.prefix, { signal })
    return kvs.flatMap((kv) => leaseRecord(kv) ?? []).filter(({ subnets }) => isPart(this.#options.ranges, subnets))
  }

  /** A lease of ours goes on, under the etcd lease that it has: peers hear nothing unless it says something new. */
  async #keep(record: LeaseRecord, signal: AbortSignal): Promise<Held | string> {
    const { client, attributes } = this.#options
    const wanted = attributes(record.subnets, record)
    if (typeof wanted === 'string') return wanted
    const value = formatAttributes(wanted)
    const { key, subnets, modRevision } = record
    const { lease, left } = record.lease === NO_LEASE ? { lease: NO_LEASE, left: 0 } : await this.#alive(record, signal)
    const how = lease === NO_LEASE ? 'reserved' : 'kept'
    if (value === record.value && lease === record.lease) return { key, subnets, lease, value, modRevision, left, how }
    const { succeeded, header } = await client.putIf({ key, modRevision }, value, lease, { signal })
    return succeeded
      ? { key, subnets, lease, value, modRevision: header.revision, left, how }
      : `${key} changed while it was taken`
  }

  async #alive(record: LeaseRecord, signal: AbortSignal): Promise<{ readonly lease: LeaseId; readonly left: number }> {
    const { client, ttl } = this.#options
    try {
      return { lease: record.lease, left: await client.keepAlive(record.lease, { signal }) }
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== 'not-found') throw error
      const granted = await client.grant(ttl, { signal })
      return { lease: granted.id, left: granted.ttl }
    }
  }

  async #create(subnets: Subnets, signal: AbortSignal): Promise<Held | string> {
    const { client, prefix, ttl, attributes } = this.#options
    const wanted = attributes(subnets, undefined)
    if (typeof wanted === 'string') return wanted
    const value = formatAttributes(wanted)
    const key = prefix + leaseName(subnets)
    const { id: lease, ttl: left } = await client.grant(ttl, { signal })
    const { succeeded, header } = await client.putIf({ key, absent: true }, value, lease, { signal })
    const isOurs = succeeded && (await this.#isAlone(key, subnets, header.revision, signal))
    if (isOurs) return { key, subnets, lease, value, modRevision: header.revision, left, how: 'new' }
    // The key goes with it, if we made it.
    await client.revoke(lease, { signal }).catch(() => undefined)
    return `another node was quicker to lease ${leaseName(subnets)}`
  }

  /**
   * Two keys may hold one subnet in common: one with IPv6 and one without, or of different lengths. No transaction sees that, so whoever came later
   * sees it here, and yields.
   */
  async #isAlone(key: string, subnets: Subnets, revision: number, signal: AbortSignal): Promise<boolean> {
    const records = await this.#list(signal)
    return !records.some(
      (other) => other.key !== key && other.createRevision < revision && overlap(other.subnets, subnets),
    )
  }

  /** Other leases that bear our address are from before: they keep a subnet from others. */
  async #settle(held: Held | string, mine: readonly LeaseRecord[], signal: AbortSignal): Promise<Held | string> {
    if (typeof held !== 'string')
      await this.#drop(
        mine.filter(({ key }) => key !== held.key),
        signal,
      ).catch(() => undefined)
    return held
  }

  /** Reservations stay: an operator wrote them. */
  async #drop(records: readonly LeaseRecord[], signal: AbortSignal): Promise<void> {
    for (const { key, modRevision, lease } of records) {
      if (lease === NO_LEASE) continue
      const { succeeded } = await this.#options.client.deleteIf({ key, modRevision }, { signal })
      if (succeeded) this.#options.log.info({ key }, 'gave up a lease of ours that is not used')
    }
  }
}
