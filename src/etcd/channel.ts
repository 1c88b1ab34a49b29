/** gRPC over one HTTP/2 connection to one endpoint, opened when it is needed. Source: grpc.io, PROTOCOL-HTTP2. */

import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type OutgoingHttpHeaders,
} from 'node:http2'

import { tlsOptions, type TlsFiles } from './endpoint.ts'
import { errorOfFailure, errorOfStatus, EtcdError } from './errors.ts'
import { Deframer, frame } from './frames.ts'

export interface ChannelOptions {
  readonly endpoint: URL
  readonly tls: TlsFiles
  readonly userAgent: string
  /** Milliseconds for a connection to be made. */
  readonly connectTimeout: number
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal | undefined
}

export interface UnaryOptions extends CallOptions {
  /** Milliseconds until the answer must be there. */
  readonly timeout: number
}

/** A connection on which watches wait is asked so often (ms) whether it still lives. etcd resents more than one question in 5 s. */
const PING_EVERY = 10_000
const PING_TIMEOUT = 10_000

export class Channel implements Disposable {
  readonly #options: ChannelOptions
  #session: ClientHttp2Session | undefined
  #opening: Promise<ClientHttp2Session> | undefined
  /** Calls under way; etcd resents pings on a connection without one. */
  #calls = 0

  constructor(options: ChannelOptions) {
    this.#options = options
  }

  get name(): string {
    return this.#options.endpoint.host
  }

  /** One request, one answer. Throws EtcdError. */
  async unary(method: string, message: Uint8Array, options: UnaryOptions): Promise<Buffer> {
    const timeout = AbortSignal.timeout(options.timeout)
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal])
    const headers = { ...options.headers, 'grpc-timeout': `${Math.ceil(options.timeout)}m` }
    const call = await this.call(method, { headers, signal })
    call.end(message)
    let answer: Buffer | undefined
    try {
      for await (const part of call.messages()) {
        if (answer !== undefined) throw new EtcdError('bad-answer', call.what, 'two answers to one request')
        answer = part
      }
    } catch (error) {
      if (!timeout.aborted) throw error
      // A connection that does not answer is not asked again.
      this.#drop()
      throw new EtcdError('timeout', call.what, `no answer within ${options.timeout} ms`, { cause: error })
    }
    if (answer === undefined) throw new EtcdError('bad-answer', call.what, 'no answer')
    return answer
  }

  /** A call of many messages. Ends with the signal. Throws EtcdError, `isUnsent` unless the request was begun. */
  async call(method: string, { headers, signal }: CallOptions): Promise<Call> {
    const what = `etcd ${this.name} ${method.slice(method.lastIndexOf('/') + 1)}`
    const session = await this.#open(what, signal)
    if (signal?.aborted === true) throw abortedError(what, true)
    const all: OutgoingHttpHeaders = {
      ...headers,
      ':method': 'POST',
      ':path': method,
      'content-type': 'application/grpc',
      'user-agent': this.#options.userAgent,
      te: 'trailers',
    }
    try {
      const stream = session.request(all)
      this.#calls++
      stream.once('close', () => this.#calls--)
      return new Call(stream, what, signal)
    } catch (error) {
      this.#drop()
      throw errorOfFailure(error, what, true)
    }
  }

  [Symbol.dispose](): void {
    this.#drop()
  }

  #drop(): void {
    this.#session?.destroy()
    this.#session = undefined
  }

  async #open(what: string, signal: AbortSignal | undefined): Promise<ClientHttp2Session> {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session
    this.#opening ??= this.#connect(what).finally(() => (this.#opening = undefined))
    const opening = this.#opening
    if (signal === undefined) return opening
    const { promise, reject } = Promise.withResolvers<never>()
    const abort = (): void => reject(abortedError(what, true))
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    try {
      return await Promise.race([opening, promise])
    } finally {
      signal.removeEventListener('abort', abort)
      // Whoever else waits for the connection hears of its failure.
      opening.catch(() => undefined)
    }
  }

  #connect(what: string): Promise<ClientHttp2Session> {
    const { endpoint, tls, connectTimeout } = this.#options
    return new Promise((resolve, reject) => {
      const secure = endpoint.protocol === 'https:' ? tlsOptions(tls) : {}
      const session = connect(endpoint, { ...secure, settings: { enablePush: false, initialWindowSize: 1 << 20 } })
      const timer = setTimeout(() => {
        session.destroy()
        reject(new EtcdError('unavailable', what, `no connection within ${connectTimeout} ms`, { isUnsent: true }))
      }, connectTimeout)
      session.on('error', (error) => {
        clearTimeout(timer)
        session.destroy()
        reject(errorOfFailure(error, what, true))
      })
      session.once('connect', () => {
        clearTimeout(timer)
        this.#session = session
        keepAlive(session, () => this.#calls > 0)
        resolve(session)
      })
      // What is under way may end; whatever is new takes another connection.
      session.once('goaway', () => session.close())
      session.once('close', () => {
        if (this.#session === session) this.#session = undefined
        reject(new EtcdError('unavailable', what, 'the connection was closed', { isUnsent: true }))
      })
    })
  }
}

