/**
 * The cluster's leases as far as they can be believed. What an event ends is gone when it does not come back at once; what a list lacks is gone when the
 * list can be trusted, and else kept for as long as a lease may last. Does no I/O.
 */

import type { KeyValue } from '#etcd/messages.ts'
import type { PrefixNews } from '#etcd/prefix-watch.ts'
import { sameNode } from '#flannel/etcd/attributes.ts'
import { leaseRecord, recordName, viewOf, type LeaseRecord } from '#flannel/etcd/record.ts'
import type { NodeView } from '#flannel/node-view.ts'
import type { Clock } from '#sys/clock.ts'
import type { NodeSink } from '../datastore.ts'
import type { Log } from '../log.ts'

export interface LeaseBookOptions {
  /** `<prefix>/subnets/` */
  readonly prefix: string
  /** As in values: empty for udp. */
  readonly backendType: string
  readonly sink: Pick<NodeSink, 'list' | 'node' | 'gone'>
  readonly clock: Clock
  readonly log: Log
  /** Milliseconds that whoever lost a lease has to take it again before its pods are cut off. */
  readonly grace: number
  /** Milliseconds that a lease may last without its node. */
  readonly lifetime: number
  /** Peers of a former life, named by their leases. */
  readonly lastKnown: readonly NodeView[]
  /** Our own lease; its key is none of the peers'. */
  readonly ownKey: () => string | undefined
  /** Something happened to our own lease; undefined when it is gone. */
  readonly onOwn: (record: LeaseRecord | undefined) => void
}

interface Peer {
  /** Undefined for a peer of a former life. */
  readonly record: LeaseRecord | undefined
  readonly view: NodeView
}

export class LeaseBook implements Disposable {
  readonly #options: LeaseBookOptions
  readonly #peers = new Map<string, Peer>()
  /** Peers that were told to be gone, or are kept in doubt, with what ends them. */
  readonly #leaving = new Map<string, Disposable>()
  readonly #doubtful = new Set<string>()
  #isListed = false

  constructor(options: LeaseBookOptions) {
    this.#options = options
    for (const view of options.lastKnown) this.#peers.set(`${options.prefix}${view.name}`, { record: undefined, view })
  }

  /** Leases that no list and no event speaks for at the moment. */
  get doubtful(): number {
    return this.#doubtful.size
  }

  get isListed(): boolean {
    return this.#isListed
  }

  *records(): Generator<LeaseRecord> {
    for (const { record } of this.#peers.values()) if (record !== undefined) yield record
  }

  hear(news: PrefixNews): void {
    if (news.type === 'list') this.#list(news.kvs, news.isOlder)
    else if (news.type === 'put') this.#put(news.kv)
    else this.#delete(news.key)
  }

  /** Our own lease is another one now: the former is nobody's, or a peer's. */
  ownChanged(): void {
    const own = this.#options.ownKey()
    if (own !== undefined && this.#peers.has(own)) this.#forget(own)
    if (this.#isListed) this.#tell()
  }

  [Symbol.dispose](): void {
    for (const timer of this.#leaving.values()) timer[Symbol.dispose]()
    this.#leaving.clear()
  }

  #list(kvs: readonly KeyValue[], isOlder: boolean): void {
    const { prefix, log, ownKey, onOwn } = this.#options
    const own = ownKey()
    const records = new Map(kvs.flatMap((kv) => this.#read(kv) ?? []).map((record) => [record.key, record]))
    const mine = own === undefined ? undefined : records.get(own)
    // Before the first lease of ours there is nothing that a list could lack; a node with peers and without any list to prove them is not new.
    const isTrusted = !isOlder && (own === undefined ? records.size > 0 || this.#peers.size === 0 : mine !== undefined)
    const missing = [...this.#peers.keys()].filter((key) => !records.has(key))
    for (const record of records.values()) if (record.key !== own) this.#take(record)
    if (!isTrusted && missing.length > 0)
      log.warn(
        { leases: records.size, missing: missing.length, prefix },
        'the list of leases is empty, lacks our own or is older than what was known: nobody is forgotten because of it',
      )
    for (const key of missing) {
      if (isTrusted) this.#leave(key)
      else this.#doubt(key)
    }
    this.#isListed = true
    this.#tell()
    if (own !== undefined) onOwn(mine)
  }

  #put(kv: KeyValue): void {
    const { ownKey, onOwn, sink } = this.#options
    const record = this.#read(kv)
    if (record === undefined) return
    if (record.key === ownKey()) return onOwn(record)
    const view = this.#take(record)
    if (this.#isListed) sink.node(view)
  }

  #delete(key: string): void {
    const { ownKey, onOwn } = this.#options
    if (key === ownKey()) onOwn(undefined)
    else if (this.#peers.has(key)) this.#leave(key)
  }

  #read(kv: KeyValue): LeaseRecord | undefined {
    return kv.key.startsWith(this.#options.prefix) ? leaseRecord(kv) : undefined
  }

  #take(record: LeaseRecord): NodeView {
    this.#stay(record.key)
    const view = viewOf(record, recordName(record), this.#options.backendType)
    this.#peers.set(record.key, { record, view })
    const { attributes } = record
    // A node that was kept in doubt and is there again with another lease has moved.
    if (attributes !== undefined)
      for (const key of this.#doubtful) {
        const other = this.#peers.get(key)
        const isSame =
          other?.record?.attributes === undefined
            ? other?.view.annotations.publicIp === attributes.publicIp
            : sameNode(other.record.attributes, attributes)
        if (isSame) this.#forget(key)
      }
    return view
  }

  #stay(key: string): void {
    this.#leaving.get(key)?.[Symbol.dispose]()
    this.#leaving.delete(key)
    this.#doubtful.delete(key)
  }

  #leave(key: string): void {
    if (this.#leaving.has(key) && !this.#doubtful.has(key)) return
    this.#stay(key)
    this.#leaving.set(
      key,
      this.#options.clock.timeout(this.#options.grace, () => this.#forget(key)),
    )
  }

  #doubt(key: string): void {
    if (this.#leaving.has(key)) return
    this.#doubtful.add(key)
    this.#leaving.set(
      key,
      this.#options.clock.timeout(this.#options.lifetime, () => this.#forget(key)),
    )
  }

  #forget(key: string): void {
    this.#stay(key)
    const peer = this.#peers.get(key)
    if (!this.#peers.delete(key) || peer === undefined || !this.#isListed) return
    this.#options.sink.gone(peer.view.name)
  }

  /** Everything that is believed. Before our own lease is there, leftovers of a former life are not yet swept away. */
  #tell(): void {
    const views = [...this.#peers.values()].map(({ view }) => view)
    this.#options.sink.list(views, this.#options.ownKey() !== undefined)
  }
}
