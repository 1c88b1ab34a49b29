/** etcd as the datastore: leases below `<prefix>/subnets`, the network configuration in `<prefix>/config`. Source: flannel's pkg/subnet/etcd. */

import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'

import { EtcdClient } from '#etcd/client.ts'
import { PrefixWatch, type Mark, type PrefixNews } from '#etcd/prefix-watch.ts'
import { backendOf } from '#flannel/backend/registry.ts'
import { FlannelError } from '#flannel/errors.ts'
import { attributesOf, type Attributes } from '#flannel/etcd/attributes.ts'
import { parseLeaseKey, type Subnets } from '#flannel/etcd/key.ts'
import { leaseRanges, type LeaseRanges } from '#flannel/etcd/range.ts'
import { ownView, type LeaseRecord } from '#flannel/etcd/record.ts'
import type { Local } from '#flannel/local.ts'
import { parseNetConf, type NetConf } from '#flannel/net-conf.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { CHECKS } from '../checks.ts'
import type { Datastore, LastKnown, NodeSink } from '../datastore.ts'
import type { EtcdDatastoreOptions } from '../etcd-options.ts'
import type { Log } from '../log.ts'
import { LeaseBook } from './lease-book.ts'
import { OwnLease } from './own-lease.ts'

export interface EtcdDatastoreParts {
  readonly node: string
  readonly etcd: EtcdDatastoreOptions
  /** Of a former life. */
  readonly subnetFile: string
  readonly userAgent: string
  readonly metrics: AgentMetrics
  readonly log: Log
}

/** Whoever deletes all leases by mistake shall not cut off pods: their nodes take them again at once. */
const GRACE = 3_000

export class EtcdDatastore implements Datastore {
  readonly absent = 'this node has no lease in etcd yet'
  readonly checks = { reached: CHECKS.etcd, published: CHECKS.lease }
  readonly #parts: EtcdDatastoreParts
  readonly #client: EtcdClient
  readonly #collector: Disposable
  readonly #listed = Promise.withResolvers<void>()
  #localText = ''
  #sink: NodeSink | undefined
  #ranges: LeaseRanges | undefined
  #book: LeaseBook | undefined
  #own: OwnLease | undefined
  #watch: PrefixWatch | undefined

  /** Throws EtcdError `config`. */
  constructor(parts: EtcdDatastoreParts) {
    this.#parts = parts
    const { endpoints, tls, user } = parts.etcd
    this.#client = new EtcdClient({ endpoints, tls, user, userAgent: parts.userAgent })
    this.#collector = parts.metrics.registry.onCollect(() => this.#collect())
  }

  async netConf(signal: AbortSignal): Promise<string> {
    const key = this.#configKey
    const { kv } = await this.#client.get(key, { signal })
    if (kv === undefined)
      throw new FlannelError(
        'bad-net-conf',
        'config',
        `there is no network configuration: etcd has no key ${key}`,
        `write one, as: etcdctl put ${key} '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'`,
      )
    const text = kv.value.toString()
    leaseRanges(parseNetConf(text))
    return text
  }

