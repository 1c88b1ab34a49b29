/**
 * Tencent Cloud: routes of a VPC, API version 2017-03-12. Source: Tencent Cloud's VPC API reference (DescribeRouteTables, CreateRoutes, ReplaceRoutes,
 * DeleteRoutes, DescribeSubnets, error codes), "Signature v3" and "Instance metadata".
 */

import * as v from 'valibot'

import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { again } from './again.ts'
import { isMark, markOf, type CloudOptions, type CloudTables, type Keys, type OpenCloud, type Scope } from './client.ts'
import { CloudError, foreign, type CloudErrorCode } from './errors.ts'
import type { CloudResponse } from './http.ts'
import { parseJson, tryJson } from './json.ts'
import { keysOf, Metadata } from './metadata.ts'
import type { TableRoute } from './route-plan.ts'
import { signTc3 } from './sign-tc3.ts'

const VERSION = '2017-03-12'
const PAGE = 100
const MAX_PAGES = 100
/** More network interfaces than an instance can have. */
const MAX_INTERFACES = 64
const MAX_DESCRIPTION = 60

const Id = v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/))
const Text = v.optional(v.nullable(v.string()), '')

const Role = v.object({
  TmpSecretId: v.string(),
  TmpSecretKey: v.string(),
  Token: v.string(),
  /** Seconds since 1970. */
  ExpiredTime: v.number(),
})
const Subnets = v.object({ SubnetSet: v.array(v.object({ SubnetId: Id, RouteTableId: Id })) })
const Route = v.object({
  RouteId: v.pipe(v.number(), v.safeInteger()),
  DestinationCidrBlock: Text,
  GatewayType: Text,
  GatewayId: Text,
  RouteDescription: Text,
  RouteType: Text,
  Enabled: v.optional(v.nullable(v.boolean()), true),
})
const Table = v.object({ RouteTableId: Id, RouteSet: v.array(Route) })
const Tables = v.object({ TotalCount: v.pipe(v.number(), v.integer()), RouteTableSet: v.array(Table) })
const Done = v.object({ RequestId: v.string() })
const Failure = v.object({ Response: v.object({ Error: v.object({ Code: v.string(), Message: Text }) }) })

type Call = <S extends v.GenericSchema>(
  schema: S,
  action: string,
  parameters: object,
  signal: AbortSignal,
) => Promise<v.InferOutput<S>>

export const openTencentVpc: OpenCloud = async (options, signal) => {
  const metadata = new Metadata({ ...options, base: `${options.metadata ?? 'http://metadata.tencentyun.com'}/latest` })
  const region = await metadata.name('meta-data/placement/region', signal)
  const subnet = await subnetOf(metadata, options.address, signal)
  const call = caller(options, metadata, region)
  return new TencentVpc(options, call, options.tables ?? [await tableOf(call, subnet, signal)])
}

/** The subnet of the network interface with this address. */
async function subnetOf(metadata: Metadata, address: IpText, signal: AbortSignal): Promise<string> {
  const macs = 'meta-data/network/interfaces/macs/'
  for (const mac of linesOf(await metadata.text(macs, signal)).slice(0, MAX_INTERFACES)) {
    if (!/^[0-9a-f:]{17}$/i.test(mac)) continue
    if (linesOf(await metadata.text(`${macs}${mac}/local-ipv4s/`, signal)).includes(address))
      return metadata.name(`${macs}${mac}/subnet-id`, signal)
  }
  throw new CloudError('metadata', `metadata server: no network interface of this instance has the address ${address}`)
}

/** Entries of a listing; those that have entries themselves end in a slash. */
const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim().replace(/\/$/, ''))
    .filter((line) => line !== '')

async function tableOf(call: Call, subnet: string, signal: AbortSignal): Promise<string> {
  const { SubnetSet } = await call(Subnets, 'DescribeSubnets', { SubnetIds: [subnet] }, signal)
  const found = SubnetSet.find(({ SubnetId }) => SubnetId === subnet)
  if (found === undefined) throw new CloudError('bad-answer', `DescribeSubnets: ${subnet} is not in the answer`)
  return found.RouteTableId
}

function caller(options: CloudOptions, metadata: Metadata, region: string): Call {
  const { send, clock } = options
  const url = `${options.api ?? 'https://vpc.tencentcloudapi.com'}/`
  const { host } = new URL(url)
  const credentials = keysOf(clock, options.keys, async (signal) => {
    const role = await metadata.name('meta-data/cam/security-credentials/', signal)
    const found = await metadata.json(Role, `meta-data/cam/security-credentials/${role}`, signal)
    const { TmpSecretId: id, TmpSecretKey: secret, Token: token, ExpiredTime } = found
    return { id, secret, token, until: ExpiredTime * 1000 }
  })
  const ask = async (action: string, parameters: object, keys: Keys, signal: AbortSignal): Promise<string> => {
    const body = JSON.stringify(parameters)
    const at = clock.wall()
    const type = { 'content-type': 'application/json; charset=utf-8' }
    const headers: Record<string, string> = {
      ...type,
      authorization: signTc3({ service: 'vpc', headers: { ...type, host }, body, at }, keys),
      'x-tc-action': action,
      'x-tc-version': VERSION,
      'x-tc-region': region,
      'x-tc-timestamp': String(Math.floor(at / 1000)),
    }
    if (keys.token !== undefined) headers['x-tc-token'] = Buffer.from(keys.token.reveal()).toString()
    const answer = await send({ what: action, method: 'POST', url, headers, body }, signal)
    // Refusals come with status 200 as well.
    if (answer.status !== 200 || tryJson(Failure, answer.text) !== undefined) throw failure(action, answer)
    return answer.text
  }
  return async (schema, action, parameters, signal) => {
    const text = await again(options, signal, () =>
      credentials.use(signal, (keys) => ask(action, parameters, keys, signal)),
    )
    return parseJson(v.object({ Response: schema }), text, action).Response
  }
}

