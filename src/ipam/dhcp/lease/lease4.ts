/** What a DHCPv4 server has given. Source: RFC 2131 §4.4.1, §4.4.5. */

import { formatIp, isLoopback, isMulticast, isUnspecified, parseIp } from '#ip/address.ts'
import type { Dns } from '#cni/result.ts'
import { dnsOf } from '#cni/result.ts'
import type { IpText } from '#ip/text.ts'
import type { Message4 } from '../wire/message4.ts'
import {
  addressesOf,
  hostAddressOf,
  maskLengthOf,
  OPTION4,
  routerOf,
  routesOf,
  searchListOf,
  secondsOf,
  textOf,
  type DhcpRoute,
} from '../wire/option4.ts'
import type { Random } from './backoff.ts'

/** When a lease has to be dealt with, in ms of the caller's clock; absent: never. */
export interface Times {
  readonly renewAt?: number
  readonly rebindAt?: number
  readonly expiresAt?: number
}

export interface Lease4 extends Times {
  readonly address: IpText
  readonly length: number
  readonly server: IpText
  readonly router?: IpText
  readonly routes: readonly DhcpRoute[]
  /** Only what was asked for. */
  readonly dns: Dns
}

/** Where the server says nothing: an hour, as in the reference. */
const DEFAULT_SECONDS = 3600
const FOREVER = 0xffff_ffff
/** A server that gives less would keep its clients busy for nothing. */
const MIN_SECONDS = 2

/** An answer that no lease can be made of. */
export interface Unusable {
  readonly problem: string
}

/**
 * The lease that an OFFER or ACK describes, its times counted from `sentAt`, when the REQUEST went out. T1 and T2 are a little early, differently for each client.
 */
export function leaseFrom(
  message: Message4,
  requested: ReadonlySet<number>,
  sentAt: number,
  random: Random,
): Lease4 | Unusable {
  const { options, yiaddr } = message
  const server = hostAddressOf(options.get(OPTION4.serverId))
  if (server === undefined) return { problem: 'an answer without a server identifier' }
  const ip = parseIp(yiaddr)
  if (isUnspecified(ip) || isMulticast(ip) || isLoopback(ip) || yiaddr === '255.255.255.255')
    return { problem: `server ${server} offers ${yiaddr}, which no host can have` }
  const length = maskLengthOf(options.get(OPTION4.subnetMask))
  if (length === undefined)
    return {
      problem: `server ${server} gives no subnet mask${requested.has(OPTION4.subnetMask) ? '' : ': ask for it with "request": [{"option": "subnet-mask"}]'}`,
    }
  try {
    const router = routerOf(options)
    return {
      address: formatIp(ip),
      length,
      server,
      ...(router === undefined ? {} : { router }),
      routes: routesOf(options),
      dns: dnsFrom(message, requested),
      ...timesFrom(message, sentAt, random),
    }
  } catch (error) {
    return { problem: `server ${server}: ${error instanceof Error ? error.message : String(error)}` }
  }
}

function dnsFrom({ options }: Message4, requested: ReadonlySet<number>): Dns {
  const asked = (code: number): Uint8Array | undefined => (requested.has(code) ? options.get(code) : undefined)
  return dnsOf({
    nameservers: addressesOf(asked(OPTION4.dns)),
    domain: textOf(asked(OPTION4.domainName)),
    search: searchListOf(asked(OPTION4.domainSearch)),
  })
}

function timesFrom({ options }: Message4, sentAt: number, random: Random): Times {
  const given = secondsOf(options.get(OPTION4.leaseTime)) ?? DEFAULT_SECONDS
  const [t1, t2] = [secondsOf(options.get(OPTION4.renewalTime)), secondsOf(options.get(OPTION4.rebindingTime))]
  if (given === FOREVER) return {}
  const seconds = Math.max(MIN_SECONDS, given)
  const isSane = t1 !== undefined && t2 !== undefined && t1 > 0 && t1 < t2 && t2 < seconds
  const early = 1 - 0.05 * random()
  return {
    renewAt: sentAt + 1000 * (isSane ? t1 : seconds / 2) * early,
    rebindAt: sentAt + 1000 * (isSane ? t2 : seconds * 0.875),
    expiresAt: sentAt + 1000 * seconds,
  }
}

/** Do two leases mean the same to the pod's link? */
export const isSameConfiguration = (a: Lease4, b: Lease4): boolean =>
  a.address === b.address &&
  a.length === b.length &&
  a.router === b.router &&
  JSON.stringify(a.routes) === JSON.stringify(b.routes)
