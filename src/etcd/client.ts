/** An etcd cluster: its endpoints with fail-over, its users, and the operations of the v3 API that a pod network needs. */

import { setTimeout as delay } from 'node:timers/promises'

import type { Secret } from '#sys/secret.ts'
import { Channel, type Call } from './channel.ts'
import { parseEndpoint, type TlsFiles } from './endpoint.ts'
import { EtcdError } from './errors.ts'
import {
  prefixEnd,
  putRequest,
  rangeRequest,
  readHeader,
  readRange,
  txnRequest,
  type Condition,
  type Header,
  type KeyValue,
  type LeaseId,
  type RangeRequest,
  type RangeResult,
} from './messages.ts'
import { encode, Message } from './proto.ts'

export interface EtcdUser {
  readonly name: string
  readonly password: Secret
}

export interface EtcdOptions {
  /** `http://HOST:PORT` or `https://HOST:PORT`, at least one. */
  readonly endpoints: readonly string[]
  readonly tls?: TlsFiles
  readonly user?: EtcdUser | undefined
  readonly userAgent?: string
  /** Milliseconds for each answer. */
  readonly timeout?: number
  readonly connectTimeout?: number
}

export interface Asked {
  readonly signal?: AbortSignal | undefined
}

/** Everything below a prefix at one revision. */
export interface Listing {
  readonly header: Header
  readonly kvs: readonly KeyValue[]
}

export interface Grant {
  readonly id: LeaseId
  /** Seconds; the server may give more than was asked for. */
  readonly ttl: number
}

const TIMEOUT = 5_000
const CONNECT_TIMEOUT = 3_000
/** Keys of one answer. */
const PAGE = 500
/** More keys than any pod network has are not kept in memory. */
const MAX_KEYS = 100_000

export class EtcdClient implements Disposable {
  readonly #options: EtcdOptions
  readonly #channels: readonly Channel[]
  #current = 0
  /** From Authenticate; undefined where there are no users, or none has been asked for yet. */
  #token: Promise<string> | undefined

