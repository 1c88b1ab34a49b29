/** Tencent Cloud's metadata server and the part of its VPC API that deals with routes; signatures are checked. */

import { createHash, createHmac } from 'node:crypto'

import { CloudServer, told, type Asked, type CloudRoute, type Told } from './cloud-server.ts'

export const TENCENT_TABLE = 'rtb-abc123'
const MACS = 'network/interfaces/macs/'
const MAC = '52:54:00:00:00:02'

interface Wanted {
  readonly RouteId?: number
  readonly DestinationCidrBlock?: string
  readonly GatewayType?: string
  readonly GatewayId?: string
  readonly RouteDescription?: string
}

interface Body {
  readonly RouteTableId?: string
  readonly RouteTableIds?: readonly string[]
  readonly SubnetIds?: readonly string[]
  readonly Routes?: readonly Wanted[]
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
const mac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

const respond = (fields: object): Told => told({ Response: { ...fields, RequestId: 'r' } })
/** Refusals have status 200. */
const fail = (code: string): Told => respond({ Error: { Code: code, Message: `no: ${code}` } })

export class TencentServer extends CloudServer {
  readonly #ids = new Map<string, number>()

  protected metadata({ path }: Asked, instance: string): Told | undefined {
    const base = '/latest/meta-data/'
    if (!path.startsWith(base)) return undefined
    switch (path.slice(base.length)) {
      case 'placement/region':
        return told('ap-test')
      case MACS:
        return told(`52:54:00:00:00:01/\n${MAC}/\n`)
      case `${MACS}52:54:00:00:00:01/local-ipv4s/`:
        return told('172.16.0.5/')
      case `${MACS}${MAC}/local-ipv4s/`:
        return told(
          this.addressesOf(instance)
            .map((address) => `${address}/`)
            .join('\n'),
        )
      case `${MACS}${MAC}/subnet-id`:
        return told('subnet-1')
      case 'cam/security-credentials/':
        return told('node-role')
      case 'cam/security-credentials/node-role':
        return told({
          TmpSecretId: `AKID${this.generation}`,
          TmpSecretKey: `secret-${this.generation}`,
          Token: `token-${this.generation}`,
          ExpiredTime: Math.floor(Date.now() / 1000) + 3600,
          Expiration: new Date(Date.now() + 3_600_000).toISOString(),
          Code: 'Success',
        })
      default:
        return told('', 404)
    }
  }

  protected actionOf({ headers }: Asked): string {
    return String(headers['x-tc-action'])
  }

  protected api(asked: Asked): Told {
    const { headers, body } = asked
    const id = /Credential=([^/]+)\//.exec(headers.authorization ?? '')?.[1] ?? ''
    const secret = id === 'static' ? 'static-secret' : `secret-${id.replace('AKID', '')}`
    if (!this.#isSigned(asked, secret)) return fail('AuthFailure.SignatureFailure')
    if (id !== 'static' && headers['x-tc-token'] !== `token-${this.generation}`) return fail('AuthFailure.TokenFailure')
    if (headers['x-tc-version'] !== '2017-03-12' || headers['x-tc-region'] !== 'ap-test')
      return fail('UnsupportedRegion')
    const wanted = JSON.parse(body) as Body
    const [route] = wanted.Routes ?? []
    switch (headers['x-tc-action']) {
      case 'DescribeSubnets':
        return wanted.SubnetIds?.[0] === 'subnet-1'
          ? respond({
              TotalCount: 1,
              SubnetSet: [{ SubnetId: 'subnet-1', VpcId: 'vpc-1', RouteTableId: TENCENT_TABLE }],
            })
          : fail('ResourceNotFound')
      case 'DescribeRouteTables':
        if (wanted.RouteTableIds?.join() !== TENCENT_TABLE) return fail('ResourceNotFound')
        return respond({ TotalCount: 1, RouteTableSet: [this.#table()] })
      default:
        if (wanted.RouteTableId !== TENCENT_TABLE || route === undefined) return fail('ResourceNotFound')
        return this.#change(String(headers['x-tc-action']), route)
    }
  }

  #table(): object {
    const RouteSet = this.listed().map((route) => ({
      RouteId: this.#idOf(route),
      RouteItemId: `rti-${this.#idOf(route)}`,
      RouteTableId: TENCENT_TABLE,
      ...(route.destination.includes(':')
        ? { DestinationCidrBlock: '', DestinationIpv6CidrBlock: route.destination }
        : { DestinationCidrBlock: route.destination }),
      GatewayType: route.isForeign === true ? 'NAT' : 'NORMAL_CVM',
      GatewayId: route.nextHop,
      RouteDescription: route.description === '' ? null : route.description,
      RouteType: 'USER',
      Enabled: route.isDead !== true,
    }))
    return { VpcId: 'vpc-1', RouteTableId: TENCENT_TABLE, Main: true, AssociationSet: [], RouteSet }
  }

  #change(action: string, wanted: Wanted): Told {
    const route = {
      destination: wanted.DestinationCidrBlock ?? '',
      nextHop: wanted.GatewayId ?? '',
      description: wanted.RouteDescription ?? '',
      name: '',
    }
    const isIt = (there: CloudRoute): boolean => this.#idOf(there) === wanted.RouteId
    if (action !== 'DeleteRoutes' && wanted.GatewayType !== 'NORMAL_CVM') return fail('InvalidParameterValue')
    switch (action) {
      case 'CreateRoutes':
        if (this.routes.some(({ destination }) => destination === route.destination))
          return fail('InvalidParameterValue.Duplicate')
        return this.add(route) === 'full' ? fail('LimitExceeded') : respond({ TotalCount: 1, RouteTableSet: [] })
      case 'ReplaceRoutes':
        if (!this.routes.some(isIt)) return fail('ResourceNotFound')
        this.routes = this.routes.map((there) => (isIt(there) ? route : there))
        this.onChange(this.routes)
        return respond({ OldRouteSet: [], NewRouteSet: [] })
      case 'DeleteRoutes':
        return this.drop(isIt) ? respond({ RouteSet: [] }) : fail('ResourceNotFound')
      default:
        return fail('InvalidAction')
    }
  }

  #idOf({ destination, nextHop }: CloudRoute): number {
    const key = `${destination} ${nextHop}`
    const id = this.#ids.get(key) ?? 100 + this.#ids.size
    this.#ids.set(key, id)
    return id
  }

  /** By the documentation's steps, written anew. */
  #isSigned({ headers, body }: Asked, secret: string): boolean {
    const parts =
      /^TC3-HMAC-SHA256 Credential=[^/]+\/([\d-]{10})\/vpc\/tc3_request, SignedHeaders=content-type;host, Signature=(\w{64})$/
    const [, date = '', signature] = parts.exec(headers.authorization ?? '') ?? []
    const canonical = `POST\n/\n\ncontent-type:${headers['content-type']}\nhost:${headers.host}\n\ncontent-type;host\n${hash(body)}`
    const text = `TC3-HMAC-SHA256\n${String(headers['x-tc-timestamp'])}\n${date}/vpc/tc3_request\n${hash(canonical)}`
    const key = mac(mac(mac(`TC3${secret}`, date), 'vpc'), 'tc3_request')
    const isToday = new Date(Number(headers['x-tc-timestamp']) * 1000).toISOString().startsWith(date)
    return isToday && mac(key, text).toString('hex') === signature
  }
}
