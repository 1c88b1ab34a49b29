/** Alibaba Cloud: route entries of a VPC, API version 2016-04-28 (RPC style). Source: Alibaba Cloud's VPC API reference and "instance metadata". */

import { randomUUID } from 'node:crypto'
import * as v from 'valibot'

import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import { again } from './again.ts'
import { isMark, markOf, type CloudOptions, type CloudTables, type Keys, type OpenCloud } from './client.ts'
import { CloudError, foreign, type CloudErrorCode } from './errors.ts'
import type { CloudResponse } from './http.ts'
import { parseJson, tryJson } from './json.ts'
import { keysOf, Metadata } from './metadata.ts'
import type { TableRoute } from './route-plan.ts'
import { canonicalQuery, signRpc } from './sign-rpc.ts'

const VERSION = '2016-04-28'
const PAGE = 100
/** More pages than the largest quota of routes has. */
const MAX_PAGES = 100

const Role = v.object({
  AccessKeyId: v.string(),
  AccessKeySecret: v.string(),
  SecurityToken: v.string(),
  Expiration: v.string(),
})
const VSwitch = v.object({ RouteTable: v.object({ RouteTableId: v.pipe(v.string(), v.minLength(1)) }) })
const Failure = v.object({ Code: v.string(), Message: v.optional(v.string(), '') })
const Done = v.object({ RequestId: v.string() })
const Entry = v.object({
  DestinationCidrBlock: v.string(),
  RouteEntryId: v.optional(v.string(), ''),
  RouteTableId: v.optional(v.string()),
  Type: v.optional(v.string(), ''),
  Status: v.optional(v.string(), ''),
  Description: v.optional(v.string()),
  NextHops: v.optional(
    v.object({
      NextHop: v.array(v.object({ NextHopId: v.optional(v.string(), ''), NextHopType: v.optional(v.string(), '') })),
    }),
    { NextHop: [] },
  ),
})
const Entries = v.object({
  NextToken: v.optional(v.string(), ''),
  RouteEntrys: v.object({ RouteEntry: v.array(Entry) }),
})

type Parameters = Readonly<Record<string, string>>
type Call = <S extends v.GenericSchema>(
  schema: S,
  action: string,
  parameters: Parameters,
  signal: AbortSignal,
) => Promise<v.InferOutput<S>>

export const openAliVpc: OpenCloud = async (options, signal) => {
  const metadata = new Metadata({
    ...options,
    base: `${options.metadata ?? 'http://100.100.100.200'}/latest`,
    session: {
      path: 'api/token',
      ttl: 'X-aliyun-ecs-metadata-token-ttl-seconds',
      show: 'X-aliyun-ecs-metadata-token',
      isOptional: true,
    },
  })
  const nextHop = await metadata.name('meta-data/instance-id', signal)
  const region = await metadata.name('meta-data/region-id', signal)
  const call = caller(options, metadata, region)
  return new AliVpc(options, call, nextHop, options.tables ?? [await tableOf(metadata, call, region, signal)])
}

/** The table that the instance's vSwitch uses. */
async function tableOf(metadata: Metadata, call: Call, region: string, signal: AbortSignal): Promise<string> {
  const vSwitch = await metadata.name('meta-data/vswitch-id', signal)
  const parameters = { RegionId: region, VSwitchId: vSwitch }
  return (await call(VSwitch, 'DescribeVSwitchAttributes', parameters, signal)).RouteTable.RouteTableId
}

function caller(options: CloudOptions, metadata: Metadata, region: string): Call {
  const { send, clock } = options
  const url = `${options.api ?? `https://vpc.${region}.aliyuncs.com`}/`
  const credentials = keysOf(clock, options.keys, async (signal) => {
    const role = await metadata.name('meta-data/ram/security-credentials/', signal)
    const found = await metadata.json(Role, `meta-data/ram/security-credentials/${role}`, signal)
    const { AccessKeyId: id, AccessKeySecret: secret, SecurityToken: token, Expiration } = found
    return { id, secret, token, until: Date.parse(Expiration) }
  })
  const ask = async (action: string, parameters: Parameters, keys: Keys, signal: AbortSignal): Promise<string> => {
    const all: Record<string, string> = {
      ...parameters,
      Action: action,
      Format: 'JSON',
      Version: VERSION,
      AccessKeyId: keys.id,
      SignatureMethod: 'HMAC-SHA1',
      SignatureVersion: '1.0',
      SignatureNonce: randomUUID(),
      Timestamp: new Date(clock.wall()).toISOString().replace(/\.\d+/, ''),
    }
    if (keys.token !== undefined) all['SecurityToken'] = Buffer.from(keys.token.reveal()).toString()
    all['Signature'] = signRpc('POST', all, keys.secret)
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await send({ what: action, method: 'POST', url, headers, body: canonicalQuery(all) }, signal)
    if (answer.status !== 200) throw failure(action, answer)
    return answer.text
  }
  return async (schema, action, parameters, signal) => {
    const text = await again(options, signal, () =>
      credentials.use(signal, (keys) => ask(action, parameters, keys, signal)),
    )
    return parseJson(schema, text, action)
  }
}

