/** Prefixes: a network (host bits zero) and an address on a network (host bits kept). */

import {
  addToIp,
  bitsOf,
  formatIp,
  ip4,
  ip6,
  IpError,
  parseIp,
  tryParseIp,
  type Family,
  type Ip,
  type IpText,
} from './address.ts'
import type { Brand } from './brand.ts'

/** A network: `ip` is its first address, `length` its prefix length. Made only by this file, so host bits are always zero. */
export interface Cidr {
  readonly ip: Ip
  readonly length: number
}

/** An address with the length of its network, as in `10.244.1.5/24`. */
export interface IpNet {
  readonly ip: Ip
  readonly length: number
}

/** Canonical text of a network, host bits zero: `10.244.1.0/24`. */
export type CidrText = Brand<'CidrText'>

/** Canonical text of an address on its network, host bits kept: `10.244.1.5/24`. */
export type IpNetText = Brand<'IpNetText'>

/** Parses `address/length`, keeping host bits; undefined for anything else. */
export function tryParseIpNet(text: string): IpNet | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const ip = tryParseIp(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (ip === undefined || !/^(0|[1-9]\d{0,2})$/.test(digits)) return undefined
  const length = Number(digits)
  return length <= bitsOf(ip.family) ? { ip, length } : undefined
}

export function parseIpNet(text: string): IpNet {
  const net = tryParseIpNet(text)
  if (net === undefined) throw badPrefix(text)
  return net
}

/** Parses a prefix and clears its host bits; undefined for anything else. */
export function tryParseCidr(text: string): Cidr | undefined {
  const net = tryParseIpNet(text)
  return net === undefined ? undefined : networkOf(net)
}

export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text)
  if (cidr === undefined) throw badPrefix(text)
  return cidr
}

const badPrefix = (text: string): IpError =>
  new IpError(
    'bad-prefix',
    text,
    `${JSON.stringify(text.slice(0, 64))} is not a prefix such as 10.244.0.0/16 or fd00:10::/56`,
  )

/** The network that an address with a length lies on. */
export function networkOf(net: IpNet): Cidr {
  return { ip: mask(net.ip, net.length), length: net.length }
}

/** The network of `length` bits that holds `ip`. */
export function cidrOf(ip: Ip, length: number): Cidr {
  if (!Number.isInteger(length) || length < 0 || length > bitsOf(ip.family)) {
    throw new IpError('bad-prefix', String(length), `/${length} is no IPv${ip.family} prefix length`)
  }
  return networkOf({ ip, length })
}

/** A network of one address: /32 or /128. */
export const hostCidr = (ip: Ip): Cidr => ({ ip, length: bitsOf(ip.family) })

function mask(ip: Ip, length: number): Ip {
  if (ip.family === 4) return length === 0 ? ip4(0) : ip4((ip.value & (0xffff_ffff << (32 - length))) >>> 0)
  const host = BigInt(128 - length)
  return ip6((ip.value >> host) << host)
}

export const formatCidr = (cidr: Cidr): CidrText => `${formatIp(cidr.ip)}/${cidr.length}` as CidrText
export const formatIpNet = (net: IpNet): IpNetText => `${formatIp(net.ip)}/${net.length}` as IpNetText

/** From foreign text to canonical text of a network (host bits cleared). */
export const cidrText = (text: string): CidrText => formatCidr(parseCidr(text))

/** From foreign text to canonical text of an address on its network (host bits kept). */
export const ipNetText = (text: string): IpNetText => formatIpNet(parseIpNet(text))

/** `10.0.0.1` and 24 → `10.0.0.1/24`. */
export const ipNetOf = (ip: IpText, length: number): IpNetText => formatIpNet({ ip: parseIp(ip), length })

export const familyOf = (text: string): Family => (text.includes(':') ? 6 : 4)

/** The last address: the broadcast address of an IPv4 network. */
export function lastOf(cidr: Cidr): Ip {
  const host = bitsOf(cidr.ip.family) - cidr.length
  return cidr.ip.family === 4 ? ip4(cidr.ip.value + 2 ** host - 1) : ip6(cidr.ip.value | ((1n << BigInt(host)) - 1n))
}

/** How many addresses it has. */
export const sizeOf = (cidr: Cidr): bigint => 1n << BigInt(bitsOf(cidr.ip.family) - cidr.length)

/** The address `n` after the network's first. Throws when it lies outside the network. */
export function nthOf(cidr: Cidr, n: number | bigint): Ip {
  if (BigInt(n) < 0n || BigInt(n) >= sizeOf(cidr)) {
    throw new IpError('out-of-space', String(n), `${formatCidr(cidr)} has no address number ${n}`)
  }
  return addToIp(cidr.ip, n)
}

export const contains = (cidr: Cidr, ip: Ip): boolean => {
  if (cidr.ip.family !== ip.family) return false
  return mask(ip, cidr.length).value === cidr.ip.value
}

/** True when every address of `inner` is in `outer`. */
export const containsCidr = (outer: Cidr, inner: Cidr): boolean =>
  outer.length <= inner.length && contains(outer, inner.ip)

export const overlaps = (a: Cidr, b: Cidr): boolean => containsCidr(a, b) || containsCidr(b, a)

export const equalCidr = (a: Cidr, b: Cidr): boolean =>
  a.length === b.length && a.ip.family === b.ip.family && a.ip.value === b.ip.value
