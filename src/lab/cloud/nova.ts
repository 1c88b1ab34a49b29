/**
 * The part of Nova that hands network cards to servers, in front of the real Neutron: it binds ports there, and the driver then lays the cables, as libvirt
 * plugs cards in. Answers as the fake driver of a real Nova was seen to.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { errorFields, type Log } from '#agent/log.ts'
import type { OpenStackClient } from '#openstack/client.ts'
import { isCode } from '#openstack/errors.ts'
import { versions } from '#openstack/fake/compute.ts'
import type { Answer } from '#openstack/fake/context.ts'
import { Failure, nova, unauthorized } from '#openstack/fake/failure.ts'
import { Ports, type Port } from '#openstack/neutron/port.ts'
import type { Listen } from './forward.ts'
import type { CloudState } from './state.ts'
import { bindPort } from './topology.ts'

export interface NovaOptions {
  readonly listen: readonly Listen[]
  readonly admin: OpenStackClient
  readonly state: CloudState
  /** Resolves when the cables are as the database says. */
  readonly settled: () => Promise<void>
  readonly log: Log
  /** Milliseconds that a card takes to come or go; a real Nova needs 1,700. */
  readonly attachMs?: number
}

const MAX_BODY = 64 << 10
const MAX_TOKENS = 256
/** A PC's slots: with the first card, 32 devices are too many for most guests. */
const MAX_CARDS = 28

const Body = v.object({
  interfaceAttachment: v.object({
    port_id: v.optional(v.string()),
    net_id: v.optional(v.string()),
    fixed_ips: v.optional(v.pipe(v.array(v.looseObject({ ip_address: v.optional(v.string()) })), v.maxLength(1))),
    tag: v.optional(v.string()),
  }),
})

const view = (port: Port): object => ({
  port_id: port.id,
  net_id: port.network_id,
  mac_addr: port.mac_address,
  port_state: 'ACTIVE',
  fixed_ips: port.fixed_ips,
})

export class Nova implements AsyncDisposable {
  readonly #options: NovaOptions
  readonly #ports: Ports
  readonly #servers: Server[] = []
  /** Tokens that Keystone has vouched for, until when. */
  readonly #tokens = new Map<string, number>()
  /** Ports that are being attached, so that the second request for one is refused. */
  readonly #attaching = new Set<string>()
  /** Ports of Nova's own making, which go with their card. */
  readonly #own = new Set<string>()

  private constructor(options: NovaOptions) {
    this.#options = options
    this.#ports = new Ports(options.admin)
  }

