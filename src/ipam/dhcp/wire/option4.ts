/** Options of DHCPv4 by name, and what their values mean. Sources: RFC 2132, 3397 (search list), 3442 (classless routes); names of dhcp-options(5). */

import { formatIp, ipFromBytes, isMulticast, isUnspecified } from '#ip/address.ts'
import { cidrOf, formatCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { malformed } from './error.ts'
import type { Options4 } from './message4.ts'

export const OPTION4 = {
  subnetMask: 1,
  router: 3,
  dns: 6,
  hostName: 12,
  domainName: 15,
  mtu: 26,
  staticRoutes: 33,
  requestedAddress: 50,
  leaseTime: 51,
  serverId: 54,
  parameterList: 55,
  message: 56,
  maxSize: 57,
  renewalTime: 58,
  rebindingTime: 59,
  vendorClass: 60,
  clientId: 61,
  userClass: 77,
  domainSearch: 119,
  classlessRoutes: 121,
} as const

/** The reference plugin knows the first six; the others are names of the same table. */
const names: ReadonlyMap<string, number> = new Map(
  Object.entries({
    'dhcp-client-identifier': OPTION4.clientId,
    'subnet-mask': OPTION4.subnetMask,
    routers: OPTION4.router,
    'host-name': OPTION4.hostName,
    'user-class': OPTION4.userClass,
    'vendor-class-identifier': OPTION4.vendorClass,
    'domain-name-servers': OPTION4.dns,
    'domain-name': OPTION4.domainName,
    'domain-search': OPTION4.domainSearch,
    'interface-mtu': OPTION4.mtu,
    'static-routes': OPTION4.staticRoutes,
    'classless-static-routes': OPTION4.classlessRoutes,
    'ntp-servers': 42,
    'dhcp-lease-time': OPTION4.leaseTime,
    fqdn: 81,
  }),
)

export const knownOptionNames: readonly string[] = [...names.keys()]

/** The code of an option named by its name or its number (1 to 254); undefined for anything else. */
export function optionCode(text: string): number | undefined {
  const code = names.get(text) ?? (/^\d{1,3}$/.test(text) ? Number(text) : undefined)
  return code !== undefined && code >= 1 && code <= 254 ? code : undefined
}

export const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Text of an option; control characters, a closing NUL included, are left out: it goes to logs and files. */
export function textOf(value: Uint8Array | undefined): string | undefined {
  if (value === undefined) return undefined
  const text = Buffer.from(value).toString('utf8')
  // eslint-disable-next-line no-control-regex -- exactly those
  const clean = text.replaceAll(/[\0-\x1f\x7f]/g, '')
  return clean === '' ? undefined : clean
}

/** Seconds; undefined where the option is missing or has another length. 0xffffffff is for ever. */
export function secondsOf(value: Uint8Array | undefined): number | undefined {
  return value?.length === 4 ? Buffer.from(value).readUInt32BE() : undefined
}

/** Addresses of an option; a list whose length is no multiple of four is none. */
export function addressesOf(value: Uint8Array | undefined): readonly IpText[] {
  if (value === undefined || value.length % 4 !== 0) return []
  return Array.from({ length: value.length / 4 }, (_, i) => ipAt(value, 4 * i))
}

const ipAt = (bytes: Uint8Array, at: number): IpText => formatIp(ipFromBytes(bytes.subarray(at, at + 4)))

/** Prefix length of a subnet mask; undefined for one with holes, or of another length. */
export function maskLengthOf(value: Uint8Array | undefined): number | undefined {
  if (value?.length !== 4) return undefined
  const mask = Buffer.from(value).readUInt32BE()
  const length = Math.clz32(~mask >>> 0)
  return length > 0 && mask === (length === 32 ? 0xffff_ffff : (0xffff_ffff << (32 - length)) >>> 0)
    ? length
    : undefined
}

/** The address of an option that holds exactly one that a host can have. */
export function hostAddressOf(value: Uint8Array | undefined): IpText | undefined {
  if (value?.length !== 4) return undefined
  const ip = ipFromBytes(value)
  return isUnspecified(ip) || isMulticast(ip) ? undefined : formatIp(ip)
}

export interface DhcpRoute {
  readonly dst: CidrText
  /** Absent: on the link. */
  readonly gw?: IpText
}

/** Option 121 wins over 33 and the router (RFC 3442); a router is the way to everywhere. Throws `DhcpWireError` for a damaged option 121. */
export function routesOf(options: Options4): readonly DhcpRoute[] {
  const classless = options.get(OPTION4.classlessRoutes)
  const routes = classless === undefined ? [] : classlessRoutes(classless)
  if (routes.length > 0) return routes
  const gw = routerOf(options)
  return [
    ...staticRoutes(options.get(OPTION4.staticRoutes)),
    ...(gw === undefined ? [] : [{ dst: formatCidr(cidrOf({ family: 4, value: 0 }, 0)), gw }]),
  ]
}

/** The first router. */
export function routerOf(options: Options4): IpText | undefined {
  return addressesOf(options.get(OPTION4.router)).find((address) => address !== '0.0.0.0')
}

function classlessRoutes(bytes: Uint8Array): readonly DhcpRoute[] {
  const routes: DhcpRoute[] = []
  let at = 0
  while (at < bytes.length) {
    const length = bytes[at++] ?? 0
    const significant = Math.ceil(length / 8)
    if (length > 32 || at + significant + 4 > bytes.length) throw malformed('option 121 (classless routes)')
    const network = new Uint8Array(4)
    network.set(bytes.subarray(at, at + significant))
    const gw = ipAt(bytes, at + significant)
    at += significant + 4
    routes.push({ dst: formatCidr(cidrOf(ipFromBytes(network), length)), ...(gw === '0.0.0.0' ? {} : { gw }) })
  }
  return routes
}

/** Option 33: destination and router; the destination's class is its prefix length, as RFC 2132 §5.8 has it, a default route being forbidden. */
function staticRoutes(value: Uint8Array | undefined): readonly DhcpRoute[] {
  if (value === undefined || value.length % 8 !== 0) return []
  return Array.from({ length: value.length / 8 }, (_, i) => {
    const destination = ipFromBytes(value.subarray(8 * i, 8 * i + 4))
    return { dst: formatCidr(cidrOf(destination, classOf(value[8 * i] ?? 0))), gw: ipAt(value, 8 * i + 4) }
  }).filter(({ dst }) => !dst.startsWith('0.'))
}

const classOf = (first: number): number => (first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32)

/** Names of option 119, compressed as in DNS (RFC 1035 §4.1.4); what is damaged is left out. */
export function searchListOf(value: Uint8Array | undefined): readonly string[] {
  if (value === undefined) return []
  const found: string[] = []
  let at = 0
  while (at < value.length && found.length < 32) {
    const name = readName(value, at)
    if (name === undefined) return found
    if (name.text !== '') found.push(name.text)
    at = name.next
  }
  return found
}

function readName(bytes: Uint8Array, start: number): { text: string; next: number } | undefined {
  const labels: string[] = []
  let at = start
  let next: number | undefined
  // A pointer leads backwards only, so this ends.
  for (let limit = bytes.length; ;) {
    const length = bytes[at]
    if (length === undefined) return undefined
    if (length === 0) return { text: labels.join('.'), next: next ?? at + 1 }
    if (length >= 0xc0) {
      const target = ((length & 0x3f) << 8) | (bytes[at + 1] ?? 0)
      if (at + 1 >= bytes.length || target >= Math.min(at, limit)) return undefined
      next ??= at + 2
      limit = target
      at = target
      continue
    }
    if (length > 63 || at + 1 + length > bytes.length) return undefined
    const label = Buffer.from(bytes.subarray(at + 1, at + 1 + length)).toString('latin1')
    if (!/^[a-zA-Z0-9_-]+$/.test(label)) return undefined
    labels.push(label)
    at += 1 + length
  }
}
