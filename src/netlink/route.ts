/** Routes. */

import type { IpText } from '#ip/text.ts'
import { familyOf } from '#ip/prefix.ts'
import { AF } from '#sys/constants.ts'
import { hasCode } from '#sys/errno.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import { readRoute, ROUTE_FLAG, routeAttributes, rtmsg, writeRoute, type Route, type SeenRoute } from './route-codec.ts'
import { RT_TABLE, routeTypes, type RouteType } from './route-names.ts'
import type { NetlinkSocket } from './socket.ts'

const FLAGS = {
  add: NLM_F.CREATE | NLM_F.EXCL,
  replace: NLM_F.CREATE | NLM_F.REPLACE,
  append: NLM_F.CREATE | NLM_F.APPEND,
  change: NLM_F.REPLACE,
  delete: 0,
} as const

export type RouteVerb = keyof typeof FLAGS

/** Like `ip route add`, `replace`, `append`, `change` and `delete`. */
export function routeMessage(verb: RouteVerb, route: Route): Message {
  return {
    op: () => `route ${verb} ${describe(route)}`,
    type: verb === 'delete' ? RTM.DELROUTE : RTM.NEWROUTE,
    flags: FLAGS[verb],
    write: (w) => writeRoute(w, route, verb === 'delete'),
  }
}

function describe(route: Route): string {
  const type = route.type === undefined || route.type === 'unicast' ? '' : `${route.type} `
  const gateway = route.gateway === undefined ? '' : ` via ${route.gateway}`
  const dev = route.oif === undefined ? '' : ` dev ${route.oif}`
  const table = route.table === undefined || route.table === RT_TABLE.MAIN ? '' : ` table ${route.table}`
  return `${type}${route.dst}${gateway}${dev}${table}`
}

/** Like `ip route add`. Throws `NetlinkError` EEXIST when there is one with this destination, table and priority. */
export const addRoute = (socket: NetlinkSocket, route: Route): void => socket.request(routeMessage('add', route))

/** Like `ip route replace`. */
export const replaceRoute = (socket: NetlinkSocket, route: Route): void =>
  socket.request(routeMessage('replace', route))

/** Like `ip route append`. */
export const appendRoute = (socket: NetlinkSocket, route: Route): void => socket.request(routeMessage('append', route))

/** Like `ip route delete`. Throws `NetlinkError` ESRCH when there is none. */
export const deleteRoute = (socket: NetlinkSocket, route: Route): void => socket.request(routeMessage('delete', route))

export interface RouteFilter {
  readonly family?: 4 | 6 | undefined
  /** A table, or all of them when absent. */
  readonly table?: number | undefined
  readonly oif?: number | undefined
  readonly protocol?: number | undefined
  readonly type?: RouteType | undefined
}

/** Like `ip route show table T dev D proto P`; the kernel filters. Cached exceptions are left out. */
export function listRoutes(socket: NetlinkSocket, filter: RouteFilter = {}): SeenRoute[] {
  const { family, table } = filter
  const header = {
    family: family === undefined ? AF.UNSPEC : family === 4 ? AF.INET : AF.INET6,
    dstLength: 0,
    srcLength: 0,
    tos: 0,
    table: table !== undefined && table < 256 ? table : RT_TABLE.UNSPEC,
    protocol: filter.protocol ?? 0,
    scope: 0,
    type: filter.type === undefined ? 0 : routeTypes.valueOf(filter.type),
    flags: 0,
  }
  const message: Message = {
    op: () => 'route show',
    type: RTM.GETROUTE,
    flags: 0,
    write(w) {
      rtmsg.write(w, header)
      routeAttributes.write(w, { oif: filter.oif, table })
    },
  }
  try {
    return socket.dump(message, (payload) => {
      const route = readRoute(payload)
      return route !== undefined && (route.flags & ROUTE_FLAG.CLONED) === 0 && passes(route, filter) ? route : undefined
    })
  } catch (error) {
    // A table that nobody ever put a route in does not exist.
    if (table !== undefined && hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** The kernel filters, but not every family in every version does so by everything. */
const passes = (route: SeenRoute, { table, oif, protocol, type }: RouteFilter): boolean =>
  (table === undefined || route.table === table) &&
  (oif === undefined || route.oif === oif || route.nexthops?.some((hop) => hop.oif === oif) === true) &&
  (protocol === undefined || route.protocol === protocol) &&
  (type === undefined || route.type === type)

export interface RouteQuery {
  /** Like `from A`. */
  readonly from?: IpText | undefined
  readonly iif?: number | undefined
  readonly oif?: number | undefined
  readonly mark?: number | undefined
  /** The entry of the table that matches, as it was put there, instead of the path that follows from it. Like `fibmatch`. */
  readonly fibMatch?: boolean | undefined
}

/** Like `ip route get A [from B] [iif D] [mark M]`. Throws `NetlinkError` ENETUNREACH, EACCES … as a packet would meet. */
export function getRoute(socket: NetlinkSocket, to: IpText, query: RouteQuery = {}): SeenRoute {
  const family = familyOf(to)
  const bits = family === 4 ? 32 : 128
  const message: Message = {
    op: () => `route get ${to}`,
    type: RTM.GETROUTE,
    flags: 0,
    write(w) {
      rtmsg.write(w, {
        family: family === 4 ? AF.INET : AF.INET6,
        dstLength: bits,
        srcLength: query.from === undefined ? 0 : bits,
        tos: 0,
        table: 0,
        protocol: 0,
        scope: 0,
        type: 0,
        flags: query.fibMatch === true ? ROUTE_FLAG.FIB_MATCH : 0,
      })
      routeAttributes.write(w, { dst: to, src: query.from, iif: query.iif, oif: query.oif, mark: query.mark })
    },
  }
  return socket.get(message, readRoute)
}