class AliVpc implements CloudTables {
  readonly nextHop: string
  readonly tables: readonly string[]
  readonly #options: CloudOptions
  readonly #call: Call

  constructor(options: CloudOptions, call: Call, nextHop: string, tables: readonly string[]) {
    this.#options = options
    this.#call = call
    this.nextHop = nextHop
    this.tables = tables
  }

  /** Instances of a VPC forward what the route table sends them. */
  async prepare(): Promise<void> {
    await Promise.resolve()
  }

  async list({ subnet, all }: { subnet: string; all: boolean }, signal: AbortSignal): Promise<TableRoute[]> {
    const filters: Parameters[] = all
      ? [{}]
      : [{ DestinationCidrBlock: subnet }, { NextHopType: 'Instance', NextHopId: this.nextHop }]
    const found = new Map<string, TableRoute>()
    for (const table of this.tables)
      for (const filter of filters)
        for (const route of await this.#pages(table, filter, signal))
          found.set(`${table} ${route.destination} ${route.nextHop}`, route)
    return [...found.values()]
  }

  async #pages(table: string, filter: Parameters, signal: AbortSignal): Promise<TableRoute[]> {
    const routes: TableRoute[] = []
    let token = ''
    for (let page = 0; page < MAX_PAGES; page++) {
      const parameters = { RouteTableId: table, MaxResult: String(PAGE), ...filter }
      const { RouteEntrys, NextToken } = await this.#call(
        Entries,
        'DescribeRouteEntryList',
        token === '' ? parameters : { ...parameters, NextToken: token },
        signal,
      )
      routes.push(...RouteEntrys.RouteEntry.flatMap((entry) => routeOf(table, entry) ?? []))
      token = NextToken
      if (token === '') return routes
    }
    throw new CloudError('bad-answer', `DescribeRouteEntryList: ${table} has more than ${MAX_PAGES} pages`)
  }

  async create(table: string, destination: string, signal: AbortSignal): Promise<void> {
    const parameters = {
      RouteTableId: table,
      DestinationCidrBlock: destination,
      NextHopType: 'Instance',
      NextHopId: this.nextHop,
      Description: markOf(this.#options.node),
      ClientToken: randomUUID(),
    }
    await this.#call(Done, 'CreateRouteEntry', parameters, signal)
  }

  /** A table holds one entry for a destination: the old one goes first. */
  async replace(route: TableRoute, signal: AbortSignal): Promise<void> {
    await this.remove(route, signal)
    await this.create(route.table, route.destination, signal)
  }

  async remove({ table, destination, nextHop }: TableRoute, signal: AbortSignal): Promise<void> {
    const parameters = { RouteTableId: table, DestinationCidrBlock: destination, NextHopId: nextHop }
    await this.#call(Done, 'DeleteRouteEntry', parameters, signal)
  }
}

/** Undefined for what is no IPv4 route. */
function routeOf(table: string, entry: v.InferOutput<typeof Entry>): TableRoute | undefined {
  const cidr = tryParseCidr(entry.DestinationCidrBlock)
  if (cidr?.ip.family !== 4) return undefined
  const [hop, ...more] = entry.NextHops.NextHop
  const isOne = entry.Type === 'Custom' && hop?.NextHopType === 'Instance' && more.length === 0
  return {
    table,
    id: entry.RouteEntryId,
    destination: formatCidr(cidr),
    nextHop: hop?.NextHopId ?? '',
    origin: isOne ? (isMark(entry.Description) ? 'marked' : 'instance') : 'foreign',
    state: entry.Status === '' || entry.Status === 'Available' ? 'active' : 'pending',
  }
}

/** Codes of the API by what they mean; several spellings of one thing are in use. */
const CODES: readonly (readonly [RegExp, CloudErrorCode])[] = [
  [/^Throttling|^ServiceUnavailable\.?Throttl|FlowControl/i, 'throttled'],
  [
    /^(?:InvalidAccessKeyId|InvalidSecurityToken|SecurityTokenExpired|SignatureDoesNotMatch|IncompleteSignature|MissingAccessKeyId|InvalidTimeStamp)/i,
    'credentials',
  ],
  [/^(?:Forbidden|NoPermission|UnauthorizedOperation)/i, 'permission'],
  [/Quota/i, 'limit'],
  [/Duplicate|AlreadyExist|RouterEntryConflict/i, 'exists'],
  [/NotFound|NotExist/i, 'not-found'],
  [
    /^(?:ServiceUnavailable|InternalError|UnknownError|ServiceError)|IncorrectStatus|IncorrectRouteEntryStatus|TaskConflict|OperationConflict|LastTokenProcessing|SystemBusy/i,
    'unavailable',
  ],
]

/** What a refusal means. */
export function failure(action: string, { status, text, retryAfterMs }: CloudResponse): CloudError {
  const said = tryJson(Failure, text)
  const code =
    CODES.find(([pattern]) => said !== undefined && pattern.test(said.Code))?.[1] ??
    (status === 429 ? 'throttled' : status >= 500 ? 'unavailable' : 'refused')
  const words = said === undefined ? '' : `: ${foreign(said.Code)}: ${foreign(said.Message)}`
  return new CloudError(code, `${action}: status ${status}${words}`, retryAfterMs)
}
