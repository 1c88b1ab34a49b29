import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { ClusterConfig } from './config.ts'
import { errorOfFailure, KubeError } from './errors.ts'

/** One HTTP request to the API server. */
export interface HttpRequest {
  readonly method: string
  /** Path and query, without the server's own prefix. */
  readonly path: string
  readonly accept: string
  readonly contentType?: string
  readonly body?: string
  readonly signal: AbortSignal
  /** What the request is about, for errors. */
  readonly object: string
}

/** Probes of idle connections begin after this; Linux then gives a dead peer ten probes, a second apart. */
const KEEP_ALIVE_MS = 15_000

/** Connections to one API server, kept alive and shared by all requests. */
export class Transport implements Disposable {
  readonly #config: ClusterConfig
  readonly #userAgent: string
  readonly #http: HttpAgent
  readonly #https: HttpsAgent

  constructor(config: ClusterConfig, userAgent: string) {
    this.#config = config
    this.#userAgent = userAgent
    const options = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxFreeSockets: 4 }
    this.#http = new HttpAgent(options)
    this.#https = new HttpsAgent(options)
  }

  #headers(request: HttpRequest): { readonly [name: string]: string } {
    const { token, basic } = this.#config
    const bearer = token?.read()
    return {
      Accept: request.accept,
      'User-Agent': this.#userAgent,
      ...(request.contentType === undefined ? {} : { 'Content-Type': request.contentType }),
      ...(request.body === undefined ? {} : { 'Content-Length': String(Buffer.byteLength(request.body)) }),
      ...(bearer === undefined || bearer === '' ? {} : { Authorization: `Bearer ${bearer}` }),
      ...(bearer === undefined && basic !== undefined
        ? { Authorization: `Basic ${Buffer.from(`${basic.username}:${basic.password}`).toString('base64')}` }
        : {}),
    }
  }

  #once(request: HttpRequest): Promise<IncomingMessage> {
    const { server } = this.#config
    const prefix = server.pathname.replace(/\/+$/, '')
    const common = {
      method: request.method,
      // Node wants IPv6 addresses without the brackets that URLs have.
      host: server.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: server.port === '' ? (server.protocol === 'https:' ? 443 : 80) : Number(server.port),
      path: `${prefix}${request.path}`,
      headers: this.#headers(request),
      signal: request.signal,
    }
    return new Promise((resolve, reject) => {
      // TLS material goes with each request: the agent keeps sockets apart by it, so a rotated certificate opens new ones.
      const outgoing =
        server.protocol === 'https:'
          ? httpsRequest({ ...common, ...this.#config.tls(), agent: this.#https })
          : httpRequest({ ...common, agent: this.#http })
      outgoing.on('response', resolve)
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        reject(outgoing.reusedSocket && error.code === 'ECONNRESET' ? new StaleConnection(error) : error)
      })
      outgoing.end(request.body)
    })
  }

  /**
   * Sends a request and answers as soon as the headers are there. The signal ends the request, also while the body is
   * read.
   * @throws KubeError `unreachable`, `tls`, `timeout`, `aborted`
   */
  async send(request: HttpRequest): Promise<IncomingMessage> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#once(request)
      } catch (error) {
        if (request.signal.aborted) throw abortError(request)
        // The server closed an idle connection just as it was used again. Only what changes nothing is sent twice.
        if (error instanceof StaleConnection && request.method === 'GET' && attempt < 3) continue
        throw errorOfFailure(error instanceof StaleConnection ? error.cause : error, request.object)
      }
    }
  }

  /** Tells credentials to look for newer ones, after a 401. True when there is another token now. */
  refresh(): boolean {
    return this.#config.token?.refresh() ?? false
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

/** The reason of an aborted request: a deadline that passed, or the owner's abort. */
export function abortError(request: Pick<HttpRequest, 'signal' | 'object'>): KubeError {
  const { reason } = request.signal
  return reason instanceof KubeError
    ? reason
    : new KubeError('aborted', 'the request was aborted', { object: request.object, cause: reason })
}
