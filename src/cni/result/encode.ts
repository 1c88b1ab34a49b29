/** From the one shape used inside to a result in any version of the specification, holding what that version can hold. Source: CNI SPEC.md §5 of each version. */

import { familyOf } from '#ip/prefix.ts'
import type { Family } from '#ip/text.ts'
import { incompatibleVersion } from '../errors.ts'
import type { JsonObject } from '../json.ts'
import { isEmptyDns, type Dns, type Interface, type IpConfig, type Result, type RouteConfig } from '../result.ts'
import { isSpecVersion, specVersions } from '../version.ts'

/**
 * Writes `result` in `version`. Versions before 0.3.0 hold one address of each family and no interfaces; versions before 1.0.0 hold no MTU,
 * socket path or PCI ID of an interface. Throws CniError code 1 for an unknown version, and where an old version demands an address and there is none.
 */
export function encodeResult(result: Result, version: string): JsonObject {
  if (!isSpecVersion(version)) {
    throw incompatibleVersion(
      `no result can be written in cniVersion ${JSON.stringify(version).slice(0, 64)}`,
      `known are ${specVersions.join(', ')}`,
    )
  }
  if (version === '0.1.0' || version === '0.2.0') return toLegacy(result, version)
  const old = version === '0.3.0' || version === '0.3.1' || version === '0.4.0'
  return {
    cniVersion: version,
    ...list('interfaces', result.interfaces.map(old ? interfaceOf04 : interfaceOf1)),
    ...list('ips', result.ips.map(old ? ipOf04 : ipOf1)),
    ...list('routes', result.routes.map(routeOf)),
    // Consumers of the older versions expect the key even when there is nothing in it.
    ...(old || !isEmptyDns(result.dns) ? { dns: dnsJson(result.dns) } : {}),
  }
}

const list = (key: string, items: readonly JsonObject[]): JsonObject => (items.length > 0 ? { [key]: items } : {})

function toLegacy(result: Result, version: string): JsonObject {
  const ip4 = legacyIp(result, 4)
  const ip6 = legacyIp(result, 6)
  if (ip4 === undefined && ip6 === undefined) {
    throw incompatibleVersion(
      `a result of cniVersion ${version} needs an IP address and this one has none`,
      'set cniVersion to 0.3.0 or newer in the network configuration',
    )
  }
  return {
    cniVersion: version,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    dns: dnsJson(result.dns),
  }
}

function legacyIp(result: Result, family: Family): JsonObject | undefined {
  const ip = result.ips.find(({ address }) => familyOf(address) === family)
  if (ip === undefined) return undefined
  const routes = result.routes
    .filter(({ dst }) => familyOf(dst) === family)
    .map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { gw }) }))
  return { ip: ip.address, ...(ip.gateway === undefined ? {} : { gateway: ip.gateway }), ...list('routes', routes) }
}

const interfaceOf04 = ({ name, mac, sandbox }: Interface): JsonObject => ({
  name,
  ...(mac === undefined ? {} : { mac }),
  ...(sandbox === undefined ? {} : { sandbox }),
})

const interfaceOf1 = (link: Interface): JsonObject => ({
  ...interfaceOf04(link),
  ...(link.mtu === undefined ? {} : { mtu: link.mtu }),
  ...(link.socketPath === undefined ? {} : { socketPath: link.socketPath }),
  ...(link.pciID === undefined ? {} : { pciID: link.pciID }),
})

const ipOf1 = (ip: IpConfig): JsonObject => ({
  ...(ip.interface === undefined ? {} : { interface: ip.interface }),
  address: ip.address,
  ...(ip.gateway === undefined ? {} : { gateway: ip.gateway }),
})

const ipOf04 = (ip: IpConfig): JsonObject => ({ version: String(familyOf(ip.address)), ...ipOf1(ip) })

const routeOf = ({ dst, gw, mtu, advmss, priority, table, scope }: RouteConfig): JsonObject => ({
  dst,
  ...(gw === undefined ? {} : { gw }),
  ...(mtu === undefined ? {} : { mtu }),
  ...(advmss === undefined ? {} : { advmss }),
  ...(priority === undefined ? {} : { priority }),
  ...(table === undefined ? {} : { table }),
  ...(scope === undefined ? {} : { scope }),
})

const dnsJson = ({ nameservers, domain, search, options }: Dns): JsonObject => ({
  ...(nameservers === undefined ? {} : { nameservers }),
  ...(domain === undefined ? {} : { domain }),
  ...(search === undefined ? {} : { search }),
  ...(options === undefined ? {} : { options }),
})
