/**
 * Amazon EC2: routes of a VPC, Query API version 2016-11-15. Source: "Amazon EC2 API Reference" (CreateRoute, ReplaceRoute, DeleteRoute, DescribeRouteTables,
 * DescribeInstances, ModifyNetworkInterfaceAttribute, error codes) and "Instance metadata and user data" (IMDSv2).
 */

import * as v from 'valibot'

import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { again } from './again.ts'
import type { CloudOptions, CloudTables, Keys, OpenCloud, Scope } from './client.ts'
import { CloudError, foreign, type CloudErrorCode } from './errors.ts'
import type { CloudResponse } from './http.ts'
import { keysOf, Metadata } from './metadata.ts'
import type { TableRoute } from './route-plan.ts'
import { canonicalQuery } from './sign-rpc.ts'
import { signV4 } from './sign-v4.ts'
import { listOf, parseXml, readXml } from './xml.ts'

const VERSION = '2016-11-15'
const MAX_PAGES = 100

const Id = v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/))
const Text = v.optional(v.string(), '')

const Role = v.object({
  AccessKeyId: v.string(),
  SecretAccessKey: v.string(),
  Token: v.string(),
  Expiration: v.string(),
})
const Interface = v.object({
  networkInterfaceId: Id,
  subnetId: Id,
  vpcId: Id,
  sourceDestCheck: v.optional(v.picklist(['true', 'false']), 'true'),
  privateIpAddressesSet: v.optional(listOf(v.object({ privateIpAddress: v.string() })), []),
})
type Interface = v.InferOutput<typeof Interface>
const Instances = v.object({
  reservationSet: listOf(
    v.object({
      instancesSet: listOf(v.object({ instanceId: v.string(), networkInterfaceSet: listOf(Interface) })),
    }),
  ),
})
/** What a route can lead to beside a network interface. */
const GATEWAYS = {
  gatewayId: Text,
  natGatewayId: Text,
  transitGatewayId: Text,
  vpcPeeringConnectionId: Text,
  localGatewayId: Text,
  carrierGatewayId: Text,
  coreNetworkArn: Text,
}
const Route = v.object({ destinationCidrBlock: Text, networkInterfaceId: Text, state: Text, origin: Text, ...GATEWAYS })
const Table = v.object({ routeTableId: Id, routeSet: v.optional(listOf(Route), []) })
type Table = v.InferOutput<typeof Table>
const Tables = v.object({ routeTableSet: listOf(Table), nextToken: Text })
const Done = v.object({ return: v.literal('true') })
const Failure = v.object({ Errors: v.object({ Error: v.object({ Code: v.string(), Message: Text }) }) })

type Parameters = Readonly<Record<string, string>>
type Call = <S extends v.GenericSchema>(
  schema: S,
  action: string,
  parameters: Parameters,
  signal: AbortSignal,
) => Promise<v.InferOutput<S>>

