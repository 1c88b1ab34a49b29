/** Which routes and rules make an interface answer for its own addresses. Pure: from what the pod has to what it should have. */

import type { IpConfig } from '#cni/result.ts'
import { parseIp } from '#ip/address.ts'
import { familyOf, formatCidr, hostCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import type { Route, SeenRoute } from '#netlink/route-codec.ts'
import { RT_TABLE, RTPROT } from '#netlink/route-names.ts'
import type { Rule, SeenRule } from '#netlink/rule.ts'
import { HEDDLE_PROTOCOL } from '#state/protocol.ts'
import { ipOf } from '../link/configure.ts'
import { directFirst, routesBy } from '../link/own-routes.ts'
import type { SbrConf } from './config.ts'

/** As the reference has it. */
const FIRST_TABLE = 100

/** The first table from 100 on that no rule leads to and no route is in. */
export function freeTable(rules: readonly SeenRule[], routes: readonly SeenRoute[]): number {
  const taken = new Set([...rules.map(({ table }) => table), ...routes.map(({ table }) => table)])
  let table = FIRST_TABLE
  while (taken.has(table)) table++
  return table
}

/** Everything, by family. */
export const DEFAULT = { 4: '0.0.0.0/0' as CidrText, 6: '::/0' as CidrText } as const

/** What sbr asks of the kernel, in this order: until the table has routes, its rules change nothing. Of routes, those that others need come first. */
export interface Routing {
  readonly rules: readonly Rule[]
  readonly routes: readonly Route[]
  /** From the main table. */
  readonly removed: readonly Route[]
}

export function routingOf(
  conf: Pick<SbrConf, 'gateways' | 'addSourceHints'>,
  table: number,
  index: number,
  ips: readonly IpConfig[],
  routes: readonly SeenRoute[],
): Routing {
  const own = routesBy(routes, index).filter(isMovable)
  const gateways = gatewaysOf(conf, ips)
  const isReplaced = ({ dst }: Route): boolean => dst === DEFAULT[familyOf(dst)] && conf.gateways.has(familyOf(dst))
  const moved = own.filter((route) => !isReplaced(route)).map((route): Route => ({ ...route, table }))
  const defaults = [...gateways]
    .filter(([family]) => !moved.some(({ dst }) => dst === DEFAULT[family]))
    .map(([family, gateway]): Route => ({
      dst: DEFAULT[family],
      gateway,
      oif: index,
      table,
      protocol: HEDDLE_PROTOCOL,
    }))
  return {
    rules: ips.map(({ address }) => ruleOf(ipOf(address), table)),
    routes: directFirst([...moved, ...defaults]).map((route) => (conf.addSourceHints ? hinted(route, ips) : route)),
    removed: directFirst(own),
  }
}

export const ruleOf = (ip: IpText, table: number): Rule => ({
  family: familyOf(ip),
  from: formatCidr(hostCidr(parseIp(ip))),
  table,
  protocol: HEDDLE_PROTOCOL,
})

/** The configuration's before those of the addresses, of which the first counts. */
export function gatewaysOf(
  { gateways }: Pick<SbrConf, 'gateways'>,
  ips: readonly IpConfig[],
): ReadonlyMap<4 | 6, IpText> {
  const found = new Map(gateways)
  for (const { address, gateway } of ips) {
    const family = familyOf(address)
    if (gateway !== undefined && !found.has(family)) found.set(family, gateway)
  }
  return found
}

function hinted(route: Route, ips: readonly IpConfig[]): Route {
  if (route.prefSrc !== undefined) return route
  const own = ips.find(({ address }) => familyOf(address) === familyOf(route.dst))
  return own === undefined ? route : { ...route, prefSrc: ipOf(own.address) }
}

/** Not what belongs to the link whatever its addresses are, nor what routers advertise, which the kernel renews in the main table. */
const isMovable = ({ dst, table, protocol }: SeenRoute): boolean =>
  table === RT_TABLE.MAIN && !/^(fe80:|ff)/.test(dst) && protocol !== RTPROT.RA
