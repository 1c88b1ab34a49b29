/** RTM_*ROUTE messages as bytes and as routes. */

import { ipAddress } from '#codec/address.ts'
import { attr, attributes, nest, put, type AttributesValue } from '#codec/attributes.ts'
import { CodecError, LITTLE, type Reader, type Writer } from '#codec/buffer.ts'
import { array, bytes, i32, rest, u16, u32, u8, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { writeIp } from '#ip/address.ts'
import { familyOf, parseCidr } from '#ip/prefix.ts'
import type { CidrText, Family, IpText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { RT_TABLE, routeTypes, RTPROT, scopes, type RouteType, type Scope } from './route-names.ts'

export const rtmsg = struct('rtmsg', {
  family: u8,
  dstLength: u8,
  srcLength: u8,
  tos: u8,
  table: u8,
  protocol: u8,
  scope: u8,
  type: u8,
  flags: u32,
})

/** RTNH_F_* and RTM_F_*, which share a field. */
export const ROUTE_FLAG = { DEAD: 1, ONLINK: 4, OFFLOAD: 8, LINKDOWN: 16, CLONED: 0x200, FIB_MATCH: 0x2000 } as const

/** A gateway of the other family: struct rtvia, 16 bits of family and the address. */
const via: Codec<IpText> = {
  name: 'rtvia',
  write(w, value) {
    u16.write(w, familyOf(value) === 4 ? AF.INET : AF.INET6)
    ipAddress.write(w, value)
  },
  read(r) {
    u16.read(r)
    return ipAddress.read(r)
  },
}

/** RTAX_*. Locked metrics: `lock` has the bit of each metric that path MTU discovery must not change. */
const metrics = attributes('metrics', {
  lock: attr(1, u32),
  mtu: attr(2, u32),
  window: attr(3, u32),
  rtt: attr(4, u32),
  rttvar: attr(5, u32),
  ssthresh: attr(6, u32),
  cwnd: attr(7, u32),
  advmss: attr(8, u32),
  reordering: attr(9, u32),
  hoplimit: attr(10, u32),
  initcwnd: attr(11, u32),
  features: attr(12, u32),
  rtoMin: attr(13, u32),
  initrwnd: attr(14, u32),
  quickack: attr(15, u32),
})

export type RouteMetrics = AttributesValue<typeof metrics.table>

const nextHopAttributes = attributes('next hop', { gateway: attr(5, ipAddress), via: attr(18, via) })

/** One way of a multipath route. */
export interface NextHop {
  readonly oif?: number | undefined
  readonly gateway?: IpText | undefined
  /** 1 to 256. */
  readonly weight?: number | undefined
  readonly onlink?: boolean | undefined
}

/** struct rtnexthop and its attributes; `family` is the route's. */
const NEXTHOP_LENGTH = 8
const nextHopOf = (family: Family | undefined): Codec<NextHop> => ({
  name: 'rtnexthop',
  write(w, hop) {
    const start = w.reserve(NEXTHOP_LENGTH)
    nextHopAttributes.write(w, gatewayAttributes(hop.gateway, family))
    w.view.setUint16(start, w.length - start, LITTLE)
    w.bytes[start + 2] = hop.onlink === true ? ROUTE_FLAG.ONLINK : 0
    w.bytes[start + 3] = weightByte(hop.weight)
    w.view.setInt32(start + 4, hop.oif ?? 0, LITTLE)
    w.align(4)
  },
  read(r) {
    const start = r.offset
    const outer = r.end
    const length = u16.read(r)
    if (length < NEXTHOP_LENGTH || start + length > outer)
      throw new CodecError('bad-length', `a next hop of ${length} bytes`)
    const flags = u8.read(r)
    const weight = u8.read(r) + 1
    const oif = i32.read(r)
    r.end = start + length
    const { gateway, via: other } = nextHopAttributes.read(r)
    r.end = outer
    r.offset = Math.min(outer, start + ((length + 3) & ~3))
    const address = gateway ?? other
    return {
      ...(oif === 0 ? {} : { oif }),
      ...(address === undefined ? {} : { gateway: address }),
      weight,
      ...((flags & ROUTE_FLAG.ONLINK) === 0 ? {} : { onlink: true }),
    }
  },
})

function weightByte(weight = 1): number {
  if (!Number.isInteger(weight) || weight < 1 || weight > 256) {
    throw new CodecError('bad-value', `${weight} is no weight of a next hop: 1 to 256`)
  }
  return weight - 1
}

/** RTA_GATEWAY, or RTA_VIA where the gateway's family is not the route's. */
function gatewayAttributes(
  gateway: IpText | undefined,
  family: Family | undefined,
): { gateway?: IpText; via?: IpText } {
  if (gateway === undefined) return {}
  return family === undefined || familyOf(gateway) === family ? { gateway } : { via: gateway }
}

/** RTA_*. */
export const routeAttributes = attributes('route', {
  dst: attr(1, ipAddress),
  src: attr(2, ipAddress),
  iif: attr(3, u32),
  oif: attr(4, u32),
  gateway: attr(5, ipAddress),
  priority: attr(6, u32),
  prefSrc: attr(7, ipAddress),
  metrics: nest(8, metrics),
  multipath: attr(9, array(nextHopOf(undefined))),
  cacheInfo: attr(12, bytes(32)),
  table: attr(15, u32),
  mark: attr(16, u32),
  via: attr(18, via),
  preference: attr(20, u8),
  encapType: attr(21, u16),
  encap: nest(22, rest),
  expires: attr(23, u32),
  uid: attr(25, u32),
  nexthopId: attr(30, u32),
})

const RTA = routeAttributes.table
const RTMSG_LENGTH = 12
const MULTIPATH = { 4: array(nextHopOf(4)), 6: array(nextHopOf(6)) } as const

/** A route. Its identity in the kernel: destination, table, tos, priority. */
export interface Route {
  /** `0.0.0.0/0` or `::/0` for the default. */
  readonly dst: CidrText
  readonly oif?: number | undefined
  /** May be of the other family (RFC 5549). */
  readonly gateway?: IpText | undefined
  /** The gateway is on the link, whatever the addresses say. */
  readonly onlink?: boolean | undefined
  /** Several ways instead of `oif` and `gateway`. */
  readonly nexthops?: readonly NextHop[] | undefined
  /** Main (254) unless given. */
  readonly table?: number | undefined
  /** Unicast unless given. */
  readonly type?: RouteType | undefined
  /** Boot (3) unless given, as with `ip route`. */
  readonly protocol?: number | undefined
  /** As `ip route` chooses unless given: host for local, link without a gateway, else global. */
  readonly scope?: Scope | undefined
  /** Metric; the kernel's default is 0 for IPv4 and 1024 for IPv6. */
  readonly priority?: number | undefined
  /** The source address that the node itself uses. */
  readonly prefSrc?: IpText | undefined
  readonly tos?: number | undefined
  readonly metrics?: RouteMetrics | undefined
  /** An object of `ip nexthop`. */
  readonly nexthopId?: number | undefined
}

/** A route as the kernel reports it: nothing is left to defaults. */
export interface SeenRoute extends Route {
  readonly table: number
  readonly type: RouteType
  readonly protocol: number
  readonly scope: Scope
  readonly priority: number
  /** RTNH_F_* and RTM_F_* bits: dead, linkdown, offload … */
  readonly flags: number
}

/** As `ip route` does: what has no gateway reaches no further than its link. IPv6 has no scopes. */
export function defaultScope(route: Route): Scope {
  if (familyOf(route.dst) === 6) return 'global'
  if (route.type === 'local' || route.type === 'nat') return 'host'
  const direct = route.gateway === undefined && route.nexthops === undefined && route.nexthopId === undefined
  const oneLink =
    route.type === undefined || route.type === 'unicast' || route.type === 'broadcast' || route.type === 'anycast'
  return direct && oneLink ? 'link' : 'global'
}

/** Appends struct rtmsg and its attributes. For a deletion, what is not given matches anything. */
export function writeRoute(w: Writer, route: Route, deletion: boolean): void {
  const cidr = parseCidr(route.dst)
  const family = cidr.ip.family
  const table = route.table ?? RT_TABLE.MAIN
  const type = route.type ?? (deletion ? 'unspec' : 'unicast')
  const nowhere = deletion && family === 4
  // struct rtmsg by hand, like everything that is written by the thousand.
  const at = w.reserve(RTMSG_LENGTH)
  w.bytes[at] = family === 4 ? AF.INET : AF.INET6
  w.bytes[at + 1] = cidr.length
  w.bytes[at + 3] = byte('tos', route.tos ?? 0)
  w.bytes[at + 4] = table < 256 ? table : RT_TABLE.UNSPEC
  w.bytes[at + 5] = byte('protocol', route.protocol ?? (deletion ? RTPROT.UNSPEC : RTPROT.BOOT))
  w.bytes[at + 6] = byte('scope', scopes.valueOf(route.scope ?? (nowhere ? 'nowhere' : defaultScope(route))))
  w.bytes[at + 7] = byte('type', routeTypes.valueOf(type))
  w.view.setUint32(at + 8, route.onlink === true ? ROUTE_FLAG.ONLINK : 0, LITTLE)

  if (cidr.length > 0) {
    const size = family === 4 ? 4 : 16
    const dst = w.reserve(4 + size)
    w.view.setUint16(dst, 4 + size, LITTLE)
    w.view.setUint16(dst + 2, RTA.dst.type, LITTLE)
    writeIp(cidr.ip, w.view, dst + 4)
  }
  if (route.gateway !== undefined) put(w, familyOf(route.gateway) === family ? RTA.gateway : RTA.via, route.gateway)
  put(w, RTA.oif, route.oif)
  put(w, RTA.priority, route.priority)
  put(w, RTA.prefSrc, route.prefSrc)
  if (table > 255) put(w, RTA.table, table)
  put(w, RTA.metrics, route.metrics)
  put(w, RTA.nexthopId, route.nexthopId)
  if (route.nexthops !== undefined) writeMultipath(w, family, route.nexthops)
}

function byte(field: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 255)
    throw new CodecError('bad-value', `${value} is no ${field} of a route`)
  return value
}

function writeMultipath(w: Writer, family: Family, hops: readonly NextHop[]): void {
  const start = w.reserve(4)
  MULTIPATH[family].write(w, hops)
  w.view.setUint16(start, w.length - start, LITTLE)
  w.view.setUint16(start + 2, RTA.multipath.type, LITTLE)
}

/** Reads RTM_NEWROUTE or RTM_DELROUTE. Undefined for families other than IPv4 and IPv6. */
export function readRoute(payload: Reader): SeenRoute | undefined {
  const header = rtmsg.read(payload)
  if (header.family !== AF.INET && header.family !== AF.INET6) return undefined
  const a = routeAttributes.read(payload)
  const gateway = a.gateway ?? a.via
  const zero = header.family === AF.INET ? '0.0.0.0' : '::'
  const route: { -readonly [K in keyof SeenRoute]: SeenRoute[K] } = {
    dst: `${a.dst ?? zero}/${header.dstLength}` as CidrText,
    table: a.table ?? header.table,
    type: routeTypes.nameOf(header.type),
    protocol: header.protocol,
    scope: scopes.nameOf(header.scope),
    priority: a.priority ?? 0,
    flags: header.flags & ~ROUTE_FLAG.ONLINK,
  }
  if (a.oif !== undefined) route.oif = a.oif
  if (gateway !== undefined) route.gateway = gateway
  if ((header.flags & ROUTE_FLAG.ONLINK) !== 0) route.onlink = true
  if (a.prefSrc !== undefined) route.prefSrc = a.prefSrc
  if (a.multipath !== undefined) route.nexthops = a.multipath
  if (header.tos !== 0) route.tos = header.tos
  if (a.metrics !== undefined) route.metrics = a.metrics
  if (a.nexthopId !== undefined) route.nexthopId = a.nexthopId
  return route
}
