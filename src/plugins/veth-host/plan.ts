/** What a leg beside a pod's own interface carries: pure. */

import type { IpConfig } from '#cni/result.ts'
import { containsCidr, familyOf, parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import type { Route } from '#netlink/route-codec.ts'
import { ipOf } from '../link/configure.ts'
import { hostRoute } from '../link/leg.ts'
import type { ServiceSource } from '../rules/services.ts'
import type { VethHostConf } from './config.ts'

/** As far as they matter here. */
export type PlanConf = Pick<
  VethHostConf,
  'gateways' | 'serviceCidrs' | 'stackCidrs' | 'nodeRoute' | 'masqueradeServices'
>

export interface Plan {
  /** All addresses of the pod's interface. */
  readonly ips: readonly IpText[]
  readonly families: ReadonlySet<4 | 6>
  /** The node's own address of each family. */
  readonly node: ReadonlyMap<4 | 6, IpText>
  /** In the pod, over the leg with this index; the way to the gateways first. */
  readonly routes: (index: number) => readonly Route[]
  readonly sources: readonly ServiceSource[]
}

export function planOf(conf: PlanConf, own: readonly IpConfig[], node: ReadonlyMap<4 | 6, IpText>): Plan {
  const ips = [...new Set(own.map(({ address }) => ipOf(address)))]
  const first = new Map(ips.toReversed().map((ip) => [familyOf(ip), ip]))
  const families = new Set(ips.map((ip) => familyOf(ip)))
  return {
    ips,
    families,
    node,
    routes: (index) =>
      [...first]
        .toSorted(([a], [b]) => a - b)
        .flatMap(([family, ip]) => routesOf(conf, family, ip, node.get(family), index)),
    sources: conf.masqueradeServices ? ips.flatMap((ip) => sourceOf(conf, ip, node.get(familyOf(ip)))) : [],
  }
}

function routesOf(
  conf: PlanConf,
  family: 4 | 6,
  prefSrc: IpText,
  node: IpText | undefined,
  oif: number,
): readonly Route[] {
  const gateway = conf.gateways[family]
  const destinations = through(conf, family, node)
  return [
    // An IPv6 link-local gateway needs no route of its own.
    ...(family === 4 ? [{ dst: hostRoute(gateway), oif }] : []),
    ...destinations.map((dst) => ({ dst, gateway, oif, prefSrc, onlink: true })),
  ]
}

/** Each once: the kernel refuses a second one. */
function through(conf: PlanConf, family: 4 | 6, node: IpText | undefined): readonly CidrText[] {
  const all = [
    ...(conf.nodeRoute && node !== undefined ? [hostRoute(node)] : []),
    ...conf.serviceCidrs,
    ...conf.stackCidrs,
  ]
  return [...new Set(all.filter((cidr) => familyOf(cidr) === family))]
}

const sourceOf = (conf: PlanConf, pod: IpText, node: IpText | undefined): readonly ServiceSource[] =>
  node === undefined
    ? []
    : [{ pod, node, stack: disjoint(conf.stackCidrs.filter((cidr) => familyOf(cidr) === familyOf(pod))) }]

/** Without those that lie in another one: the kernel's intervals do not overlap. */
export const disjoint = (cidrs: readonly CidrText[]): readonly CidrText[] => {
  const distinct = [...new Set(cidrs)]
  return distinct.filter(
    (inner) => !distinct.some((outer) => outer !== inner && containsCidr(parseCidr(outer), parseCidr(inner))),
  )
}
