/**
 * A cloud for tests: one HTTP server for the metadata and the API, with a route table behind it. What can go wrong with a real one can be ordered here:
 * throttling, expired keys, a full table, a list that tells the past, pages.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface CloudRoute {
  /** Of the one table that there is, unless told. */
  readonly table?: string
  readonly destination: string
  readonly nextHop: string
  readonly description: string
  readonly name: string
  /** Made by the cloud itself, or leads to a gateway. */
  readonly isForeign?: boolean
  /** Its instance is gone. */
  readonly isDead?: boolean
}

export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

export interface Told {
  readonly status: number
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

export const told = (value: unknown, status = 200, headers?: Readonly<Record<string, string>>): Told => ({
  status,
  body: typeof value === 'string' ? value : JSON.stringify(value),
  ...(headers === undefined ? {} : { headers }),
})

export abstract class CloudServer implements AsyncDisposable {
  readonly #server: Server
  /** The table as it is. */
  routes: CloudRoute[] = []
  /** How many routes fit. */
  limit = Infinity
  /** So many lists still tell of the table as it was when this was set. */
  stale = 0
  #past: CloudRoute[] = []
  /** The next API requests are answered with these. */
  readonly orders: Told[] = []
  /** API actions in order. */
  readonly actions: string[] = []
  /** Keys given out so far; only the last are accepted. */
  generation = 1
  /** Routes in one answer. */
  page = 2
  /** Called with the table after each change. */
  onChange: (routes: readonly CloudRoute[]) => void = () => undefined

  constructor() {
    this.#server = createServer((request, response) => {
      void this.#serve(request, response)
    })
  }

  /** On a free port, or with a socket that listens already. */
  async listen(fd?: number): Promise<this> {
    const at = fd === undefined ? { port: 0, host: '127.0.0.1' } : { fd }
    await new Promise<void>((resolve) => void this.#server.listen(at, resolve))
    return this
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo
    return `http://${address}:${port}`
  }

  /** Lists go on telling of the table as it is now, so many times. */
  freeze(lists: number): void {
    this.#past = [...this.routes]
    this.stale = lists
  }

  /** The instance that a request to the metadata server comes from; one, unless a test knows better. */
  instanceOf: (address: string) => string = () => 'i-self'
  /** The addresses of an instance, for clouds that know them. */
  addressesOf: (instance: string) => readonly string[] = () => ['192.168.0.1']

  protected listed(): readonly CloudRoute[] {
    if (this.stale === 0) return this.routes
    this.stale--
    return this.#past
  }

  /** False when there is one already. */
  protected add(route: CloudRoute): 'done' | 'exists' | 'full' {
    if (this.routes.some(({ name, destination }) => name === route.name && destination === route.destination))
      return 'exists'
    if (this.routes.length >= this.limit) return 'full'
    this.routes.push(route)
    this.onChange(this.routes)
    return 'done'
  }

  protected drop(isIt: (route: CloudRoute) => boolean): boolean {
    const before = this.routes.length
    this.routes = this.routes.filter((route) => !isIt(route))
    this.onChange(this.routes)
    return this.routes.length < before
  }

  protected abstract metadata(asked: Asked, instance: string): Told | undefined
  protected abstract api(asked: Asked): Told
  protected abstract actionOf(asked: Asked): string

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body, headers } = await this.#answer(request)
    response.writeHead(status, headers)
    response.end(body)
  }

  async #answer(request: IncomingMessage): Promise<Told> {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const url = new URL(request.url ?? '/', 'http://cloud')
    const asked: Asked = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body,
    }
    try {
      const answer = this.metadata(asked, this.instanceOf(request.socket.remoteAddress ?? ''))
      if (answer !== undefined) return answer
      this.actions.push(this.actionOf(asked))
      return this.orders.shift() ?? this.api(asked)
    } catch (error) {
      return told(String(error), 599)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => void this.#server.close(resolve))
  }
}