  static async start(options: NovaOptions): Promise<Nova> {
    const own = new Nova(options)
    for (const at of options.listen) {
      const server = createServer((request, response) => void own.#handle(request, response))
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.once('error', reject)
      server.listen('fd' in at ? at : { host: '127.0.0.1', port: at.port }, resolve)
      await promise
      own.#servers.push(server)
    }
    return own
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#servers.map(async (server) => {
        const closed = new Promise<void>((resolve) => void server.close(() => resolve()))
        server.closeAllConnections()
        await closed
      }),
    )
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = await this.#answer(request).catch((error: unknown): Answer => {
      if (error instanceof Failure) return { status: error.status, body: error.body }
      this.#options.log.warn({ path: request.url, ...errorFields(error) }, 'a request to Nova failed')
      return { status: 500, body: { computeFault: { code: 500, message: 'Unexpected API Error.' } } }
    })
    response
      .writeHead(answer.status, { 'Content-Type': 'application/json' })
      .end(answer.body === undefined ? undefined : JSON.stringify(answer.body))
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const [root, ...path] = new URL(request.url ?? '/', 'http://nova').pathname.split('/').filter((step) => step !== '')
    if (root !== 'v2.1') throw nova(404, 'itemNotFound', 'The resource could not be found.')
    if (path.length === 0) return versions()
    const token = request.headers['x-auth-token']
    await this.#authenticate(typeof token === 'string' ? token : '')
    const [, id = '', leaf, portId] = path
    const name = Object.entries(this.#options.state.servers).find(([, server]) => server.id === id)?.[0]
    if (path[0] !== 'servers' || name === undefined)
      throw nova(404, 'itemNotFound', `Instance ${id} could not be found.`)
    const { method } = request
    if (leaf === undefined && method === 'GET') {
      return { status: 200, body: { server: { id, name, status: 'ACTIVE', 'OS-EXT-STS:task_state': null } } }
    }
    if (leaf !== 'os-interface') throw nova(404, 'itemNotFound', 'The resource could not be found.')
    const cards = await this.#ports.list({ device: id })
    if (portId === undefined) {
      if (method === 'GET') return { status: 200, body: { interfaceAttachments: cards.map(view) } }
      if (method === 'POST') return this.#attach(id, cards.length, await bodyOf(request))
    } else {
      const port = cards.find((card) => card.id === portId)
      if (port === undefined) throw nova(404, 'itemNotFound', `No instance found with port ID ${portId}`)
      if (method === 'GET') return { status: 200, body: { interfaceAttachment: view(port) } }
      if (method === 'DELETE') {
        void this.#detach(port.id)
        return { status: 202 }
      }
    }
    throw nova(405, 'badMethod', 'The method is not allowed for this resource.')
  }

  /** Asks Keystone once for each token. */
  async #authenticate(token: string): Promise<void> {
    const now = Date.now()
    if ((this.#tokens.get(token) ?? 0) > now) return
    if (token === '' || token.length > 1024) throw unauthorized()
    const object = 'GET auth/tokens'
    const headers = { 'X-Subject-Token': token }
    const Token = v.object({ token: v.object({ expires_at: v.string() }) })
    const call = { service: 'identity', method: 'GET', path: ['auth', 'tokens'], headers, object } as const
    const found = await this.#options.admin.call(call, Token).catch((error: unknown) => {
      if (isCode(error, 'not-found')) throw unauthorized()
      throw error
    })
    if (this.#tokens.size >= MAX_TOKENS) this.#tokens.clear()
    this.#tokens.set(token, Date.parse(found.token.expires_at))
  }

  async #attach(server: string, cards: number, raw: unknown): Promise<Answer> {
    const parsed = v.safeParse(Body, raw)
    if (!parsed.success) {
      const field = v.getDotPath(parsed.issues[0]) ?? 'interfaceAttachment'
      throw nova(400, 'badRequest', `Invalid input for field/attribute ${field}. ${parsed.issues[0].message}`)
    }
    const { port_id, net_id, fixed_ips = [] } = parsed.output.interfaceAttachment
    if (port_id !== undefined && net_id !== undefined)
      throw nova(400, 'badRequest', 'Must not input both network_id and port_id')
    if (cards + this.#attaching.size >= MAX_CARDS)
      throw nova(500, 'computeFault', 'internal error: No more available PCI slots')
    const port = port_id === undefined ? await this.#make(net_id ?? '', fixed_ips) : await this.#find(port_id)
    if (port.device_id !== '' || this.#attaching.has(port.id))
      throw nova(409, 'conflictingRequest', `Port ${port.id} is still in use.`)
    this.#attaching.add(port.id)
    try {
      await bindPort(this.#options.admin, port.id, server)
      await sleep(this.#options.attachMs ?? 0)
      await this.#options.settled()
      return { status: 200, body: { interfaceAttachment: view(port) } }
    } finally {
      this.#attaching.delete(port.id)
    }
  }

  async #find(id: string): Promise<Port> {
    try {
      return await this.#ports.get(id)
    } catch (error) {
      if (isCode(error, 'not-found')) throw nova(404, 'itemNotFound', `Port id ${id} could not be found.`)
      throw error
    }
  }

  async #make(network: string, fixed: readonly { readonly ip_address?: string | undefined }[]): Promise<Port> {
    const known = Object.values(this.#options.state.networks).some((one) => one.network === network)
    if (!known) throw nova(400, 'badRequest', `Network ${network} could not be found.`)
    const [first] = fixed
    if (first?.ip_address !== undefined)
      throw nova(400, 'badRequest', 'a fixed address needs a port: make it first and attach it by port_id')
    const port = await this.#ports.create({ network_id: network })
    this.#own.add(port.id)
    return port
  }

  async #detach(id: string): Promise<void> {
    try {
      await sleep(this.#options.attachMs ?? 0)
      if (this.#own.delete(id)) await this.#ports.delete(id)
      else await bindPort(this.#options.admin, id, '')
      await this.#options.settled()
    } catch (error) {
      this.#options.log.warn({ port: id, ...errorFields(error) }, 'a card could not be detached')
    }
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = ''
  for await (const chunk of request) {
    text += String(chunk)
    if (text.length > MAX_BODY) throw nova(413, 'overLimit', 'The request is too large')
  }
  try {
    const value: unknown = JSON.parse(text)
    return value
  } catch {
    throw nova(400, 'badRequest', 'Malformed request body')
  }
}
