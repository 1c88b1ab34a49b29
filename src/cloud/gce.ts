/** Google Compute Engine: routes of a VPC network, API v1. Source: Compute Engine's REST reference (routes, globalOperations) and "VM metadata". */

import { randomUUID } from 'node:crypto'
import * as v from 'valibot'

import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import { again } from './again.ts'
import { isMark, markOf, type CloudOptions, type CloudTables, type OpenCloud, type Scope } from './client.ts'
import { Credentials } from './credentials.ts'
import { CloudError, foreign, type CloudErrorCode } from './errors.ts'
import type { CloudRequest, CloudResponse } from './http.ts'
import { parseJson, tryJson } from './json.ts'
import { Metadata } from './metadata.ts'
import type { TableRoute } from './route-plan.ts'

const PAGE = 500
const MAX_PAGES = 100
const PRIORITY = 1000
/** How long an operation is waited for, and at which intervals (ms). */
const OPERATION = 120_000
const POLL = 1_000
const LONGEST_POLL = 8_000

const Token = v.object({ access_token: v.string(), expires_in: v.number() })
const Instance = v.object({ canIpForward: v.optional(v.boolean(), false) })
const Route = v.object({
  name: v.string(),
  network: v.string(),
  destRange: v.string(),
  description: v.optional(v.string()),
  nextHopInstance: v.optional(v.string()),
  nextHopIp: v.optional(v.string()),
  warnings: v.optional(v.array(v.object({ code: v.optional(v.string(), '') })), []),
})
const Routes = v.object({ items: v.optional(v.array(Route), []), nextPageToken: v.optional(v.string(), '') })
const Operation = v.object({
  name: v.pipe(v.string(), v.regex(/^[\w-]{1,128}$/)),
  status: v.string(),
  error: v.optional(
    v.object({
      errors: v.array(v.object({ code: v.optional(v.string(), ''), message: v.optional(v.string(), '') })),
    }),
  ),
})
const Failure = v.object({
  error: v.object({
    message: v.optional(v.string(), ''),
    errors: v.optional(v.array(v.object({ reason: v.optional(v.string(), '') })), []),
  }),
})

type Call = <S extends v.GenericSchema>(
  schema: S,
  request: CloudRequest,
  signal: AbortSignal,
) => Promise<v.InferOutput<S>>

export const openGce: OpenCloud = async (options, signal) => {
  const metadata = new Metadata({
    ...options,
    base: `${options.metadata ?? 'http://metadata.google.internal'}/computeMetadata/v1`,
    headers: { 'Metadata-Flavor': 'Google' },
  })
  const project = await metadata.name('project/project-id', signal)
  const name = await metadata.name('instance/name', signal)
  const zone = lastPart(await metadata.name('instance/zone', signal))
  const network = lastPart(await metadata.name('instance/network-interfaces/0/network', signal))
  const api = `${options.api ?? 'https://compute.googleapis.com'}/compute/v1/projects/${project}`
  return new Gce(options, caller(options, metadata), api, {
    instance: `projects/${project}/zones/${zone}/instances/${name}`,
    network: `projects/${project}/global/networks/${network}`,
  })
}

function caller(options: CloudOptions, metadata: Metadata): Call {
  const { clock, send } = options
  const credentials = new Credentials(clock, async (signal) => {
    const { access_token, expires_in } = await metadata.json(Token, 'instance/service-accounts/default/token', signal)
    return { value: access_token, until: clock.wall() + expires_in * 1000 }
  })
  return async (schema, request, signal) => {
    const text = await again(options, signal, () =>
      credentials.use(signal, async (token) => {
        const headers = { ...request.headers, authorization: `Bearer ${token}` }
        const answer = await send({ ...request, headers }, signal)
        if (answer.status !== 200) throw failure(request.what, answer)
        return answer.text
      }),
    )
    return parseJson(schema, text, request.what)
  }
}

interface GcePlace {
  /** `projects/p/zones/z/instances/i` */
  readonly instance: string
  /** `projects/p/global/networks/n` */
  readonly network: string
}

class Gce implements CloudTables {
  readonly nextHop: string
  readonly tables: readonly string[]
  readonly #options: CloudOptions
  readonly #call: Call
  readonly #api: string

  constructor(options: CloudOptions, call: Call, api: string, { instance, network }: GcePlace) {
    this.#options = options
    this.#call = call
    this.#api = api
    this.nextHop = instance
    this.tables = [network]
  }

