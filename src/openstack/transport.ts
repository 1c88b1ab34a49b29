import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'

import { errorOfFailure, OpenStackError } from './errors.ts'

/** TLS material as `node:tls` takes it, read for each request, so that a rotated certificate opens new connections. */
export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly rejectUnauthorized: boolean
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: URL
  readonly headers: { readonly [name: string]: string }
  /** JSON. */
  readonly body?: string
  readonly signal: AbortSignal
  /** What the request is about, for errors. */
  readonly object: string
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** Whoever sends requests; tests may put another one here. */
export interface HttpSender extends Disposable {
  send(request: HttpRequest): Promise<HttpAnswer>
}

/** No answer is read beyond this: a page of 1000 ports with a hundred addresses each has about 12 MiB. */
const LIMIT = 32 * 1024 * 1024
/** Connections to one server at once; further requests wait for one, within their deadline. */
const MAX_SOCKETS = 8
/** Probes of idle connections begin after this. */
const KEEP_ALIVE_MS = 15_000

/** Connections to the services of one cloud, kept alive and shared. Redirects are not followed: they would carry the token elsewhere. */
export class Transport implements HttpSender {
  readonly #tls: () => TlsMaterial
  readonly #http: HttpAgent
  readonly #https: HttpsAgent

  constructor(tls: () => TlsMaterial) {
    this.#tls = tls
    const options = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: MAX_SOCKETS, maxFreeSockets: 2 }
    this.#http = new HttpAgent(options)
    this.#https = new HttpsAgent(options)
  }

  #open(request: HttpRequest): Promise<IncomingMessage> {
    const { url, body } = request
    const common = {
      method: request.method,
      headers: {
        ...request.headers,
        Accept: 'application/json',
        ...(body === undefined
          ? {}
          : { 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(body)) }),
      },
      signal: request.signal,
    }
    return new Promise((resolve, reject) => {
      const outgoing =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...common, ...this.#tls(), agent: this.#https })
          : httpRequest(url, { ...common, agent: this.#http })
      let connected = false
      outgoing.on('socket', (socket) => {
        if (socket.connecting) socket.once('connect', () => (connected = true))
        else connected = true
      })
      outgoing.on('response', resolve)
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        const stale = outgoing.reusedSocket && error.code === 'ECONNRESET'
        reject(stale ? new StaleConnection(error) : errorOfFailure(error, request.object, connected))
      })
      outgoing.end(body)
    })
  }

  /**
   * Sends a request and reads its answer, whatever the status.
   * @throws OpenStackError `unreachable`, `tls`, `bad-response` (too large), or the reason of the signal
   */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const response = await this.#open(request)
        const text = await readText(response, request.object)
        return { status: response.statusCode ?? 0, headers: response.headers, text }
      } catch (error) {
        if (request.signal.aborted) throw reasonOf(request.signal, request.object)
        if (!(error instanceof StaleConnection)) throw error
        // The server closed an idle connection just as it was used again. Only what changes nothing is sent twice here.
        if (request.method !== 'GET' || attempt >= 2) throw errorOfFailure(error.cause, request.object, true)
      }
    }
  }

  [Symbol.dispose](): void {
    this.#http.destroy()
    this.#https.destroy()
  }
}

class StaleConnection extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause })
    this.name = 'StaleConnection'
  }
}

const reasonOf = (signal: AbortSignal, object: string): OpenStackError =>
  signal.reason instanceof OpenStackError
    ? signal.reason
    : new OpenStackError('aborted', 'the request was given up', { object, cause: signal.reason })

async function readText(response: IncomingMessage, object: string): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of response) {
      const bytes: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk))
      size += bytes.length
      if (size > LIMIT) throw new OpenStackError('bad-response', `the answer has more than ${LIMIT} bytes`, { object })
      chunks.push(bytes)
    }
  } catch (error) {
    throw errorOfFailure(error, object, true)
  }
  return Buffer.concat(chunks).toString('utf8')
}
