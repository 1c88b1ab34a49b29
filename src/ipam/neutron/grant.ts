/** What a pod is told of its addresses. */

import { emptyResult, type Result, type RouteConfig } from '#cni/result.ts'
import { cidrText, familyOf, ipNetOf, parseCidr, parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { NeutronConf } from './config.ts'
import { subnetOf, type Facts } from './facts.ts'
import type { Address } from './record.ts'
import type { Grant } from './wire.ts'

/** IPv4 first. */
export const grantsOf = (addresses: readonly Address[], facts: Facts): readonly Grant[] =>
  addresses
    .toSorted((a, b) => familyOf(a.ip) - familyOf(b.ip))
    .map(({ ip, mac }) => {
      const subnet = subnetOf(facts, ip)
      const length = subnet === undefined ? (familyOf(ip) === 4 ? 32 : 128) : parseCidr(subnet.cidr).length
      return {
        address: ipNetOf(ip, length),
        ...(subnet?.gateway === undefined ? {} : { gateway: subnet.gateway }),
        ...(mac === undefined ? {} : { mac }),
        ...(subnet === undefined ? {} : { mtu: subnet.mtu, subnet: subnet.cidr }),
      }
    })

/** The IPAM result: an address of each family, and a default route by its gateway unless the configuration has routes. */
export function resultOf(grants: readonly Grant[], conf: Pick<NeutronConf, 'routes'>): Result {
  const usual = grants.flatMap(({ address, gateway }): readonly RouteConfig[] =>
    gateway === undefined ? [] : [{ dst: cidrText(familyOf(address) === 4 ? '0.0.0.0/0' : '::/0'), gw: gateway }],
  )
  const ips = grants.map(({ address, gateway }) => ({ address, ...(gateway === undefined ? {} : { gateway }) }))
  return { ...emptyResult, ips, routes: conf.routes ?? usual }
}

/** The addresses alone. */
export const addressesOf = (grants: readonly Grant[]): ReadonlySet<string> =>
  new Set(grants.map(({ address }) => formatIp(parseIpNet(address).ip)))