const abortedError = (what: string, isUnsent: boolean): EtcdError =>
  new EtcdError('aborted', what, 'the request was ended', { isUnsent })

/** A server that is stopped, or behind a network that swallows packets, is noticed within two intervals. */
function keepAlive(session: ClientHttp2Session, isWanted: () => boolean): void {
  let pinged = 0
  const timer = setInterval(() => {
    if (session.destroyed) return
    if (pinged !== 0) {
      if (performance.now() - pinged > PING_TIMEOUT - 100) session.destroy(new Error('the connection does not answer'))
      return
    }
    if (!isWanted()) return
    pinged = performance.now()
    session.ping((error) => {
      if (error === null) pinged = 0
    })
  }, PING_EVERY)
  timer.unref()
  session.once('close', () => clearInterval(timer))
}

/** One call: messages go in and come out until the server says how it ended. */
export class Call {
  readonly what: string
  readonly #stream: ClientHttp2Stream
  #status: { readonly code: number; readonly message: string } | undefined
  #httpStatus = 0
  #failure: unknown

  constructor(stream: ClientHttp2Stream, what: string, signal: AbortSignal | undefined) {
    this.#stream = stream
    this.what = what
    const read = (headers: Readonly<Record<string, unknown>>): void => {
      const code = headers['grpc-status']
      if (typeof code === 'string') this.#status = { code: Number(code), message: decoded(headers['grpc-message']) }
    }
    stream.on('response', (headers) => {
      this.#httpStatus = headers[':status'] ?? 0
      read(headers)
    })
    stream.on('trailers', read)
    // Told to whoever reads the messages; without a listener it would end the process.
    stream.on('error', (error) => (this.#failure = error))
    if (signal !== undefined) {
      const abort = (): void => {
        this.#failure = abortedError(what, false)
        this.close()
      }
      if (signal.aborted) abort()
      else signal.addEventListener('abort', abort, { once: true })
      stream.once('close', () => signal.removeEventListener('abort', abort))
    }
  }

  send(message: Uint8Array): void {
    if (!this.#stream.destroyed) this.#stream.write(frame(message))
  }

  end(message: Uint8Array): void {
    if (!this.#stream.destroyed) this.#stream.end(frame(message))
  }

  close(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL)
    this.#stream.destroy()
  }

  /** What the server sends, as fast as it is taken. Throws EtcdError when the call did not end well. */
  async *messages(): AsyncGenerator<Buffer, void> {
    const deframer = new Deframer()
    try {
      for await (const piece of this.#stream) {
        if (Buffer.isBuffer(piece)) yield* deframer.take(piece)
      }
    } catch (error) {
      throw errorOfFailure(this.#failure ?? error, this.what, false)
    } finally {
      this.close()
    }
    if (this.#failure !== undefined) throw errorOfFailure(this.#failure, this.what, false)
    if (this.#status === undefined)
      throw this.#httpStatus === 200
        ? new EtcdError('unavailable', this.what, 'the connection ended in the middle of an answer')
        : new EtcdError('bad-answer', this.what, `HTTP status ${this.#httpStatus}: the endpoint is no etcd server`)
    if (this.#status.code !== 0) throw errorOfStatus(this.#status.code, this.#status.message, this.what)
    if (!deframer.isEmpty) throw new EtcdError('bad-answer', this.what, 'an answer ends in the middle')
  }
}

/** gRPC writes what is no plain ASCII with percent signs. */
function decoded(message: unknown): string {
  const text = typeof message === 'string' ? message : ''
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
