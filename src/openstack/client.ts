import * as v from 'valibot'

import { systemClock, type Clock } from '#sys/clock.ts'
import { errorOfAnswer } from './answer-error.ts'
import { Breaker, type BreakerOptions, type BreakerState } from './breaker.ts'
import { endpointOf } from './catalog.ts'
import type { CloudConfig, ServiceType } from './config.ts'
import { deadline } from './deadline.ts'
import { isAtFault, isCode, OpenStackError, type OpenStackErrorCode } from './errors.ts'
import { Session } from './identity/session.ts'
import { DEFAULT_RETRY, parseRetryAfter, waitBefore, type RetryOptions } from './retry.ts'
import { Transport, type HttpAnswer, type HttpSender } from './transport.ts'

/** What every request may be given. */
export interface CallOptions {
  readonly signal?: AbortSignal
  /** Milliseconds for all of it: token, waits and repetitions included. */
  readonly timeoutMs?: number
}

/** Values of a query; a list stands for the same key several times. */
export interface Query {
  readonly [key: string]: string | number | boolean | readonly string[] | undefined
}

/** One request to a service. */
export interface Call extends CallOptions {
  readonly service: ServiceType
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Steps of the path below the endpoint; each is escaped. */
  readonly path: readonly string[]
  /** Below the service's version instead: endpoints may have a project after it. */
  readonly atVersion?: boolean
  readonly query?: Query
  readonly body?: object
  readonly headers?: { readonly [name: string]: string }
  /** Doing it twice is the same as doing it once. Default: all but POST. */
  readonly repeatable?: boolean
  /** What it is about, `PUT port 4f…`. */
  readonly object: string
}

/** What became of one attempt, for metrics: code is `ok` or the error's. */
export interface Attempt {
  readonly service: ServiceType
  readonly method: string
  readonly code: 'ok' | OpenStackErrorCode
  readonly status: number
  readonly ms: number
}

export interface ClientOptions {
  /** Milliseconds for a call that names none. Default 30 s. */
  readonly timeoutMs?: number
  /** Milliseconds for one attempt of it. Default 10 s. */
  readonly attemptMs?: number
  readonly retry?: RetryOptions
  readonly breaker?: BreakerOptions
  readonly userAgent?: string
  readonly clock?: Clock
  readonly random?: () => number
  readonly sender?: HttpSender
  readonly onAttempt?: (attempt: Attempt) => void
}

const SERVICES: readonly ServiceType[] = ['network', 'compute', 'identity']

/** A client of one cloud. Disposing it closes its connections. */
export class OpenStackClient implements Disposable {
  readonly #config: CloudConfig
  readonly #options: ClientOptions
  readonly #clock: Clock
  readonly #sender: HttpSender
  readonly #session: Session
  readonly #breakers: ReadonlyMap<ServiceType, Breaker>

