import type { KubeClient } from './client.ts'
import { backoff, systemClock } from './clock.ts'
import type { BackoffOptions, Clock } from './clock.ts'
import { errorOfFailure, KubeError } from './errors.ts'
import { listAll } from './list.ts'
import { keyOf } from './resource.ts'
import type { KubeObject, Resource, Stored } from './resource.ts'
import { watch } from './watch.ts'

/**
 * What an informer tells its owner.
 * `suspicious`: the list was empty though the last one was not. It is far more often a broken or restored API server
 * than a cluster that lost everything: an owner must not take its network down on it.
 * `rejected`: the transform threw; the last good state of the object stays.
 * `failed`: list or watch failed; what is cached stays, and the next attempt follows by itself.
 */
export type InformerEvent<S> =
  | { readonly type: 'added'; readonly key: string; readonly object: S }
  | { readonly type: 'updated'; readonly key: string; readonly object: S; readonly previous: S }
  | { readonly type: 'deleted'; readonly key: string; readonly previous: S; readonly suspicious: boolean }
  | { readonly type: 'rejected'; readonly key: string; readonly error: unknown }
  | { readonly type: 'synced'; readonly count: number; readonly suspicious: boolean }
  | { readonly type: 'failed'; readonly error: KubeError; readonly attempt: number; readonly retryIn: number }

/** How an informer is to be. */
export interface InformerOptions<T extends KubeObject, S> {
  readonly client: KubeClient
  readonly resource: Resource<T>
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Keeps of an object what is used (memory follows it), and refuses what is malformed by throwing. Undefined: not of interest. */
  readonly transform: (object: Stored<T>) => S | undefined
  readonly on: (event: InformerEvent<S>) => void
  readonly signal?: AbortSignal
  readonly clock?: Clock
  readonly random?: () => number
  /** Waits after failures. Default 250 ms, doubling to 30 s. */
  readonly backoff?: BackoffOptions
  /** Objects per page of a list; default 100. */
  readonly pageSize?: number
  /** See WatchOptions. */
  readonly idleTimeout?: number
  readonly timeoutSeconds?: number
  /** How soon (first, and at most) a suspicious empty list is asked for again, in milliseconds. Default 1 s and 60 s. */
  readonly recheck?: BackoffOptions
  /** Receives what `on` throws; without it, a process warning. */
  readonly onHandlerError?: (error: unknown) => void
}

/** A transform's outcome: a value, undefined where the object is of no interest, or what the transform threw. */
type Outcome<S> = { readonly value: S | undefined } | { readonly error: unknown }

interface Entry<S> {
  readonly resourceVersion: string
  readonly value: S
}

const DEFAULT_BACKOFF: BackoffOptions = { base: 250, cap: 30_000 }
const DEFAULT_RECHECK: BackoffOptions = { base: 1000, cap: 60_000 }
/** A watch that ends sooner without having brought anything counts as a failure: it must not become a busy loop. */
const SHORT_WATCH = 1000

/**
 * A cache of one kind, kept by list and watch, that outlives every failure of the API server. It ends only by its
 * signal or by being disposed.
 */
export class Informer<T extends KubeObject, S> implements Disposable {
  readonly #options: InformerOptions<T, S>
  readonly #clock: Clock
  readonly #random: () => number
  readonly #controller = new AbortController()
  readonly #entries = new Map<string, Entry<S>>()
  readonly #waiting = new Set<(synced: boolean) => void>()
  readonly #release: () => void
  /** Resolves when the informer has ended. Never rejects. */
  readonly done: Promise<void>
  #synced = false
  #suspicious = 0
  #version = ''
  #failures = 0
  #lastError: KubeError | undefined

