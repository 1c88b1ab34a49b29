import type { IncomingMessage } from 'node:http'
import { parseJson, readText } from './body.ts'
import { systemClock } from './clock.ts'
import type { Clock } from './clock.ts'
import type { ClusterConfig } from './config.ts'
import { deadline } from './deadline.ts'
import { errorOfAnswer, KubeError } from './errors.ts'
import { at, isArray, textAt } from './json.ts'
import type { Json } from './json.ts'
import { resourcePath, withQuery } from './path.ts'
import type { Query } from './path.ts'
import { isStored } from './resource.ts'
import type { KubeObject, Resource, Stored } from './resource.ts'
import { Transport } from './transport.ts'

/** Names an object of a kind; `namespace` is needed where the kind has namespaces. */
export interface Ref {
  readonly name: string
  readonly namespace?: string
}

/** What every request may be given. */
export interface CallOptions {
  readonly signal?: AbortSignal
  /** Milliseconds for the whole request, retries included. */
  readonly timeout?: number
}

/** What writes may be given beside that. */
export interface WriteOptions extends CallOptions {
  readonly subresource?: 'status'
  readonly dryRun?: boolean
  /** Who writes, in managedFields. */
  readonly fieldManager?: string
}

/** A change to an object, in one of the four formats of the API. */
export type Patch =
  | { readonly type: 'merge' | 'strategic'; readonly body: object }
  | { readonly type: 'json'; readonly body: readonly object[] }
  | { readonly type: 'apply'; readonly body: object; readonly force?: boolean }

/** What a list is narrowed by. */
export interface ListOptions extends CallOptions {
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  readonly limit?: number
  readonly continue?: string
  readonly resourceVersion?: string
  readonly resourceVersionMatch?: 'Exact' | 'NotOlderThan'
}

/** One page of a list. */
export interface KubeList<T extends KubeObject> {
  readonly items: readonly Stored<T>[]
  readonly resourceVersion: string
  /** Where the next page begins; undefined on the last. */
  readonly continue: string | undefined
  readonly remaining: number | undefined
}

/** What a deletion may be given. */
export interface DeleteOptions extends CallOptions {
  readonly uid?: string
  readonly resourceVersion?: string
  readonly gracePeriodSeconds?: number
  readonly propagationPolicy?: 'Orphan' | 'Background' | 'Foreground'
}

/** Settings of a client. */
export interface ClientOptions {
  readonly userAgent?: string
  /** Milliseconds for a request that names none. Default 30 s. */
  readonly timeout?: number
  readonly clock?: Clock
}

const MEDIA = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
} as const

/** Answers 429 and 503 that name a time are waited for this often. */
const MAX_RETRIES = 5

interface Call extends CallOptions {
  readonly method: string
  readonly path: string
  readonly query?: Query
  readonly body?: object
  readonly contentType?: string
  readonly object: string
}

/** A client of one API server. Disposing it closes its connections. */
export class KubeClient implements Disposable {
  readonly #transport: Transport
  readonly #timeout: number
  readonly #clock: Clock
  /** The namespace of the configuration's context. */
  readonly namespace: string

  constructor(config: ClusterConfig, options: ClientOptions = {}) {
    this.#transport = new Transport(config, options.userAgent ?? 'heddle')
    this.#timeout = options.timeout ?? 30_000
    this.#clock = options.clock ?? systemClock
    this.namespace = config.namespace
  }