export const openAwsVpc: OpenCloud = async (options, signal) => {
  const metadata = new Metadata({
    ...options,
    base: `${options.metadata ?? 'http://169.254.169.254'}/latest`,
    session: {
      path: 'api/token',
      ttl: 'X-aws-ec2-metadata-token-ttl-seconds',
      show: 'X-aws-ec2-metadata-token',
      isOptional: false,
    },
  })
  const instance = await metadata.name('meta-data/instance-id', signal)
  const region = await metadata.name('meta-data/placement/region', signal)
  const domain = options.api === undefined ? await metadata.name('meta-data/services/domain', signal) : ''
  const call = caller(options, metadata, region, `${options.api ?? `https://ec2.${region}.${domain}`}/`)
  const own = await interfaceOf(call, instance, options.address, signal)
  const tables = options.tables ?? [await tableOf(call, own, signal)]
  return new AwsVpc(call, instance, own, tables)
}

/** The network interface with this address: an instance has one for each of its devices, and a route names one of them. */
async function interfaceOf(call: Call, instance: string, address: IpText, signal: AbortSignal): Promise<Interface> {
  const { reservationSet } = await call(Instances, 'DescribeInstances', { 'InstanceId.1': instance }, signal)
  const found = reservationSet
    .flatMap(({ instancesSet }) => instancesSet)
    .filter(({ instanceId }) => instanceId === instance)
    .flatMap(({ networkInterfaceSet }) => networkInterfaceSet)
  const own = found.find((one) => one.privateIpAddressesSet.some((at) => at.privateIpAddress === address))
  if (own === undefined)
    throw new CloudError(
      'metadata',
      `DescribeInstances: no network interface of ${instance} has the address ${address}`,
    )
  return own
}

/** The table that the interface's subnet uses: its own, else the VPC's main one. */
async function tableOf(call: Call, { subnetId, vpcId }: Interface, signal: AbortSignal): Promise<string> {
  const own = await tablesOf(call, filters({ 'association.subnet-id': subnetId }), signal)
  const found = own[0] ?? (await tablesOf(call, filters({ 'association.main': 'true', 'vpc-id': vpcId }), signal))[0]
  if (found === undefined) throw new CloudError('refused', `DescribeRouteTables: ${subnetId} of ${vpcId} has no table`)
  return found.routeTableId
}

const filters = (wanted: Parameters): Parameters =>
  Object.fromEntries(
    Object.entries(wanted).flatMap(([name, value], i) => [
      [`Filter.${i + 1}.Name`, name],
      [`Filter.${i + 1}.Value.1`, value],
    ]),
  )

async function tablesOf(call: Call, wanted: Parameters, signal: AbortSignal): Promise<Table[]> {
  const tables: Table[] = []
  let token = ''
  for (let page = 0; page < MAX_PAGES; page++) {
    const parameters = token === '' ? wanted : { ...wanted, NextToken: token }
    const { routeTableSet, nextToken } = await call(Tables, 'DescribeRouteTables', parameters, signal)
    tables.push(...routeTableSet)
    token = nextToken
    if (token === '') return tables
  }
  throw new CloudError('bad-answer', `DescribeRouteTables: more than ${MAX_PAGES} pages`)
}

function caller(options: CloudOptions, metadata: Metadata, region: string, url: string): Call {
  const { send, clock } = options
  const { host } = new URL(url)
  const credentials = keysOf(clock, options.keys, async (signal) => {
    const role = await metadata.name('meta-data/iam/security-credentials/', signal)
    const found = await metadata.json(Role, `meta-data/iam/security-credentials/${role}`, signal)
    const { AccessKeyId: id, SecretAccessKey: secret, Token: token, Expiration } = found
    return { id, secret, token, until: Date.parse(Expiration) }
  })
  const ask = async (action: string, parameters: Parameters, keys: Keys, signal: AbortSignal): Promise<string> => {
    const body = canonicalQuery({ ...parameters, Action: action, Version: VERSION })
    const type = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }
    const place = { method: 'POST', path: '/', query: '', region, service: 'ec2', at: clock.wall() } as const
    const { host: _, ...headers } = signV4({ ...place, headers: { ...type, host }, body }, keys)
    const answer = await send({ what: action, method: 'POST', url, headers, body }, signal)
    if (answer.status !== 200) throw failure(action, answer)
    return answer.text
  }
  return async (schema, action, parameters, signal) => {
    const text = await again(options, signal, () =>
      credentials.use(signal, (keys) => ask(action, parameters, keys, signal)),
    )
    return parseXml(schema, `${action}Response`, text, action)
  }
}

class AwsVpc implements CloudTables {
  readonly nextHop: string
  readonly tables: readonly string[]
  readonly #call: Call
  readonly #instance: string
  readonly #isChecked: boolean

  constructor(call: Call, instance: string, own: Interface, tables: readonly string[]) {
    this.#call = call
    this.#instance = instance
    this.#isChecked = own.sourceDestCheck === 'true'
    this.nextHop = own.networkInterfaceId
    this.tables = tables
  }

  /** Switches the check of source and destination off. Where the role may change instances only, by the instance: it works for those with one interface. */
  async prepare(signal: AbortSignal): Promise<void> {
    if (!this.#isChecked) return
    const off = { 'SourceDestCheck.Value': 'false' }
    try {
      await this.#call(Done, 'ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: this.nextHop, ...off }, signal)
    } catch (error) {
      if (!(error instanceof CloudError) || error.code !== 'permission') throw error
      await this.#prepareInstance(off, signal)
    }
  }

  async #prepareInstance(off: Parameters, signal: AbortSignal): Promise<void> {
    try {
      await this.#call(Done, 'ModifyInstanceAttribute', { InstanceId: this.#instance, ...off }, signal)
    } catch (error) {
      if (!(error instanceof CloudError) || (error.code !== 'permission' && error.code !== 'refused')) throw error
      throw new CloudError(
        'forwarding',
        `${this.nextHop}: the source/destination check is on, and the role may not switch it off (ec2:ModifyNetworkInterfaceAttribute)`,
      )
    }
  }