class TencentVpc implements CloudTables {
  /** A route leads to an instance by the instance's address. */
  readonly nextHop: string
  readonly tables: readonly string[]
  readonly #options: CloudOptions
  readonly #call: Call

  constructor(options: CloudOptions, call: Call, tables: readonly string[]) {
    this.#options = options
    this.#call = call
    this.nextHop = options.address
    this.tables = tables
  }

  /** Instances of a VPC forward what the route table sends them. */
  async prepare(): Promise<void> {
    await Promise.resolve()
  }

  /** A table comes whole; what nobody asked for is left out here. */
  async list({ subnet, all }: Scope, signal: AbortSignal): Promise<TableRoute[]> {
    const routes: TableRoute[] = []
    const missing = new Set(this.tables)
    for (let page = 0, seen = 0; page < MAX_PAGES; page++) {
      const parameters = { RouteTableIds: this.tables, Offset: String(seen), Limit: String(PAGE) }
      const { RouteTableSet, TotalCount } = await this.#call(Tables, 'DescribeRouteTables', parameters, signal)
      for (const { RouteTableId, RouteSet } of RouteTableSet) {
        missing.delete(RouteTableId)
        routes.push(...RouteSet.flatMap((route) => routeOf(RouteTableId, route) ?? []))
      }
      seen += RouteTableSet.length
      if (seen < TotalCount && RouteTableSet.length > 0) continue
      const [first] = missing
      if (first !== undefined) throw new CloudError('bad-answer', `DescribeRouteTables: ${first} is not in the answer`)
      return routes.filter(({ destination, nextHop }) => all || destination === subnet || nextHop === this.nextHop)
    }
    throw new CloudError('bad-answer', `DescribeRouteTables: more than ${MAX_PAGES} pages`)
  }

  async create(table: string, destination: string, signal: AbortSignal): Promise<void> {
    await this.#call(Done, 'CreateRoutes', { RouteTableId: table, Routes: [this.#to(destination)] }, signal)
  }

  async replace({ table, id, destination }: TableRoute, signal: AbortSignal): Promise<void> {
    const Routes = [{ RouteId: Number(id), ...this.#to(destination) }]
    await this.#call(Done, 'ReplaceRoutes', { RouteTableId: table, Routes }, signal)
  }

  async remove({ table, id }: TableRoute, signal: AbortSignal): Promise<void> {
    await this.#call(Done, 'DeleteRoutes', { RouteTableId: table, Routes: [{ RouteId: Number(id) }] }, signal)
  }

  #to(destination: string): object {
    return {
      DestinationCidrBlock: destination,
      GatewayType: 'NORMAL_CVM',
      GatewayId: this.nextHop,
      RouteDescription: markOf(this.#options.node).slice(0, MAX_DESCRIPTION),
      Enabled: true,
    }
  }
}

/** Undefined for what is no IPv4 route. One that somebody has switched off is somebody else's: it is told, not switched on. */
function routeOf(table: string, route: v.InferOutput<typeof Route>): TableRoute | undefined {
  const cidr = tryParseCidr(route.DestinationCidrBlock ?? '')
  if (cidr?.ip.family !== 4) return undefined
  const isOne = route.GatewayType === 'NORMAL_CVM' && route.RouteType === 'USER' && route.Enabled !== false
  return {
    table,
    id: String(route.RouteId),
    destination: formatCidr(cidr),
    nextHop: `${route.GatewayId ?? ''}${route.Enabled === false ? ' (switched off)' : ''}`,
    origin: isOne ? (isMark(route.RouteDescription ?? '') ? 'marked' : 'instance') : 'foreign',
    state: 'active',
  }
}

/** Codes of the API by what they mean. */
const CODES: readonly (readonly [RegExp, CloudErrorCode])[] = [
  [/^(?:RequestLimitExceeded|Throttl)/, 'throttled'],
  [/^(?:AuthFailure\.)?UnauthorizedOperation/, 'permission'],
  [/^AuthFailure/, 'credentials'],
  [/^(?:LimitExceeded|.*QuotaExceeded)/, 'limit'],
  [/Duplicate/, 'exists'],
  [/^ResourceNotFound|NotFound$/, 'not-found'],
  [/^(?:Internal|ResourceUnavailable|ResourceInUse|FailedOperation)|Mutex/, 'unavailable'],
]

/** What a refusal means. */
export function failure(action: string, { status, text, retryAfterMs }: CloudResponse): CloudError {
  const said = tryJson(Failure, text)?.Response.Error
  const code =
    CODES.find(([pattern]) => said !== undefined && pattern.test(said.Code))?.[1] ??
    (status === 429 ? 'throttled' : status >= 500 ? 'unavailable' : 'refused')
  const words = said === undefined ? '' : `: ${foreign(said.Code)}: ${foreign(said.Message ?? '')}`
  return new CloudError(code, `${action}: status ${status}${words}`, retryAfterMs)
}