  /** Sends until there is an answer other than "later" and "who are you"; errors of the API are thrown. */
  async #send(call: Call, signal: AbortSignal): Promise<IncomingMessage> {
    const { method, object } = call
    const body = call.body === undefined ? undefined : JSON.stringify(call.body)
    const request = {
      method,
      path: withQuery(call.path, call.query ?? {}),
      accept: 'application/json',
      object,
      signal,
      ...(body === undefined ? {} : { body, contentType: call.contentType ?? 'application/json' }),
    }
    let refreshed = false
    for (let attempt = 0; ; attempt += 1) {
      const response = await this.#transport.send(request)
      const status = response.statusCode ?? 0
      if (status >= 200 && status < 300) return response
      const text = await readText(response, signal, object)
      if (status === 401 && !refreshed && this.#transport.refresh()) {
        refreshed = true
        continue
      }
      const seconds = Number(response.headers['retry-after'] ?? Number.NaN)
      const retryAfter = Number.isFinite(seconds) ? seconds : undefined
      if ((status === 429 || status === 503) && retryAfter !== undefined && attempt < MAX_RETRIES) {
        await this.#clock.sleep(retryAfter * 1000, signal)
        continue
      }
      throw errorOfAnswer(status, jsonOr(text), object, retryAfter)
    }
  }

  async #call(call: Call): Promise<Json> {
    using limit = deadline(call.signal, call.timeout ?? this.#timeout, call.object)
    const response = await this.#send(call, limit.signal)
    const text = await readText(response, limit.signal, call.object)
    try {
      return parseJson(text)
    } catch (cause) {
      throw new KubeError('bad-response', `the answer is not JSON: ${text.slice(0, 80)}`, {
        object: call.object,
        cause,
      })
    }
  }

  async #object<T extends KubeObject>(call: Call): Promise<Stored<T>> {
    const value: unknown = await this.#call(call)
    if (isStored<T>(value)) return value
    throw new KubeError('bad-response', 'the answer is no object with name, uid and resourceVersion', {
      object: call.object,
    })
  }

  /** Like `kubectl get KIND NAME`. @throws KubeError */
  get<T extends KubeObject>(resource: Resource<T>, ref: Ref, options: CallOptions = {}): Promise<Stored<T>> {
    return this.#object({ ...options, method: 'GET', ...target(resource, ref), object: label('GET', resource, ref) })
  }

  /** One page of a list; `listAll` of list.ts reads them all. @throws KubeError */
  async list<T extends KubeObject>(resource: Resource<T>, options: ListOptions = {}): Promise<KubeList<T>> {
    const { namespace, signal, timeout, ...query } = options
    const object = label('LIST', resource, { name: '', ...(namespace === undefined ? {} : { namespace }) })
    const path = resourcePath(resource, namespace)
    const call = {
      method: 'GET',
      path,
      query,
      object,
      ...(signal === undefined ? {} : { signal }),
      ...(timeout === undefined ? {} : { timeout }),
    }
    const answer = await this.#call(call)
    const items = at(answer, 'items')
    const resourceVersion = textAt(answer, 'metadata', 'resourceVersion')
    // Go writes an empty list as null.
    const list = items === null ? [] : items
    if (!isArray(list) || resourceVersion === undefined) {
      throw new KubeError('bad-response', 'the answer is no list with items and a resourceVersion', { object })
    }
    const stored = list.filter((item) => isStored<T>(item))
    if (stored.length !== list.length) {
      throw new KubeError(
        'bad-response',
        'the list holds something that is no object with name, uid and resourceVersion',
        { object },
      )
    }
    const next = textAt(answer, 'metadata', 'continue') ?? ''
    const remaining = at(answer, 'metadata', 'remainingItemCount')
    return {
      items: stored,
      resourceVersion,
      continue: next === '' ? undefined : next,
      remaining: typeof remaining === 'number' ? remaining : undefined,
    }
  }

  /** Like `kubectl create`. @throws KubeError `already-exists`, `invalid`, … */
  create<T extends KubeObject>(resource: Resource<T>, body: T, options: WriteOptions = {}): Promise<Stored<T>> {
    const { name = '', namespace } = body.metadata ?? {}
    const object = label('CREATE', resource, { name, ...(namespace === undefined ? {} : { namespace }) })
    const path = resourcePath(resource, required(resource, namespace, object))
    return this.#object({
      ...options,
      method: 'POST',
      path,
      query: writeQuery(options),
      body: complete(resource, body),
      object,
    })
  }

  /** Like `kubectl replace`: with a resourceVersion in the object, only that state is replaced. @throws KubeError `conflict`, … */
  update<T extends KubeObject>(resource: Resource<T>, body: T, options: WriteOptions = {}): Promise<Stored<T>> {
    const { name = '', namespace } = body.metadata ?? {}
    const ref = { name, ...(namespace === undefined ? {} : { namespace }) }
    const call = { ...target(resource, ref, options.subresource), object: label('UPDATE', resource, ref) }
    return this.#object({
      ...options,
      method: 'PUT',
      ...call,
      query: writeQuery(options),
      body: complete(resource, body),
    })
  }

  /** Like `kubectl patch`, and with type `apply` like `kubectl apply --server-side`. @throws KubeError */
  patch<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    patch: Patch,
    options: WriteOptions = {},
  ): Promise<Stored<T>> {
    const apply = patch.type === 'apply'
    const manager = options.fieldManager ?? (apply ? 'heddle' : undefined)
    const query = {
      ...writeQuery(options),
      ...(manager === undefined ? {} : { fieldManager: manager }),
      ...(apply && patch.force === true ? { force: true } : {}),
    }
    return this.#object({
      ...options,
      method: 'PATCH',
      ...target(resource, ref, options.subresource),
      query,
      contentType: MEDIA[patch.type],
      body: apply ? complete(resource, patch.body) : patch.body,
      object: label('PATCH', resource, ref),
    })
  }

  /** Like `kubectl delete`. Answers when the deletion is accepted, not when finalizers are done. @throws KubeError `not-found`, … */
  async delete<T extends KubeObject>(resource: Resource<T>, ref: Ref, options: DeleteOptions = {}): Promise<void> {
    const body = deleteBody(options)
    await this.#call({
      ...options,
      method: 'DELETE',
      ...target(resource, ref),
      body,
      object: label('DELETE', resource, ref),
    })
  }

  /** Like `kubectl delete KIND --all`, with the selectors of a list. @throws KubeError */
  async deleteCollection<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions & DeleteOptions = {},
  ): Promise<void> {
    const { namespace, labelSelector, fieldSelector } = options
    const object = label('DELETE', resource, { name: '*', ...(namespace === undefined ? {} : { namespace }) })
    const query = { labelSelector, fieldSelector }
    await this.#call({
      ...options,
      method: 'DELETE',
      path: resourcePath(resource, namespace),
      query,
      body: deleteBody(options),
      object,
    })
  }

  /**
   * Opens a stream of lines (a watch). The deadline is for the headers alone; the signal ends the stream.
   * @throws KubeError
   */
  async stream(
    path: string,
    query: Query,
    object: string,
    signal: AbortSignal,
    timeout = this.#timeout,
  ): Promise<IncomingMessage> {
    using limit = deadline(undefined, timeout, object)
    const both = new AbortController()
    const abort = (): void => both.abort(limit.signal.aborted ? limit.signal.reason : signal.reason)
    limit.signal.addEventListener('abort', abort, { once: true })
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    try {
      const response = await this.#send({ method: 'GET', path, query, object }, both.signal)
      response.once('close', () => signal.removeEventListener('abort', abort))
      return response
    } catch (error) {
      signal.removeEventListener('abort', abort)
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]()
  }
}