  /** A table comes whole; what nobody asked for is left out here. */
  async list({ subnet, all }: Scope, signal: AbortSignal): Promise<TableRoute[]> {
    const wanted = Object.fromEntries(this.tables.map((table, i) => [`RouteTableId.${i + 1}`, table]))
    const found = await tablesOf(this.#call, wanted, signal)
    const missing = this.tables.find((table) => !found.some(({ routeTableId }) => routeTableId === table))
    if (missing !== undefined)
      throw new CloudError('bad-answer', `DescribeRouteTables: ${missing} is not in the answer`)
    return found
      .flatMap(({ routeTableId, routeSet }) => routeSet.flatMap((route) => routeOf(routeTableId, route) ?? []))
      .filter(({ destination, nextHop }) => all || destination === subnet || nextHop === this.nextHop)
  }

  async create(table: string, destination: string, signal: AbortSignal): Promise<void> {
    await this.#call(Done, 'CreateRoute', this.#to(table, destination), signal)
  }

  async replace({ table, destination }: TableRoute, signal: AbortSignal): Promise<void> {
    await this.#call(Done, 'ReplaceRoute', this.#to(table, destination), signal)
  }

  async remove({ table, destination }: TableRoute, signal: AbortSignal): Promise<void> {
    await this.#call(Done, 'DeleteRoute', { RouteTableId: table, DestinationCidrBlock: destination }, signal)
  }

  #to(table: string, destination: string): Parameters {
    return { RouteTableId: table, DestinationCidrBlock: destination, NetworkInterfaceId: this.nextHop }
  }
}

/** Undefined for what is no IPv4 route. A route of EC2 has no place for a mark. */
function routeOf(table: string, route: v.InferOutput<typeof Route>): TableRoute | undefined {
  const cidr = tryParseCidr(route.destinationCidrBlock)
  if (cidr?.ip.family !== 4) return undefined
  const { networkInterfaceId, state, origin, destinationCidrBlock: _, ...gateways } = route
  const gateway = Object.values(gateways).find((id) => id !== '')
  return {
    table,
    id: '',
    destination: formatCidr(cidr),
    nextHop: gateway ?? networkInterfaceId,
    origin: gateway === undefined && origin === 'CreateRoute' ? 'instance' : 'foreign',
    state: state === 'blackhole' ? 'dead' : 'active',
  }
}

/** Codes of the API by what they mean. */
const CODES: readonly (readonly [RegExp, CloudErrorCode])[] = [
  [/^(?:RequestLimitExceeded|RequestThrottled|Throttl|EC2Throttled|SlowDown)/, 'throttled'],
  [
    /^(?:AuthFailure|ExpiredToken|RequestExpired|InvalidClientTokenId|InvalidSecurityToken|SignatureDoesNotMatch|IncompleteSignature|MissingAuthenticationToken|UnrecognizedClient)/,
    'credentials',
  ],
  [/^(?:UnauthorizedOperation|AccessDenied|OptInRequired|PendingVerification|Blocked)/, 'permission'],
  [/LimitExceeded$/, 'limit'],
  [/^RouteAlreadyExists$/, 'exists'],
  [/^InvalidRoute\.NotFound$/, 'not-found'],
  // An instance and its interface are not known everywhere at once.
  [
    /^(?:InternalError|InternalFailure|ServerInternal|Unavailable|ServiceUnavailable|RequestTimeout|IncorrectState|InvalidInstanceID\.NotFound|InvalidNetworkInterfaceID\.NotFound)/,
    'unavailable',
  ],
]

/** What a refusal means. */
export function failure(action: string, { status, text, retryAfterMs }: CloudResponse): CloudError {
  const document = readXml(text)
  const parsed = document?.name === 'Response' ? v.safeParse(Failure, document.value) : undefined
  const said = parsed?.success === true ? parsed.output.Errors.Error : undefined
  const code =
    CODES.find(([pattern]) => said !== undefined && pattern.test(said.Code))?.[1] ??
    (status === 429 ? 'throttled' : status >= 500 ? 'unavailable' : 'refused')
  const words = said === undefined ? '' : `: ${foreign(said.Code)}: ${foreign(said.Message)}`
  return new CloudError(code, `${action}: status ${status}${words}`, retryAfterMs)
}
