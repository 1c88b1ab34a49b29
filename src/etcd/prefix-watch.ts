/**
 * Everything below a prefix, followed: a list, then its changes. It resumes where it was after a break, lists anew after a compaction, and says when the
 * datastore knows less than it once did (an older copy was put in its place): such a list is no proof that something is gone.
 */

import type { Clock } from '#sys/clock.ts'
import { backoff } from './backoff.ts'
import type { EtcdClient } from './client.ts'
import { EtcdError } from './errors.ts'
import { prefixEnd, readWatch, watchCreateRequest, type Header, type KeyValue, type WatchAnswer } from './messages.ts'
import { Message } from './proto.ts'

export type PrefixNews =
  /** Exactly these keys are there. `isOlder`: the datastore has lost what it once knew. */
  | { readonly type: 'list'; readonly kvs: readonly KeyValue[]; readonly isOlder: boolean }
  | { readonly type: 'put'; readonly kv: KeyValue }
  | { readonly type: 'delete'; readonly key: string }

export interface PrefixWatchOptions {
  readonly client: EtcdClient
  readonly prefix: string
  readonly clock: Clock
  readonly on: (news: PrefixNews) => void
  readonly onFailure: (error: EtcdError, retryIn: number) => void
  readonly random?: () => number
  /** How far the datastore had come in a former life. */
  readonly mark?: Mark | undefined
}

/** How far a datastore has come: each number only grows in the life of one. */
export interface Mark {
  /** Hexadecimal. */
  readonly cluster: string
  readonly revision: number
  readonly term: number
}

const WAIT = { base: 100, cap: 5_000 }

export class PrefixWatch implements AsyncDisposable {
  readonly #options: PrefixWatchOptions
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  /** Everything up to `revision` has been told. */
  #mark: Mark | undefined
  #mustList = true
  #attempts = 0
  #trouble: EtcdError | undefined

  constructor(options: PrefixWatchOptions) {
    this.#options = options
    this.#mark = options.mark
    this.#done = this.#run()
  }

  /** Undefined while the datastore is listened to. */
  get trouble(): EtcdError | undefined {
    return this.#trouble
  }

  get mark(): Mark | undefined {
    return this.#mark
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    const { client, clock, onFailure, random = Math.random } = this.#options
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        if (this.#mustList) await this.#list(signal)
        await this.#follow(signal)
      } catch (error) {
        if (signal.aborted) return
        const failure =
          error instanceof EtcdError ? error : new EtcdError('server', 'etcd Watch', String(error), { cause: error })
        this.#trouble = failure
        if (failure.code === 'compacted') this.#mustList = true
        if (failure.code === 'unauthenticated') client.forgetToken()
        if (failure.code === 'unavailable' || failure.code === 'timeout') client.nextEndpoint()
        const wait = backoff(++this.#attempts, WAIT, random)
        onFailure(failure, wait)
        await clock.sleep(wait, signal).catch(() => undefined)
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { client, prefix, on } = this.#options
    const { header, kvs } = await client.list(prefix, { signal })
    const isOlder = this.#isOlder(header)
    this.#mark = markOf(header)
    this.#mustList = false
    on({ type: 'list', kvs, isOlder })
  }

  /** The linearizable list decides; a single member that lags behind the others is not older than they are together. */
  #isOlder(header: Header): boolean {
    const known = this.#mark
    if (known === undefined) return false
    const { cluster, revision, term } = markOf(header)
    return cluster !== known.cluster || revision < known.revision || term < known.term
  }

  /** Never returns but by an error. */
  async #follow(signal: AbortSignal): Promise<void> {
    const { client, prefix } = this.#options
    // A server without a leader ends the watch, instead of being silent.
    const call = await client.stream('Watch/Watch', { hasleader: 'true' }, { signal })
    try {
      call.send(watchCreateRequest(prefix, prefixEnd(prefix), (this.#mark?.revision ?? 0) + 1))
      for await (const message of call.messages()) this.#hear(readWatch(new Message(message)), call.what)
    } finally {
      call.close()
    }
    throw new EtcdError('unavailable', call.what, 'the server ended the watch')
  }

  #hear(answer: WatchAnswer, what: string): void {
    const { on } = this.#options
    const { header, events } = answer
    if (answer.canceled) throw ended(answer, what)
    if (answer.created) {
      if (this.#isOlder(header)) {
        this.#mustList = true
        throw new EtcdError('unavailable', what, 'the datastore knows less than it did: listing it anew')
      }
      this.#attempts = 0
      this.#trouble = undefined
    }
    for (const event of events) on(event.type === 'put' ? event : { type: 'delete', key: event.key })
    const last = events.at(-1)
    const told = last === undefined ? header.revision : last.type === 'put' ? last.kv.modRevision : last.revision
    // A transaction may be told in several parts; progress is only told of what has been sent.
    const revision = answer.isFragment ? told - 1 : told
    if (!answer.created && revision > (this.#mark?.revision ?? 0)) this.#mark = { ...markOf(header), revision }
  }
}

const markOf = ({ cluster, revision, term }: Header): Mark => ({
  cluster: BigInt.asUintN(64, cluster).toString(16),
  revision,
  term,
})

function ended({ compactRevision, reason }: WatchAnswer, what: string): EtcdError {
  if (compactRevision > 0)
    return new EtcdError('compacted', what, `revisions before ${compactRevision} are no longer kept`, {
      compactRevision,
    })
  if (/auth token|user name is empty|revision of auth store/.test(reason))
    return new EtcdError('unauthenticated', what, reason)
  if (/permission denied/.test(reason)) return new EtcdError('forbidden', what, reason)
  return new EtcdError('unavailable', what, reason === '' ? 'the server ended the watch' : reason)
}
