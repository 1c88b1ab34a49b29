/** /healthz, /readyz and /metrics by HTTP, on a unix socket or an address. Nothing in them is secret, and nothing can be changed by them. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { chmodSync, mkdirSync, rmSync, lstatSync } from 'node:fs'
import { dirname } from 'node:path'

import type { Health } from './health.ts'
import type { Registry } from './metrics.ts'

/** `/run/heddle/health.sock`, or an address with a port. */
export type ListenAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }

/** Without a sign of life for so long (ms), the agent hangs and a restart helps. */
const SILENCE_LIMIT = 30_000

/** Parses `--health-listen`: an absolute path, `HOST:PORT`, `[V6]:PORT` or `:PORT` (this machine only). Undefined for anything else. */
export function parseListen(text: string): ListenAddress | undefined {
  if (text.startsWith('/')) return { kind: 'unix', path: text }
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) return undefined
  const host = match[1] ?? match[2] ?? ''
  return { kind: 'tcp', host: host === '' ? '127.0.0.1' : host, port }
}

/** More pages, by path: what each shows as JSON. */
export type Pages = Map<string, (query: URLSearchParams) => unknown>

export class HealthServer implements AsyncDisposable {
  readonly #server: Server
  readonly #address: ListenAddress

  private constructor(server: Server, address: ListenAddress) {
    this.#server = server
    this.#address = address
  }

  static async listen(
    address: ListenAddress,
    health: Health,
    registry: Registry,
    pages: Pages = new Map(),
  ): Promise<HealthServer> {
    const server = createServer((request, response) => answer(request, response, health, registry, pages))
    server.requestTimeout = 5_000
    server.headersTimeout = 5_000
    server.keepAliveTimeout = 5_000
    server.maxConnections = 64
    if (address.kind === 'unix') prepareSocket(address.path)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      const done = (): void => {
        server.off('error', reject)
        resolve()
      }
      if (address.kind === 'unix') server.listen(address.path, done)
      else server.listen(address.port, address.host, done)
    })
    if (address.kind === 'unix') chmodSync(address.path, 0o600)
    return new HealthServer(server, address)
  }

  /** The port in use; for a written port 0, the one the kernel chose. */
  get port(): number | undefined {
    const bound = this.#server.address()
    return typeof bound === 'object' && bound !== null ? bound.port : undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
    if (this.#address.kind === 'unix') rmSync(this.#address.path, { force: true })
  }
}

/** Removes a socket of a former life; never anything else. */
function prepareSocket(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket())
    throw new Error(`${path} exists and is no socket: remove it, or choose another path for --health-listen`)
  rmSync(path)
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  health: Health,
  registry: Registry,
  pages: Pages,
): void {
  const [path = '', query = ''] = (request.url ?? '').split('?', 2)
  if (request.method !== 'GET' && request.method !== 'HEAD') return send(response, 405, 'text/plain', 'only GET\n')
  if (path === '/healthz' || path === '/livez') {
    const silence = health.silence()
    if (silence <= SILENCE_LIMIT) return send(response, 200, 'text/plain', 'ok\n')
    return send(response, 503, 'text/plain', `no sign of life for ${Math.round(silence / 1000)} s\n`)
  }
  if (path === '/readyz') {
    const readiness = health.readiness()
    return send(
      response,
      readiness.ready ? 200 : 503,
      'application/json',
      `${JSON.stringify(readiness, undefined, 2)}\n`,
    )
  }
  if (path === '/metrics') {
    return request.headers.accept?.includes('application/openmetrics-text') === true
      ? send(response, 200, 'application/openmetrics-text; version=1.0.0; charset=utf-8', registry.text('openmetrics'))
      : send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', registry.text('prometheus'))
  }
  const page = pages.get(path)
  if (page !== undefined) {
    const body = JSON.stringify(page(new URLSearchParams(query)), undefined, 2)
    return send(response, 200, 'application/json', `${body}\n`)
  }
  const others = [...pages.keys()].map((name) => `, ${name}`).join('')
  return send(response, 404, 'text/plain', `there are /healthz, /readyz, /metrics${others}\n`)
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  })
  response.end(body)
}