  constructor(config: CloudConfig, options: ClientOptions = {}) {
    this.#config = config
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#sender = options.sender ?? new Transport(config.tls)
    const breaker = (service: ServiceType): Breaker => new Breaker(`service ${service}`, this.#clock, options.breaker)
    this.#breakers = new Map(SERVICES.map((service) => [service, breaker(service)]))
    this.#session = new Session(config, {
      sender: this.#sender,
      clock: this.#clock,
      breaker: this.#breaker('identity'),
      userAgent: options.userAgent ?? 'heddle',
    })
  }

  /** Whether a service is left alone now, for health checks. */
  breakerState(service: ServiceType): BreakerState {
    return this.#breaker(service).state
  }

  /** Milliseconds that the present token still has. */
  get tokenLeftMs(): number {
    return this.#session.leftMs
  }

  /** The project that the credential belongs to. @throws OpenStackError */
  async projectId(options: CallOptions = {}): Promise<string> {
    using limit = deadline(this.#clock, options.signal, options.timeoutMs ?? this.#timeoutMs, 'POST auth/tokens')
    return (await this.#session.token(limit.signal)).projectId
  }

  /**
   * Sends a request and reads its answer by a schema.
   * @throws OpenStackError
   */
  async call<T>(call: Call, schema: v.GenericSchema<unknown, T>): Promise<T> {
    const { text } = await this.#repeat(call)
    let raw: unknown
    try {
      raw = JSON.parse(text)
    } catch (cause) {
      throw new OpenStackError('bad-response', `the answer is not JSON: ${text.slice(0, 80)}`, {
        object: call.object,
        perhapsDone: true,
        cause,
      })
    }
    const result = v.safeParse(schema, raw)
    if (result.success) return result.output
    const [issue] = result.issues
    throw new OpenStackError('bad-response', `${v.getDotPath(issue) ?? 'the answer'}: ${issue.message.slice(0, 200)}`, {
      object: call.object,
      perhapsDone: true,
    })
  }

  /** Sends a request whose answer has nothing of interest. @throws OpenStackError */
  async send(call: Call): Promise<void> {
    await this.#repeat(call)
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? 30_000
  }

  #breaker(service: ServiceType): Breaker {
    return this.#breakers.get(service) ?? new Breaker(service, this.#clock)
  }

  async #repeat(call: Call): Promise<HttpAnswer> {
    using limit = deadline(this.#clock, call.signal, call.timeoutMs ?? this.#timeoutMs, call.object)
    const repeatable = call.repeatable ?? call.method !== 'POST'
    const random = this.#options.random ?? Math.random
    let renewed = false
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(call, limit.signal, () => {
          const first = !renewed
          renewed = true
          return first
        })
      } catch (error) {
        if (!(error instanceof OpenStackError) || limit.signal.aborted) throw error
        const wait = waitBefore(attempt, error, repeatable, random, this.#options.retry ?? DEFAULT_RETRY)
        if (wait === undefined || wait >= limit.left()) throw error
        await this.#clock.sleep(wait, limit.signal)
      }
    }
  }

  /** One attempt; with a token that is refused (`mayRenew` says: for the first time) a second one with another token. */
  async #attempt(call: Call, signal: AbortSignal, mayRenew: () => boolean): Promise<HttpAnswer> {
    using limit = deadline(this.#clock, signal, this.#options.attemptMs ?? 10_000, call.object)
    for (;;) {
      const token = await this.#session.token(limit.signal)
      const endpoint = endpointOf(this.#config, token.catalog, call.service)
      const base = call.atVersion === true ? versionOf(endpoint) : endpoint
      const url = withPath(base, call.path, call.query)
      try {
        return await this.#once(call, url, Buffer.from(token.secret.reveal()).toString('utf8'), limit.signal)
      } catch (error) {
        if (!isCode(error, 'unauthorized') || !mayRenew()) throw error
        this.#session.drop(token)
      }
    }
  }

  async #once(call: Call, url: URL, token: string, signal: AbortSignal): Promise<HttpAnswer> {
    const breaker = this.#breaker(call.service)
    breaker.enter(call.object)
    const started = this.#clock.now()
    const done = (code: Attempt['code'], status: number): void =>
      this.#options.onAttempt?.({
        service: call.service,
        method: call.method,
        code,
        status,
        ms: this.#clock.now() - started,
      })
    try {
      const answer = await this.#sender.send({
        method: call.method,
        url,
        headers: { ...call.headers, 'User-Agent': this.#options.userAgent ?? 'heddle', 'X-Auth-Token': token },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal,
        object: call.object,
      })
      const { status, headers, text } = answer
      if (status < 200 || status >= 300) {
        throw errorOfAnswer(status, text, call.object, parseRetryAfter(headers['retry-after'], this.#clock.wall()))
      }
      breaker.succeeded()
      done('ok', status)
      return answer
    } catch (error) {
      if (isAtFault(error)) breaker.failed()
      else if (error instanceof OpenStackError && error.status > 0) breaker.succeeded()
      else breaker.left()
      if (error instanceof OpenStackError) done(error.code, error.status)
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]()
  }
}

/** An endpoint up to its version: `…/v2.1/PROJECT/` is `…/v2.1/`. */
function versionOf(endpoint: URL): URL {
  const url = new URL(endpoint)
  url.pathname = url.pathname.replace(/(\/v\d+(?:\.\d+)?\/).*$/, '$1')
  return url
}

/** An endpoint with steps and a query below it. Each step is one step, whatever it holds. */
export function withPath(endpoint: URL, path: readonly string[], query: Query = {}): URL {
  const url = new URL(endpoint)
  for (const step of path) {
    if (step === '' || step === '.' || step === '..') {
      throw new OpenStackError('bad-request', `"${step}" is no id`, { object: path.join('/') })
    }
  }
  url.pathname = `${url.pathname}${path.map(encodeURIComponent).join('/')}`
  for (const [key, value] of Object.entries(query)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? value : [String(value)]) url.searchParams.append(key, one)
  }
  return url
}
