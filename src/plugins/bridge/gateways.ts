/** Gateways of a bridge's pods, from the IPAM result: pure. */

import type { IpConfig, Result, RouteConfig } from '#cni/result.ts'
import { addToIp, formatIp } from '#ip/address.ts'
import { cidrText, familyOf, formatCidr, ipNetOf, networkOf, overlaps, parseIpNet, parseCidr } from '#ip/prefix.ts'
import type { IpNetText } from '#ip/text.ts'

export interface Gatewayed {
  /** The result with every gateway filled in, and default routes where the configuration wants them. */
  readonly result: Result
  /** Addresses that the bridge must have. */
  readonly addresses: readonly IpNetText[]
}

const DEFAULT = { 4: cidrText('0.0.0.0/0'), 6: cidrText('::/0') } as const

/** The first address of a subnet serves as gateway where IPAM names none. A default route that IPAM brings, with its gateway, is left alone. */
export function withGateways(result: Result, isGateway: boolean, isDefaultGateway: boolean): Gatewayed {
  if (!isGateway) return { result, addresses: [] }
  const ips = result.ips.map((config): IpConfig => ({ ...config, gateway: config.gateway ?? firstOf(config.address) }))
  const addresses = ips.map(({ address, gateway }) => gatewayAddress(address, gateway ?? firstOf(address)))
  const routes: RouteConfig[] = [...result.routes]
  if (isDefaultGateway) {
    for (const { gateway } of ips) {
      if (gateway === undefined) continue
      const dst = DEFAULT[familyOf(gateway)]
      if (!routes.some((route) => route.dst === dst && route.gw !== undefined)) routes.push({ dst, gw: gateway })
    }
  }
  return { result: { ...result, ips, routes }, addresses: [...new Set(addresses)] }
}

const firstOf = (address: IpNetText) => formatIp(addToIp(networkOf(parseIpNet(address)).ip, 1))

const gatewayAddress = (address: IpNetText, gateway: ReturnType<typeof firstOf>): IpNetText =>
  ipNetOf(gateway, parseIpNet(address).length)

/** What of the bridge's present addresses is in the way of a wanted one: any other IPv4 address, or an overlapping IPv6 subnet. */
export function conflictsOf(wanted: IpNetText, present: readonly IpNetText[]): readonly IpNetText[] {
  const family = familyOf(wanted)
  const others = present.filter((address) => address !== wanted && familyOf(address) === family)
  if (family === 4) return others
  const subnet = networkOf(parseIpNet(wanted))
  return others.filter((address) => overlaps(parseCidr(formatCidr(networkOf(parseIpNet(address)))), subnet))
}
