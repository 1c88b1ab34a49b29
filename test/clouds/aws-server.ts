/** Amazon's metadata server (version 2 only) and the part of the EC2 Query API that deals with routes; signatures are checked. */

import { createHash, createHmac } from 'node:crypto'

import { CloudServer, told, type Asked, type CloudRoute, type Told } from './cloud-server.ts'

export const AWS_TABLE = 'rtb-1a2b3c'
const NAMESPACE = 'http://ec2.amazonaws.com/doc/2016-11-15/'

export const awsInterface = (instance: string): string => instance.replace(/^(?:i-)?/, 'eni-')

export const awsFailure = (status: number, code: string): Told =>
  told(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>${code}</Code><Message>no: ${code}</Message></Error></Errors><RequestID>r</RequestID></Response>`,
    status,
  )

const answer = (action: string, inner: string): Told =>
  told(
    `<?xml version="1.0" encoding="UTF-8"?>\n<${action}Response xmlns="${NAMESPACE}">\n  <requestId>r</requestId>\n  ${inner}\n</${action}Response>\n`,
  )

const set = (name: string, items: readonly string[]): string =>
  items.length === 0 ? `<${name}/>` : `<${name}>${items.map((item) => `<item>${item}</item>`).join('\n')}</${name}>`

const element = (name: string, text: string): string => `<${name}>${text}</${name}>`

const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
const mac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

export class AwsServer extends CloudServer {
  session = 'session-1'
  /** Interfaces whose source and destination are checked. */
  checked = new Set(['eni-self', 'eni-other'])
  /** What the role may not do. */
  denied: ReadonlySet<string> = new Set()
  tables: readonly string[] = [AWS_TABLE]
  /** The first table is the VPC's main one, and none belongs to the subnet. */
  isMain = false

  protected metadata({ method, path, headers }: Asked, instance: string): Told | undefined {
    if (!path.startsWith('/latest/')) return undefined
    if (path === '/latest/api/token') {
      const isAsked = Number(headers['x-aws-ec2-metadata-token-ttl-seconds']) > 0
      return method === 'PUT' && isAsked ? told(this.session) : told('', 400)
    }
    if (headers['x-aws-ec2-metadata-token'] !== this.session) return told('', 401)
    switch (path.slice('/latest/meta-data/'.length)) {
      case 'instance-id':
        return told(instance)
      case 'placement/region':
        return told('eu-test-1')
      case 'services/domain':
        return told('amazonaws.com')
      case 'iam/security-credentials/':
        return told('node-role')
      case 'iam/security-credentials/node-role':
        return told({
          Code: 'Success',
          Type: 'AWS-HMAC',
          AccessKeyId: `ASIA${this.generation}`,
          SecretAccessKey: `secret-${this.generation}`,
          Token: `token-${this.generation}`,
          Expiration: new Date(Date.now() + 3_600_000).toISOString(),
        })
      default:
        return told('', 404)
    }
  }

  protected actionOf({ body }: Asked): string {
    return new URLSearchParams(body).get('Action') ?? ''
  }

  protected api(asked: Asked): Told {
    if (!this.#isSigned(asked)) return awsFailure(401, 'AuthFailure')
    if (asked.headers['x-amz-security-token'] !== `token-${this.generation}`) return awsFailure(400, 'RequestExpired')
    const all = new URLSearchParams(asked.body)
    const action = all.get('Action') ?? ''
    if (all.get('Version') !== '2016-11-15') return awsFailure(400, 'NoSuchVersion')
    if (this.denied.has(action)) return awsFailure(403, 'UnauthorizedOperation')
    switch (action) {
      case 'DescribeInstances':
        return this.#instance(all.get('InstanceId.1') ?? '')
      case 'ModifyNetworkInterfaceAttribute':
        return this.#uncheck(action, all, [all.get('NetworkInterfaceId') ?? ''])
      case 'ModifyInstanceAttribute':
        return this.#uncheck(action, all, [awsInterface(all.get('InstanceId') ?? '')])
      case 'DescribeRouteTables':
        return this.#describe(all)
      default:
        return this.#change(action, all)
    }
  }

  #instance(instance: string): Told {
    const one = (id: string, addresses: readonly string[]): string =>
      element('networkInterfaceId', id) +
      element('subnetId', 'subnet-1') +
      element('vpcId', 'vpc-1') +
      element('sourceDestCheck', String(this.checked.has(id))) +
      set(
        'privateIpAddressesSet',
        addresses.map((address) => element('privateIpAddress', address) + element('primary', 'true')),
      )
    const interfaces = set('networkInterfaceSet', [
      one('eni-other', ['172.31.0.1']),
      one(awsInterface(instance), this.addressesOf(instance)),
    ])
    const instances = set('instancesSet', [element('instanceId', instance) + interfaces])
    return answer('DescribeInstances', set('reservationSet', [element('reservationId', 'r-1') + instances]))
  }

  #uncheck(action: string, all: URLSearchParams, [id = '']: readonly string[]): Told {
    if (all.get('SourceDestCheck.Value') !== 'false') return awsFailure(400, 'InvalidParameterCombination')
    this.checked.delete(id)
    return answer(action, element('return', 'true'))
  }

  /** By filters there is an empty page first, as the API may answer. */
  #describe(all: URLSearchParams): Told {
    const byId = [...all].flatMap(([name, value]) => (/^RouteTableId\.\d+$/.test(name) ? [value] : []))
    if (byId.some((id) => !this.tables.includes(id))) return awsFailure(400, 'InvalidRouteTableID.NotFound')
    if (byId.length > 0)
      return answer(
        'DescribeRouteTables',
        set(
          'routeTableSet',
          byId.map((id) => this.#table(id)),
        ),
      )
    const filters = new Map<string, string>()
    for (const [name, value] of all) {
      const i = /^Filter\.(\d+)\.Name$/.exec(name)?.[1]
      if (i !== undefined) filters.set(value, all.get(`Filter.${i}.Value.1`) ?? '')
    }
    if (all.get('NextToken') !== 'page-2')
      return answer('DescribeRouteTables', `${set('routeTableSet', [])}<nextToken>page-2</nextToken>`)
    const isMain = filters.get('association.main') === 'true' && filters.get('vpc-id') === 'vpc-1'
    const isFound = this.isMain ? isMain : filters.get('association.subnet-id') === 'subnet-1'
    return answer('DescribeRouteTables', set('routeTableSet', isFound ? [this.#table(AWS_TABLE)] : []))
  }

  #table(id: string): string {
    const routes = this.listed().filter((route) => tableOf(route) === id)
    return (
      element('routeTableId', id) +
      element('vpcId', 'vpc-1') +
      set('routeSet', routes.map(routeXml)) +
      set('associationSet', [element('main', String(this.isMain))]) +
      set('propagatingVgwSet', []) +
      set('tagSet', [])
    )
  }

  #change(action: string, all: URLSearchParams): Told {
    const table = all.get('RouteTableId') ?? ''
    const destination = all.get('DestinationCidrBlock') ?? ''
    const nextHop = all.get('NetworkInterfaceId') ?? ''
    if (!this.tables.includes(table)) return awsFailure(400, 'InvalidRouteTableID.NotFound')
    const isIt = (route: CloudRoute): boolean => tableOf(route) === table && route.destination === destination
    const isThere = this.routes.some(isIt)
    const done = answer(action, element('return', 'true'))
    const route = { table, destination, nextHop, description: '', name: table }
    switch (action) {
      case 'CreateRoute':
        if (isThere) return awsFailure(400, 'RouteAlreadyExists')
        return this.add(route) === 'full' ? awsFailure(400, 'RouteLimitExceeded') : done
      case 'ReplaceRoute':
        if (!isThere) return awsFailure(400, 'InvalidParameterValue')
        this.routes = this.routes.map((there) => (isIt(there) ? route : there))
        this.onChange(this.routes)
        return done
      case 'DeleteRoute':
        return this.drop(isIt) ? done : awsFailure(400, 'InvalidRoute.NotFound')
      default:
        return awsFailure(400, 'InvalidAction')
    }
  }

  /** By the documentation's steps, written anew. */
  #isSigned({ method, path, headers, body }: Asked): boolean {
    const parts =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([\w-]+)\/ec2\/aws4_request, SignedHeaders=([\w;-]+), Signature=(\w{64})$/
    const [, id, date = '', region = '', names = '', signature] = parts.exec(headers.authorization ?? '') ?? []
    const signed = names.split(';')
    if (!['host', 'x-amz-date', 'x-amz-security-token'].every((name) => signed.includes(name))) return false
    const lines = signed.map((name) => `${name}:${String(headers[name] ?? '').trim()}\n`).join('')
    const canonical = `${method}\n${path}\n\n${lines}\n${names}\n${hash(body)}`
    const scope = `${date}/${region}/ec2/aws4_request`
    const text = `AWS4-HMAC-SHA256\n${String(headers['x-amz-date'])}\n${scope}\n${hash(canonical)}`
    const generation = id?.replace('ASIA', '') ?? ''
    const key = mac(mac(mac(mac(`AWS4secret-${generation}`, date), region), 'ec2'), 'aws4_request')
    return region === 'eu-test-1' && mac(key, text).toString('hex') === signature
  }
}

const tableOf = ({ table = AWS_TABLE }: CloudRoute): string => table

function routeXml(route: CloudRoute): string {
  const isSix = route.destination.includes(':')
  return (
    element(isSix ? 'destinationIpv6CidrBlock' : 'destinationCidrBlock', route.destination) +
    (route.isForeign === true
      ? element('gatewayId', 'igw-1')
      : element('instanceId', 'i-1') + element('instanceOwnerId', '1') + element('networkInterfaceId', route.nextHop)) +
    element('state', route.isDead === true ? 'blackhole' : 'active') +
    element('origin', 'CreateRoute')
  )
}