function jsonOr(text: string): Json {
  try {
    return parseJson(text)
  } catch {
    return text
  }
}

function label<T extends KubeObject>(verb: string, resource: Resource<T>, ref: Ref): string {
  const name = [ref.namespace, ref.name].filter((part) => part !== undefined && part !== '').join('/')
  return `${verb} ${resource.plural}${name === '' ? '' : ` ${name}`}`
}

function required<T extends KubeObject>(
  resource: Resource<T>,
  namespace: string | undefined,
  object: string,
): string | undefined {
  if (!resource.namespaced) return undefined
  if (namespace === undefined || namespace === '')
    throw new KubeError('bad-request', `${resource.plural} lie in namespaces: name one`, { object })
  return namespace
}

function target<T extends KubeObject>(
  resource: Resource<T>,
  ref: Ref,
  subresource?: string,
): { readonly path: string } {
  const namespace = required(resource, ref.namespace, label('', resource, ref).trim())
  return { path: resourcePath(resource, namespace, ref.name, subresource) }
}

function complete<T extends KubeObject>(resource: Resource<T>, body: object): object {
  const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
  return { apiVersion, kind: resource.kind, ...body }
}

function writeQuery(options: WriteOptions): Query {
  return { dryRun: options.dryRun === true ? 'All' : undefined, fieldManager: options.fieldManager }
}

function deleteBody(options: DeleteOptions): object {
  const { uid, resourceVersion, gracePeriodSeconds, propagationPolicy } = options
  const preconditions =
    uid === undefined && resourceVersion === undefined ? {} : { preconditions: { uid, resourceVersion } }
  return { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds, propagationPolicy, ...preconditions }
}