  follow(conf: NetConf, sink: NodeSink, lastKnown: LastKnown): void {
    const { node, etcd, metrics, log } = this.#parts
    const backend = backendOf(conf.backend)
    const ranges = leaseRanges(conf)
    this.#sink = sink
    this.#ranges = ranges
    const prefix = `${etcd.prefix}/subnets/`
    const attributes = (subnets: Subnets, known: LeaseRecord | undefined): Attributes | string => {
      const local = sink.preview(ownView(node, subnets, known))
      if (typeof local === 'string') return local
      return attributesOf(local, backend) ?? 'this node has no IPv4 address yet'
    }
    const own = new OwnLease({
      client: this.#client,
      prefix,
      ranges,
      ttl: etcd.ttl,
      renewMargin: etcd.renewMargin,
      previous: this.#previous(lastKnown.nodes),
      attributes,
      onHeld: ({ subnets }) => {
        sink.node(ownView(node, subnets))
        book.ownChanged()
      },
      onRenewal: (outcome) => metrics.leaseRenewals.add({ outcome }),
      onAcquired: (how) => metrics.leaseAcquisitions.add({ how }),
      log,
    })
    const book = new LeaseBook({
      prefix,
      backendType: backend.type,
      sink,
      clock: systemClock,
      log,
      grace: GRACE,
      lifetime: etcd.ttl * 1000,
      lastKnown: lastKnown.nodes.filter(({ name }) => name !== node && parseLeaseKey(name) !== undefined),
      ownKey: () => own.key,
      onOwn: (record) => own.seen(record),
    })
    this.#own = own
    this.#book = book
    this.#watch = new PrefixWatch({
      client: this.#client,
      prefix: `${etcd.prefix}/`,
      clock: systemClock,
      mark: lastKnown.mark,
      on: (news) => this.#hear(news, book),
      onFailure: (error, retryIn) => {
        metrics.informerRestarts.add({ resource: 'leases' })
        log.warn({ error: error.message, code: error.code, retryIn }, 'the leases cannot be watched; trying again')
      },
    })
  }

  async synced(ms: number): Promise<boolean> {
    const timeout = Promise.withResolvers<void>()
    const timer = setTimeout(timeout.resolve, ms)
    await Promise.race([this.#listed.promise, timeout.promise])
    clearTimeout(timer)
    return this.#book?.isListed ?? false
  }

  /** Another range may have no place for the subnet that pods here live in. */
  objection(conf: NetConf): string | undefined {
    try {
      return isDeepStrictEqual(leaseRanges(conf), this.#ranges)
        ? undefined
        : 'Network, SubnetLen, SubnetMin or SubnetMax are others, and pods of this node have addresses of its subnet: restart the agent when they are gone'
    } catch (error) {
      if (error instanceof FlannelError) return error.message
      throw error
    }
  }

  /** etcd has no place for it. */
  tell(): void {
    // Log and /readyz say it.
  }

  publish(local: Local): void {
    const text = JSON.stringify(local)
    if (text === this.#localText) return
    this.#localText = text
    this.#own?.changed()
  }

  reconnect(): void {
    this.#parts.log.info({}, 'the address of this node has changed: connecting to etcd anew')
    this.#client[Symbol.dispose]()
    this.#own?.changed()
  }

  get trouble(): string | undefined {
    if (this.#watch === undefined) return 'not asked yet'
    if (this.#watch.trouble !== undefined) return this.#watch.trouble.message
    return this.#book?.isListed === true ? undefined : 'the leases have not been listed yet'
  }

  get unpublished(): string | undefined {
    return this.#own === undefined ? 'no lease has been asked for yet' : this.#own.trouble
  }

  get mark(): Mark | undefined {
    return this.#watch?.mark
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#collector[Symbol.dispose]()
    await this.#watch?.[Symbol.asyncDispose]()
    await this.#own?.[Symbol.asyncDispose]()
    this.#book?.[Symbol.dispose]()
    this.#client[Symbol.dispose]()
  }

  get #configKey(): string {
    return `${this.#parts.etcd.prefix}/config`
  }

  /** What this node used before: subnet.env says it until the next boot, the last-known cluster after it. */
  #previous(nodes: readonly NodeView[]): Subnets | undefined {
    const own = nodes.find(({ name }) => name === this.#parts.node)
    let cidrs: readonly string[] = own?.podCidrs ?? []
    try {
      const said = parseSubnetEnv(readFileSync(this.#parts.subnetFile, 'utf8'))
      if (typeof said !== 'string') cidrs = said.subnets
    } catch {
      // Not there, as after a boot.
    }
    return parseLeaseKey(cidrs.map((cidr) => cidr.replace('/', '-')).join('&'))
  }

  #hear(news: PrefixNews, book: LeaseBook): void {
    if (news.type === 'list') {
      const config = news.kvs.find(({ key }) => key === this.#configKey)
      if (config !== undefined) this.#sink?.conf(Buffer.from(config.value).toString())
      book.hear({ ...news, kvs: news.kvs.filter(({ key }) => key !== this.#configKey) })
      this.#listed.resolve()
    } else if (news.type === 'put' && news.kv.key === this.#configKey)
      this.#sink?.conf(Buffer.from(news.kv.value).toString())
    else book.hear(news)
  }

  #collect(): void {
    const { metrics } = this.#parts
    metrics.leasesDoubtful.set(this.#book?.doubtful ?? 0)
    const left = this.#own?.left
    metrics.leaseLeft.clear()
    if (left !== undefined) metrics.leaseLeft.set(Math.round(left))
  }
}