  /** Throws EtcdError `config`. */
  constructor(options: EtcdOptions) {
    const { endpoints, tls = {}, userAgent = 'heddle', connectTimeout = CONNECT_TIMEOUT } = options
    if (endpoints.length === 0) throw new EtcdError('config', 'etcd', 'there is no endpoint')
    this.#options = options
    this.#channels = endpoints.map(
      (text) => new Channel({ endpoint: parseEndpoint(text), tls, userAgent, connectTimeout }),
    )
  }

  /** The endpoint that is asked first. */
  get endpoint(): string {
    return this.#channel().name
  }

  [Symbol.dispose](): void {
    for (const channel of this.#channels) channel[Symbol.dispose]()
  }

  /** Like `etcdctl get`; linearizable. */
  async range(request: RangeRequest, asked: Asked = {}): Promise<RangeResult> {
    return readRange(await this.#ask('KV/Range', encode(rangeRequest(request)), asked, true))
  }

  /** One key; `kv` undefined where it is not. */
  async get(key: string, asked: Asked = {}): Promise<{ readonly header: Header; readonly kv: KeyValue | undefined }> {
    const { header, kvs } = await this.range({ key }, asked)
    return { header, kv: kvs[0] }
  }

  /** Everything below a prefix as of one revision, in pages. Like `etcdctl get --prefix`. Throws EtcdError `too-large` for over 100,000 keys. */
  async list(prefix: string, asked: Asked = {}): Promise<Listing> {
    const end = prefixEnd(prefix)
    const kvs: KeyValue[] = []
    let header: Header | undefined
    for (let key = prefix, limit = PAGE; ;) {
      let page: RangeResult
      try {
        page = await this.range(
          { key, end, limit, ...(header === undefined ? {} : { revision: header.revision }) },
          asked,
        )
      } catch (error) {
        // Values may be of any size: fewer at once.
        if (!(error instanceof EtcdError) || error.code !== 'too-large' || limit === 1) throw error
        limit = Math.max(1, limit >> 3)
        continue
      }
      header ??= page.header
      for (const kv of page.kvs) kvs.push(kv)
      const last = page.kvs.at(-1)
      if (!page.more || last === undefined) return { header, kvs }
      if (kvs.length > MAX_KEYS)
        throw new EtcdError('too-large', `etcd ${this.endpoint} Range`, `more than ${MAX_KEYS} keys below ${prefix}`)
      key = `${last.key}\0`
    }
  }

  /** Like `etcdctl put`. */
  async put(key: string, value: string, lease: LeaseId, asked: Asked = {}): Promise<Header> {
    return readHeader(await this.#ask('KV/Put', encode(putRequest(key, value, lease)), asked, false))
  }

  /** Puts a key if the condition on it holds. Returns whether it did. */
  async putIf(
    condition: Condition,
    value: string,
    lease: LeaseId,
    asked: Asked = {},
  ): Promise<{ readonly header: Header; readonly succeeded: boolean }> {
    return this.#txn(txnRequest(condition, ['put', putRequest(condition.key, value, lease)]), asked)
  }

  /** Deletes a key if the condition on it holds. Returns whether it did. */
  async deleteIf(
    condition: Condition,
    asked: Asked = {},
  ): Promise<{ readonly header: Header; readonly succeeded: boolean }> {
    return this.#txn(txnRequest(condition, ['delete', [[1, condition.key]]]), asked)
  }

  async #txn(request: Buffer, asked: Asked): Promise<{ readonly header: Header; readonly succeeded: boolean }> {
    const answer = await this.#ask('KV/Txn', request, asked, false)
    return { header: readHeader(answer), succeeded: answer.flag(2) }
  }

  /** Like `etcdctl lease grant`; `ttl` in seconds. */
  async grant(ttl: number, asked: Asked = {}): Promise<Grant> {
    const answer = await this.#ask('Lease/LeaseGrant', encode([[1, ttl]]), asked, false)
    const error = answer.text(4)
    if (error !== '') throw new EtcdError('server', `etcd ${this.endpoint} LeaseGrant`, error.slice(0, 300))
    return { id: answer.long(2), ttl: answer.number(3) }
  }

  /** Like `etcdctl lease revoke`: its keys go with it. */
  async revoke(id: LeaseId, asked: Asked = {}): Promise<void> {
    await this.#ask('Lease/LeaseRevoke', encode([[1, id]]), asked, false)
  }

  /** Like `etcdctl lease keep-alive --once`. Returns the seconds that it has from now. Throws EtcdError `not-found` when the lease has ended. */
  async keepAlive(id: LeaseId, asked: Asked = {}): Promise<number> {
    const answer = await this.#ask('Lease/LeaseKeepAlive', encode([[1, id]]), asked, true)
    const ttl = answer.number(3)
    if (ttl > 0) return ttl
    throw new EtcdError('not-found', `etcd ${this.endpoint} LeaseKeepAlive`, `the lease ${id.toString(16)} has ended`)
  }

  /** Like `etcdctl lease timetolive`. Seconds; undefined when the lease has ended. */
  async timeToLive(
    id: LeaseId,
    asked: Asked = {},
  ): Promise<{ readonly left: number; readonly granted: number } | undefined> {
    const answer = await this.#ask('Lease/LeaseTimeToLive', encode([[1, id]]), asked, true)
    const left = answer.number(3)
    return left < 0 ? undefined : { left, granted: answer.number(4) }
  }

  /** A stream of messages in both directions, on an endpoint that answers. */
  stream(method: string, headers: Readonly<Record<string, string>>, { signal }: Asked): Promise<Call> {
    return this.#failOver(
      async (channel) =>
        channel.call(`/etcdserverpb.${method}`, {
          signal,
          headers: { ...headers, ...(await this.#auth(channel, signal)) },
        }),
      true,
    )
  }

  /** The present endpoint did not do what it should: the next one is asked from now on. */
  nextEndpoint(): void {
    this.#current = (this.#current + 1) % this.#channels.length
  }

  /** The token is taken for no longer good. */
  forgetToken(): void {
    this.#token = undefined
  }

  /** `isSafe`: asking twice does no more than asking once. */
  async #ask(method: string, message: Buffer, { signal }: Asked, isSafe: boolean): Promise<Message> {
    const { timeout = TIMEOUT } = this.#options
    const answer = await this.#failOver(async (channel) => {
      const headers = await this.#auth(channel, signal)
      return channel.unary(`/etcdserverpb.${method}`, message, { signal, timeout, headers })
    }, isSafe)
    return new Message(answer)
  }

  /** Each endpoint once, and once more with a new token where the old one is refused. */
  async #failOver<T>(ask: (channel: Channel) => Promise<T>, isSafe: boolean): Promise<T> {
    let renewed = this.#options.user === undefined
    for (let tried = 1; ;) {
      try {
        return await ask(this.#channel())
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error
        if (error.code === 'unauthenticated' && !renewed) {
          renewed = true
          this.#token = undefined
          continue
        }
        if (error.code !== 'unavailable' && error.code !== 'timeout' && error.code !== 'tls') throw error
        this.nextEndpoint()
        if (tried++ >= this.#channels.length || !(isSafe || error.isUnsent)) throw error
        await delay(1)
      }
    }
  }

  #channel(): Channel {
    const channel = this.#channels[this.#current % this.#channels.length]
    if (channel === undefined) throw new EtcdError('config', 'etcd', 'there is no endpoint')
    return channel
  }

  async #auth(channel: Channel, signal: AbortSignal | undefined): Promise<Readonly<Record<string, string>>> {
    const { user, timeout = TIMEOUT } = this.#options
    if (user === undefined) return {}
    this.#token ??= authenticate(channel, user, timeout)
    const asked = this.#token
    try {
      const token = await asked
      signal?.throwIfAborted()
      return { token }
    } catch (error) {
      // The next request tries again.
      if (this.#token === asked) this.#token = undefined
      throw error
    }
  }
}

async function authenticate(channel: Channel, { name, password }: EtcdUser, timeout: number): Promise<string> {
  const message = encode([
    [1, name],
    [2, password.reveal()],
  ])
  const answer = new Message(await channel.unary('/etcdserverpb.Auth/Authenticate', message, { timeout }))
  return answer.text(2)
}
