import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

import { systemClock } from '#sys/clock.ts'
import type { Answer, Ask, Context, FakeOptions } from './context.ts'
import { servers, versions } from './compute.ts'
import { badInput, Failure, internal, noSuchPath } from './failure.ts'
import { Faults, type FaultAction } from './faults.ts'
import { floatingips } from './floating.ts'
import { Identity } from './identity.ts'
import { Cloud, plainId, type Caller, type FakeServer } from './model.ts'
import { addressUse, networks, quotas, subnets } from './networks.ts'
import { ports } from './ports.ts'
import { routers } from './routers.ts'
import { tags } from './tags.ts'

const MAX_BODY = 4 << 20

/** A request that was answered. */
export interface Logged {
  readonly method: string
  readonly path: string
  readonly status: number
}

/**
 * Keystone, Neutron and the part of Nova that is used, in one process and in memory, on real HTTP: for tests, and where no cloud is at hand. It
 * does what a real Neutron was measured to do, its traps included; one suite holds both (`test/openstack/suite.ts`).
 */
export class FakeCloud implements AsyncDisposable {
  readonly cloud = new Cloud()
  readonly faults = new Faults()
  readonly identity: Identity
  readonly requests: Logged[] = []
  readonly #context: Context
  readonly #server: Server
  #url = ''

  private constructor(options: FakeOptions) {
    const { clock = systemClock, random = Math.random } = options
    this.#context = { cloud: this.cloud, clock, random, options, base: () => this.#url }
    this.identity = new Identity(this.#context)
    this.#server = createServer((request, response) => void this.#handle(request, response))
    this.#server.keepAliveTimeout = 60_000
  }

  /** Starts on a free port of 127.0.0.1. */
  static async start(options: FakeOptions = {}): Promise<FakeCloud> {
    const fake = new FakeCloud(options)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    fake.#server.once('error', reject)
    fake.#server.listen(0, '127.0.0.1', resolve)
    await promise
    const address = fake.#server.address()
    if (typeof address === 'object' && address !== null) fake.#url = `http://127.0.0.1:${address.port}`
    return fake
  }

  /** Keystone's URL. */
  get authUrl(): string {
    return `${this.#url}/v3`
  }

  /** Makes a project with a user in it. */
  addUser(
    name: string,
    password: string,
    project: string,
    admin = false,
  ): { readonly user: string; readonly project: string } {
    const known = [...this.cloud.projects.values()].find((one) => one.name === project)
    const own = known ?? { id: plainId(), name: project }
    this.cloud.projects.set(own.id, own)
    const user = { id: plainId(), name, password, project: own.id, admin }
    this.cloud.users.set(user.id, user)
    return { user: user.id, project: own.id }
  }

  addCredential(user: string, name: string, secret: string): string {
    const id = plainId()
    this.cloud.credentials.set(id, { id, name, secret, user })
    return id
  }

  addServer(project: string, name: string, status = 'ACTIVE'): FakeServer {
    const server = { id: crypto.randomUUID(), project, name, status, host: 'compute-1' }
    this.cloud.servers.set(server.id, server)
    return server
  }

  async #answer(request: IncomingMessage, url: URL, text: string): Promise<Answer> {
    const path = url.pathname
      .split('/')
      .filter((step) => step !== '')
      .map(decodeURIComponent)
    const method = request.method ?? 'GET'
    const body = jsonOf(text)
    const [root, ...rest] = path
    if (root === 'v3') {
      if (method === 'POST' && rest.join('/') === 'auth/tokens') return this.identity.authenticate(body)
      throw noSuchPath()
    }
    const token = request.headers['x-auth-token']
    const caller: Caller = this.identity.callerOf(typeof token === 'string' ? token : '')
    const ifMatch = request.headers['if-match']
    const ask = { method, path: rest, query: url.searchParams, body, ifMatch, caller }
    if (root === 'v2.0') return this.#neutron(ask)
    if (root === 'v2.1') {
      const below = rest[0] === caller.project ? rest.slice(1) : rest
      return below.length === 0 ? versions() : servers(this.#context, { ...ask, path: below })
    }
    throw noSuchPath()
  }

  #neutron(ask: Ask): Answer | Promise<Answer> {
    const [type, , leaf] = ask.path
    if (leaf === 'tags') return tags(this.#context, ask)
    switch (type) {
      case 'ports':
        return ports(this.#context, ask)
      case 'networks':
        return networks(this.#context, ask)
      case 'subnets':
        return subnets(this.#context, ask)
      case 'routers':
        return routers(this.#context, ask)
      case 'floatingips':
        return floatingips(this.#context, ask)
      case 'quotas':
        return quotas(this.#context, ask)
      case 'network-ip-availabilities':
        return addressUse(this.#context, ask)
      default:
        throw noSuchPath()
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake')
    const method = request.method ?? 'GET'
    let answer: Answer
    let fault: FaultAction | undefined
    try {
      const text = await bodyOf(request)
      fault = this.faults.take({ method, path: url.pathname })
      if (fault?.kind === 'slow') await this.#context.clock.sleep(fault.ms)
      const works = fault === undefined || fault.kind === 'slow' || ('afterWork' in fault && fault.afterWork)
      if (!works) answer = { status: 500 }
      else answer = await this.#answer(request, url, text)
    } catch (error) {
      const failure = error instanceof Failure ? error : internal()
      answer = { status: failure.status, body: failure.body }
    }
    this.requests.push({ method, path: url.pathname, status: answer.status })
    if (this.requests.length > 10_000) this.requests.splice(0, 5_000)
    this.#reply(response, answer, fault)
  }

  #reply(response: ServerResponse, answer: Answer, fault: FaultAction | undefined): void {
    switch (fault?.kind) {
      case 'drop':
        response.destroy()
        return
      case 'garbage':
        response.writeHead(200, { 'Content-Type': 'text/html' }).end('<html>busy</html>')
        return
      case 'answer':
        response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(fault.body))
        return
      case 'status': {
        const retry = fault.retryAfter === undefined ? {} : { 'Retry-After': fault.retryAfter }
        const body = typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body ?? {})
        response.writeHead(fault.status, { 'Content-Type': 'application/json', ...retry }).end(body)
        return
      }
      default: {
        const headers = { 'Content-Type': 'application/json', ...answer.headers }
        response
          .writeHead(answer.status, headers)
          .end(answer.body === undefined ? undefined : JSON.stringify(answer.body))
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) {
    text += String(chunk)
    if (text.length > MAX_BODY) throw badInput('The request is too large')
  }
  return text
}

function jsonOf(text: string): unknown {
  if (text === '') return undefined
  try {
    const value: unknown = JSON.parse(text)
    return value
  } catch {
    throw badInput('Unable to parse request body')
  }
}