  constructor(options: InformerOptions<T, S>) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    const { signal } = options
    const abort = (): void => this.#controller.abort(signal?.reason)
    if (signal?.aborted === true) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    this.#release = () => signal?.removeEventListener('abort', abort)
    this.done = this.#run()
  }

  /** The transformed object under `namespace/name`, or `name` for cluster-wide kinds. */
  get(key: string): S | undefined {
    return this.#entries.get(key)?.value
  }

  /** All objects, with their keys. */
  *entries(): Generator<readonly [string, S]> {
    for (const [key, { value }] of this.#entries) yield [key, value]
  }

  get size(): number {
    return this.#entries.size
  }

  /** True after the first complete list. */
  get isSynced(): boolean {
    return this.#synced
  }

  /** True while an empty list stands in place of a full one. */
  get suspicious(): boolean {
    return this.#suspicious > 0
  }

  /** The last version seen. */
  get resourceVersion(): string {
    return this.#version
  }

  /** The failure since the last success, if any: what a health check shows. */
  get lastError(): KubeError | undefined {
    return this.#lastError
  }

  /** Waits for the first complete list; false when the time is over or the informer has ended. */
  synced(timeout: number): Promise<boolean> {
    if (this.#synced) return Promise.resolve(true)
    if (this.#controller.signal.aborted) return Promise.resolve(false)
    return new Promise((resolve) => {
      const finish = (synced: boolean): void => {
        clearTimeout(timer)
        this.#waiting.delete(finish)
        resolve(synced)
      }
      const timer = setTimeout(() => finish(false), timeout)
      this.#waiting.add(finish)
    })
  }

  [Symbol.dispose](): void {
    this.#controller.abort()
  }

  #emit(event: InformerEvent<S>): void {
    try {
      this.#options.on(event)
    } catch (error) {
      if (this.#options.onHandlerError !== undefined) this.#options.onHandlerError(error)
      else process.emitWarning(error instanceof Error ? error : String(error))
    }
  }

  #transform(object: Stored<T>): Outcome<S> {
    try {
      return { value: this.#options.transform(object) }
    } catch (error) {
      return { error }
    }
  }

  #store(key: string, object: Stored<T>): void {
    const { resourceVersion } = object.metadata
    // A state that is here already (a watch may repeat itself) is no change.
    if (this.#entries.get(key)?.resourceVersion === resourceVersion) return
    this.#settle(key, resourceVersion, this.#transform(object))
  }

  #forget(key: string, suspicious: boolean): void {
    const previous = this.#entries.get(key)
    if (previous === undefined) return
    this.#entries.delete(key)
    this.#emit({ type: 'deleted', key, previous: previous.value, suspicious })
  }

  async #list(): Promise<void> {
    const { client, resource, namespace, labelSelector, fieldSelector, pageSize } = this.#options
    const seen = new Map<string, { readonly resourceVersion: string; readonly result: Outcome<S> }>()
    let received = 0
    const listed = await listAll(
      client,
      resource,
      (object) => {
        received += 1
        const key = keyOf(object)
        const { resourceVersion } = object.metadata
        const known = this.#entries.get(key)
        // Unchanged objects are not transformed again.
        const result = known?.resourceVersion === resourceVersion ? { value: known.value } : this.#transform(object)
        return { key, resourceVersion, result }
      },
      {
        signal: this.#controller.signal,
        ...(pageSize === undefined ? {} : { limit: pageSize }),
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
      },
    )
    for (const { key, resourceVersion, result } of listed.items) seen.set(key, { resourceVersion, result })
    const suspicious = received === 0 && (this.#entries.size > 0 || this.#suspicious > 0)
    this.#suspicious = suspicious ? this.#suspicious + 1 : 0
    for (const key of this.#entries.keys()) if (!seen.has(key)) this.#forget(key, suspicious)
    for (const [key, { resourceVersion, result }] of seen) this.#settle(key, resourceVersion, result)
    this.#version = listed.resourceVersion
    this.#synced = true
    // Failures are counted on: a list that works before a watch that never does must not be repeated without rest.
    this.#lastError = undefined
    for (const finish of this.#waiting) finish(true)
    this.#emit({ type: 'synced', count: this.#entries.size, suspicious })
  }

  #settle(key: string, resourceVersion: string, result: Outcome<S>): void {
    const previous = this.#entries.get(key)
    if ('error' in result) {
      this.#emit({ type: 'rejected', key, error: result.error })
      return
    }
    if (result.value === undefined) {
      this.#forget(key, false)
      return
    }
    if (previous?.resourceVersion === resourceVersion) return
    this.#entries.set(key, { resourceVersion, value: result.value })
    if (previous === undefined) this.#emit({ type: 'added', key, object: result.value })
    else this.#emit({ type: 'updated', key, object: result.value, previous: previous.value })
  }

  #succeeded(): void {
    this.#failures = 0
    this.#lastError = undefined
  }

  /** Watches until the server ends it. While an empty list is in doubt, only until it is time to ask again. */
  async #watch(): Promise<void> {
    const { client, resource, namespace, labelSelector, fieldSelector, idleTimeout, timeoutSeconds } = this.#options
    const round = new AbortController()
    const abort = (): void => round.abort()
    const { signal } = this.#controller
    const began = this.#clock.now()
    signal.addEventListener('abort', abort, { once: true })
    const doubtful = this.#suspicious
    if (doubtful > 0) {
      const wait = backoff(doubtful, this.#options.recheck ?? DEFAULT_RECHECK, this.#random)
      void this.#recheckAfter(wait, round)
    }
    try {
      const events = watch(client, resource, {
        resourceVersion: this.#version,
        signal: round.signal,
        random: this.#random,
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
        ...(idleTimeout === undefined ? {} : { idleTimeout }),
        ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
      })
      for await (const event of events) {
        this.#succeeded()
        if (event.type === 'deleted') this.#forget(keyOf(event.object), false)
        else if (event.type !== 'bookmark') this.#store(keyOf(event.object), event.object)
        this.#version = event.resourceVersion
      }
    } finally {
      signal.removeEventListener('abort', abort)
      round.abort()
      if (this.#clock.now() - began >= SHORT_WATCH) this.#failures = 0
    }
  }

  /**
   * Ends a watch after a time, so that a list follows. Only a list clears the doubt: an event for one object says
   * nothing about the others that are missing.
   */
  async #recheckAfter(wait: number, round: AbortController): Promise<void> {
    await this.#clock.sleep(wait, round.signal)
    round.abort()
  }

  async #pause(error: KubeError): Promise<void> {
    this.#failures += 1
    this.#lastError = error
    const wait = backoff(this.#failures, this.#options.backoff ?? DEFAULT_BACKOFF, this.#random)
    const retryIn = Math.max(wait, (error.retryAfter ?? 0) * 1000)
    this.#emit({ type: 'failed', error, attempt: this.#failures, retryIn })
    await this.#clock.sleep(retryIn, this.#controller.signal)
  }

  async #run(): Promise<void> {
    const { signal } = this.#controller
    // The owner gets the object before the first event.
    await Promise.resolve()
    let current = false
    while (!signal.aborted) {
      const began = this.#clock.now()
      const before = this.#version
      try {
        if (!current) {
          await this.#list()
          current = true
        }
        await this.#watch()
        if (this.#version === before && this.#clock.now() - began < SHORT_WATCH) {
          await this.#pause(
            new KubeError('bad-response', 'the watch ended at once', {
              object: `WATCH ${this.#options.resource.plural}`,
            }),
          )
        }
      } catch (cause) {
        if (signal.aborted) break
        const error = errorOfFailure(cause, this.#options.resource.plural)
        // A doubtful empty list that was watched long enough: ask again.
        if (error.code === 'aborted') {
          current = false
          continue
        }
        // A broken connection goes on where it was; whatever else went wrong, only a new list makes sure.
        const resumable = error.code === 'unreachable' || (error.code === 'timeout' && error.status === 0)
        const expired = current && error.code === 'gone'
        if (!resumable) current = false
        if (expired && this.#failures === 0) {
          this.#failures = 1
          continue
        }
        await this.#pause(error)
      }
    }
    this.#release()
    for (const finish of this.#waiting) finish(false)
  }
}

/** Starts an informer. */
export function startInformer<T extends KubeObject, S>(options: InformerOptions<T, S>): Informer<T, S> {
  return new Informer(options)
}
