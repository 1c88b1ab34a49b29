/** Alibaba Cloud's metadata server and VPC API, as far as routes go; signatures are checked. */

import { createHmac } from 'node:crypto'

import { CloudServer, told, type Asked, type Told } from './cloud-server.ts'

export const ALI_TABLE = 'vtb-table1'

export class AliServer extends CloudServer {
  protected metadata({ method, path, headers }: Asked, instance: string): Told | undefined {
    if (!path.startsWith('/latest/')) return undefined
    if (path === '/latest/api/token') return method === 'PUT' ? told('session-1') : told('', 405)
    if (headers['x-aliyun-ecs-metadata-token'] !== 'session-1') return told('', 403)
    switch (path.slice('/latest/meta-data/'.length)) {
      case 'instance-id':
        return told(instance)
      case 'region-id':
        return told('cn-test')
      case 'vswitch-id':
        return told('vsw-1')
      case 'ram/security-credentials/':
        return told('node-role')
      case 'ram/security-credentials/node-role':
        return told({
          AccessKeyId: `STS.${this.generation}`,
          AccessKeySecret: `secret-${this.generation}`,
          SecurityToken: `token-${this.generation}`,
          Expiration: new Date(Date.now() + 3_600_000).toISOString(),
          Code: 'Success',
        })
      default:
        return told('', 404)
    }
  }

  protected actionOf({ body }: Asked): string {
    return new URLSearchParams(body).get('Action') ?? ''
  }

  protected api({ body }: Asked): Told {
    const all = new URLSearchParams(body)
    const fail = (status: number, code: string): Told =>
      told({ RequestId: 'r', Code: code, Message: `no: ${code}` }, status)
    const id = all.get('AccessKeyId')
    const secret =
      id === 'static' ? 'static-secret' : id === `STS.${this.generation}` ? `secret-${this.generation}` : ''
    if (secret === '') return fail(400, 'InvalidSecurityToken.Expired')
    if (!this.#isSigned(all, secret)) return fail(400, 'SignatureDoesNotMatch')
    const destination = all.get('DestinationCidrBlock')
    const hop = all.get('NextHopId')
    if (all.get('Action') !== 'DescribeVSwitchAttributes' && all.get('RouteTableId') !== ALI_TABLE)
      return fail(404, 'InvalidRouteTableId.NotFound')
    switch (all.get('Action')) {
      case 'DescribeVSwitchAttributes':
        return told({ RequestId: 'r', RouteTable: { RouteTableId: ALI_TABLE, RouteTableType: 'System' } })
      case 'DescribeRouteEntryList':
        return this.#list(destination, hop, Number(all.get('NextToken') ?? 0))
      case 'CreateRouteEntry': {
        const route = {
          destination: destination ?? '',
          nextHop: hop ?? '',
          description: all.get('Description') ?? '',
          name: '',
        }
        const result = this.routes.some((there) => there.destination === destination) ? 'exists' : this.add(route)
        if (result === 'exists') return fail(400, 'RouterEntryConflict.Duplicated')
        return result === 'full' ? fail(400, 'QuotaExceeded.RouteEntry') : told({ RequestId: 'r' })
      }
      case 'DeleteRouteEntry': {
        const isThere = this.drop((route) => route.destination === destination && route.nextHop === hop)
        return isThere ? told({ RequestId: 'r' }) : fail(404, 'InvalidRouteEntry.NotFound')
      }
      default:
        return fail(404, 'InvalidAction.NotFound')
    }
  }

  #list(destination: string | null, hop: string | null, from: number): Told {
    const found = this.listed().filter(
      (route) => (destination ?? route.destination) === route.destination && (hop ?? route.nextHop) === route.nextHop,
    )
    const next = from + this.page
    return told({
      RequestId: 'r',
      NextToken: next < found.length ? String(next) : '',
      RouteEntrys: {
        RouteEntry: found.slice(from, next).map((route) => ({
          DestinationCidrBlock: route.destination,
          RouteEntryId: `rte-${route.destination}`,
          RouteTableId: ALI_TABLE,
          Description: route.description,
          Type: route.isForeign === true ? 'System' : 'Custom',
          Status: 'Available',
          NextHops: { NextHop: [{ NextHopId: route.nextHop, NextHopType: 'Instance', Enabled: 1, Weight: 0 }] },
        })),
      },
    })
  }

  /** By the documentation's steps, written anew. */
  #isSigned(all: URLSearchParams, secret: string): boolean {
    const escape = (text: string): string =>
      [...Buffer.from(text)]
        .map((byte) => {
          const char = String.fromCharCode(byte)
          return /[A-Za-z0-9\-_.~]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
        })
        .join('')
    const names = [...all.keys()].filter((name) => name !== 'Signature').toSorted()
    const query = names.map((name) => `${escape(name)}=${escape(all.get(name) ?? '')}`).join('&')
    const text = `POST&%2F&${escape(query)}`
    return createHmac('sha1', `${secret}&`).update(text).digest('base64') === all.get('Signature')
  }
}