  /** Only whoever makes or stops an instance can change this. */
  async prepare(signal: AbortSignal): Promise<void> {
    const path = this.nextHop.replace(/^projects\/[^/]+\//, '')
    const request = { what: 'instances.get', method: 'GET', url: `${this.#api}/${path}` } as const
    const { canIpForward } = await this.#call(Instance, request, signal)
    if (!canIpForward) throw new CloudError('forwarding', `${this.nextHop}: canIpForward is off`)
  }

  async list({ subnet, all }: Scope, signal: AbortSignal): Promise<TableRoute[]> {
    const self = `https://www.googleapis.com/compute/v1/${this.nextHop}`
    const filter = all ? {} : { filter: `(destRange = "${subnet}") OR (nextHopInstance = "${self}")` }
    const routes: TableRoute[] = []
    let token = ''
    for (let page = 0; page < MAX_PAGES; page++) {
      const query = new URLSearchParams({
        maxResults: String(PAGE),
        ...filter,
        ...(token === '' ? {} : { pageToken: token }),
      })
      const request = {
        what: 'routes.list',
        method: 'GET',
        url: `${this.#api}/global/routes?${query.toString()}`,
      } as const
      const { items, nextPageToken } = await this.#call(Routes, request, signal)
      routes.push(...items.flatMap((item) => this.#routeOf(item) ?? []))
      token = nextPageToken
      if (token === '') return routes
    }
    throw new CloudError('bad-answer', `routes.list: more than ${MAX_PAGES} pages`)
  }

  async create(table: string, destination: string, signal: AbortSignal): Promise<void> {
    const body = {
      name: routeName(destination),
      description: markOf(this.#options.node),
      network: table,
      destRange: destination,
      priority: PRIORITY,
      nextHopInstance: this.nextHop,
    }
    await this.#operate({ what: 'routes.insert', method: 'POST', url: `${this.#api}/global/routes` }, signal, body)
  }

  /** Routes cannot be changed: the old one goes, and its name with it. */
  async replace(route: TableRoute, signal: AbortSignal): Promise<void> {
    await this.remove(route, signal)
    await this.create(route.table, route.destination, signal)
  }

  async remove({ id }: TableRoute, signal: AbortSignal): Promise<void> {
    const url = `${this.#api}/global/routes/${encodeURIComponent(id)}`
    await this.#operate({ what: 'routes.delete', method: 'DELETE', url }, signal)
  }

  /** Starts an operation, once whatever is repeated, and waits for its end. */
  async #operate(request: CloudRequest, signal: AbortSignal, body?: object): Promise<void> {
    const { clock } = this.#options
    const started = {
      ...request,
      url: `${request.url}?requestId=${randomUUID()}`,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    }
    const deadline = clock.now() + OPERATION
    let operation = await this.#call(Operation, started, signal)
    for (let pause = POLL; operation.status !== 'DONE'; pause = Math.min(LONGEST_POLL, pause * 2)) {
      if (clock.now() > deadline)
        throw new CloudError(
          'unavailable',
          `${request.what}: operation ${operation.name} has not ended in ${OPERATION / 1000} s`,
        )
      await clock.sleep(pause, signal)
      const url = `${this.#api}/global/operations/${operation.name}`
      operation = await this.#call(Operation, { what: `operation of ${request.what}`, method: 'GET', url }, signal)
    }
    const [error] = operation.error?.errors ?? []
    if (error !== undefined)
      throw new CloudError(
        codeOf(error.code) ?? 'refused',
        `${request.what}: ${foreign(error.code)}: ${foreign(error.message)}`,
      )
  }

  /** Undefined for a route of another network, and for what is no IPv4 route. */
  #routeOf(route: v.InferOutput<typeof Route>): TableRoute | undefined {
    const cidr = tryParseCidr(route.destRange)
    const table = path(route.network)
    if (cidr?.ip.family !== 4 || !this.tables.includes(table)) return undefined
    const { nextHopInstance, nextHopIp = '', name } = route
    const isOurs = name === routeName(formatCidr(cidr)) || isMark(route.description)
    return {
      table,
      id: name,
      destination: formatCidr(cidr),
      nextHop: nextHopInstance === undefined ? nextHopIp : path(nextHopInstance),
      origin: nextHopInstance === undefined ? 'foreign' : isOurs ? 'marked' : 'instance',
      state: route.warnings.some(({ code }) => DEAD.has(code)) ? 'dead' : 'active',
    }
  }
}

const DEAD = new Set(['NEXT_HOP_INSTANCE_NOT_FOUND', 'NEXT_HOP_INSTANCE_NOT_ON_NETWORK', 'NEXT_HOP_NOT_RUNNING'])

/** As flannel names them: `flannel-10-244-1-0-24`. */
export const routeName = (destination: string): string => `flannel-${destination.replaceAll(/[./]/g, '-')}`

/** An object's URL without its server and version, which vary. */
const path = (url: string): string => url.slice(Math.max(0, url.indexOf('projects/')))

const lastPart = (text: string): string => text.slice(text.lastIndexOf('/') + 1)

/** Reasons of refusals and codes of failed operations. */
function codeOf(reason: string): CloudErrorCode | undefined {
  if (/^(?:rateLimitExceeded|userRateLimitExceeded|RATE_LIMIT_EXCEEDED|RESOURCE_OPERATION_RATE_EXCEEDED)$/.test(reason))
    return 'throttled'
  if (/^(?:quotaExceeded|QUOTA_EXCEEDED|limitExceeded|LIMIT_EXCEEDED)$/.test(reason)) return 'limit'
  if (/^(?:alreadyExists|duplicate|RESOURCE_ALREADY_EXISTS)$/.test(reason)) return 'exists'
  if (/^(?:notFound|RESOURCE_NOT_FOUND)$/.test(reason)) return 'not-found'
  if (/^(?:forbidden|insufficientPermissions|accessNotConfigured|PERMISSIONS_ERROR)$/.test(reason)) return 'permission'
  if (/^(?:authError|required|expired)$/.test(reason)) return 'credentials'
  if (/^(?:backendError|internalError|INTERNAL_ERROR|resourceNotReady|RESOURCE_NOT_READY)$/.test(reason))
    return 'unavailable'
  return undefined
}

const STATUS: Readonly<Record<number, CloudErrorCode>> = {
  401: 'credentials',
  403: 'permission',
  404: 'not-found',
  409: 'exists',
  429: 'throttled',
}

/** What a refusal means. */
export function failure(what: string, { status, text, retryAfterMs }: CloudResponse): CloudError {
  const said = tryJson(Failure, text)?.error
  const reason = said?.errors[0]?.reason ?? ''
  const code = codeOf(reason) ?? STATUS[status] ?? (status >= 500 ? 'unavailable' : 'refused')
  const words = said === undefined ? '' : `: ${foreign(`${reason} ${said.message}`)}`
  return new CloudError(code, `${what}: status ${status}${words}`, retryAfterMs)
}
