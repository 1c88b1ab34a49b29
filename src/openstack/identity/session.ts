import type { Clock } from '#sys/clock.ts'
import { errorOfAnswer } from '../answer-error.ts'
import type { Breaker } from '../breaker.ts'
import type { CloudConfig } from '../config.ts'
import { deadline } from '../deadline.ts'
import { before, isAtFault, OpenStackError } from '../errors.ts'
import { parseRetryAfter } from '../retry.ts'
import type { HttpSender } from '../transport.ts'
import { authBody } from './auth-body.ts'
import { readToken, type Token } from './token.ts'

/** A token is replaced when this part of its life is left, but not sooner than EARLY_MS before its end. */
const EARLY_PART = 0.1
const EARLY_MS = 120_000
/** After a refusal Keystone is not asked again with the same words for this long: accounts get locked by that. */
const REFUSED_MS = 30_000

/** Milliseconds for one request to Keystone. */
const ATTEMPT_MS = 10_000

export interface SessionOptions {
  readonly sender: HttpSender
  readonly clock: Clock
  readonly breaker: Breaker
  readonly userAgent: string
}

/** Keeps one token: asked for when first needed, replaced before it ends and when a service refuses it. Many callers make one request. */
export class Session {
  readonly #config: CloudConfig
  readonly #options: SessionOptions
  #token: Token | undefined
  #pending: Promise<Token> | undefined
  #refused: { readonly error: OpenStackError; readonly until: number } | undefined

  constructor(config: CloudConfig, options: SessionOptions) {
    this.#config = config
    this.#options = options
  }

  /** Milliseconds that the token still has; 0 without one. For metrics. */
  get leftMs(): number {
    return this.#token === undefined ? 0 : Math.max(0, this.#token.expiresAt - this.#options.clock.wall())
  }

  /** The token, asked for where there is none that lasts. The signal gives up waiting. @throws OpenStackError */
  async token(signal: AbortSignal): Promise<Token> {
    const { clock } = this.#options
    const token = this.#token
    if (token !== undefined) {
      const early = Math.min(EARLY_MS, token.lifetimeMs * EARLY_PART)
      const left = token.expiresAt - clock.wall()
      if (left > early) return token
      // While the old one still lives, its successor is fetched beside the work, and a Keystone that is away disturbs nobody.
      if (left > 0) {
        this.#fetch(signal).catch(() => undefined)
        return token
      }
    }
    return this.#fetch(signal)
  }

  /** A service refused this token: the next caller gets another one. */
  drop(token: Token): void {
    if (this.#token === token) this.#token = undefined
  }

  async #fetch(signal: AbortSignal): Promise<Token> {
    const { clock } = this.#options
    if (this.#refused !== undefined && clock.now() < this.#refused.until) throw this.#refused.error
    // One request for many callers: it has a deadline of its own, and the caller who gives up takes it from nobody.
    this.#pending ??= this.#authenticate().finally(() => {
      this.#pending = undefined
    })
    return waitFor(this.#pending, signal)
  }

  async #authenticate(): Promise<Token> {
    const { sender, clock, breaker, userAgent } = this.#options
    const url = new URL(`${this.#config.authUrl.href}/auth/tokens`)
    const object = `POST ${url.href}`
    const asked = clock.wall()
    breaker.enter(object)
    using limit = deadline(clock, undefined, ATTEMPT_MS, object)
    try {
      const body = JSON.stringify(authBody(this.#config.credential))
      const headers = { 'User-Agent': userAgent }
      const answer = await sender.send({ method: 'POST', url, headers, body, signal: limit.signal, object })
      if (answer.status < 200 || answer.status >= 300) {
        const wait = parseRetryAfter(answer.headers['retry-after'], asked)
        throw errorOfAnswer(answer.status, answer.text, object, wait)
      }
      const token = readToken(answer, asked, object)
      breaker.succeeded()
      this.#token = token
      this.#refused = undefined
      return token
    } catch (error) {
      if (!(error instanceof OpenStackError)) throw error
      if (isAtFault(error)) breaker.failed()
      else breaker.succeeded()
      const told = before(error)
      if (error.code === 'unauthorized') this.#refused = { error: told, until: clock.now() + REFUSED_MS }
      throw told
    }
  }
}

/** Waits for a promise until a signal gives up; the promise goes on. */
async function waitFor<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const { promise: given, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, given])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
