/**
 * IPv4 and IPv6 addresses as immutable values for arithmetic, and as canonical text for everything else.
 *
 * Text is the currency of Heddle's models: it is a Map key, it is JSON, it is what `ip` prints. Values exist for as long as somebody calculates.
 */

import type { Brand } from './brand.ts'

/** An IPv4 address; `value` is the unsigned 32-bit number in host order. */
export interface Ip4 {
  readonly family: 4
  readonly value: number
}

/** An IPv6 address; `value` is the unsigned 128-bit number. */
export interface Ip6 {
  readonly family: 6
  readonly value: bigint
}

export type Ip = Ip4 | Ip6
export type Family = 4 | 6

/** Canonical text of an address: dotted quad, or RFC 5952 for IPv6. Only `formatIp` and `ipText` make one. */
export type IpText = Brand<'IpText'>

export class IpError extends Error {
  override readonly name = 'IpError'
  readonly code: 'bad-address' | 'bad-prefix' | 'bad-mac' | 'bad-range' | 'out-of-space'
  readonly input: string

  constructor(code: IpError['code'], input: string, message: string) {
    super(message)
    this.code = code
    this.input = input
  }
}

const MAX_4 = 0xffff_ffff
const MAX_6 = (1n << 128n) - 1n

/** Address length in bits: 32 or 128. */
export const bitsOf = (family: Family): 32 | 128 => (family === 4 ? 32 : 128)

export const ip4 = (value: number): Ip4 => {
  if (!Number.isInteger(value) || value < 0 || value > MAX_4) throw outOfSpace(4, value)
  return { family: 4, value }
}

export const ip6 = (value: bigint): Ip6 => {
  if (value < 0n || value > MAX_6) throw outOfSpace(6, value)
  return { family: 6, value }
}

const outOfSpace = (family: Family, value: number | bigint): IpError =>
  new IpError('out-of-space', String(value), `${value} lies outside the IPv${family} address space`)

/** Parses an address; undefined for anything that is not exactly one. Leading zeros in a quad are refused, as inet_pton does. */
export function tryParseIp(text: string): Ip | undefined {
  return text.includes(':') ? parse6(text) : parse4(text)
}

/** Like `tryParseIp`, but throws `IpError` with the offending text. */
export function parseIp(text: string): Ip {
  const ip = tryParseIp(text)
  if (ip === undefined)
    throw new IpError('bad-address', text, `${JSON.stringify(text.slice(0, 64))} is not an IP address`)
  return ip
}

function parse4(text: string): Ip4 | undefined {
  let value = 0
  let octet = -1
  let digits = 0
  let dots = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x2e) {
      if (octet < 0 || ++dots > 3) return undefined
      value = value * 256 + octet
      octet = -1
      digits = 0
    } else {
      if (c < 0x30 || c > 0x39 || (digits > 0 && octet === 0)) return undefined
      octet = (octet < 0 ? 0 : octet * 10) + c - 0x30
      if (octet > 255) return undefined
      digits++
    }
  }
  return dots === 3 && octet >= 0 ? { family: 4, value: value * 256 + octet } : undefined
}

function parse6(text: string): Ip6 | undefined {
  const gap = text.indexOf('::')
  if (gap < 0) {
    const groups = groupsOf(text)
    return groups?.length === 8 ? { family: 6, value: join(groups) } : undefined
  }
  const head = gap === 0 ? [] : groupsOf(text.slice(0, gap), false)
  const tail = gap + 2 === text.length ? [] : groupsOf(text.slice(gap + 2))
  if (head === undefined || tail === undefined || head.length + tail.length > 7) return undefined
  return { family: 6, value: join([...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail]) }
}

/** 16-bit groups of colon-separated text; the last one of an address may be a dotted quad (RFC 4291 §2.2.3). */
function groupsOf(text: string, quadMayEnd = true): number[] | undefined {
  const groups: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (quadMayEnd && i === parts.length - 1 && part.includes('.')) {
      const quad = parse4(part)
      if (quad === undefined) return undefined
      groups.push(quad.value >>> 16, quad.value & 0xffff)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined
      groups.push(Number.parseInt(part, 16))
    }
  }
  return groups
}

const join = (groups: readonly number[]): bigint => groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n)

/** Canonical text: dotted quad, or the RFC 5952 form of IPv6 (lower case, longest run of zeros shortened, IPv4-mapped with a quad). */
export function formatIp(ip: Ip): IpText {
  return (ip.family === 4 ? format4(ip.value) : format6(ip.value)) as IpText
}

/** Parses and re-formats: the way from foreign text to canonical text. */
export const ipText = (text: string): IpText => formatIp(parseIp(text))

const format4 = (v: number): string => `${v >>> 24}.${(v >>> 16) & 255}.${(v >>> 8) & 255}.${v & 255}`

function format6(value: bigint): string {
  if (value >> 32n === 0xffffn) return `::ffff:${format4(Number(value & 0xffff_ffffn))}`
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn))
  const run = longestZeroRun(groups)
  const hex = (part: readonly number[]): string => part.map((g) => g.toString(16)).join(':')
  if (run.length < 2) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  let start = 0
  for (let i = 0; i <= groups.length; i++) {
    if (groups[i] === 0) continue
    if (i - start > best.length) best = { start, length: i - start }
    start = i + 1
  }
  return best
}

/** Order: IPv4 before IPv6, then by number. */
export function compareIp(a: Ip, b: Ip): number {
  if (a.family === 4 && b.family === 4) return a.value - b.value
  if (a.family === 6 && b.family === 6) return a.value < b.value ? -1 : a.value > b.value ? 1 : 0
  return a.family - b.family
}

export const equalIp = (a: Ip, b: Ip): boolean => a.family === b.family && a.value === b.value

/** The address `n` after `ip` (before it when negative). Throws `IpError` `out-of-space` past either end. */
export function addToIp(ip: Ip, n: number | bigint): Ip {
  return ip.family === 4 ? ip4(ip.value + Number(n)) : ip6(ip.value + BigInt(n))
}

/** Network byte order, 4 or 16 bytes. */
export function ipToBytes(ip: Ip): Uint8Array {
  const bytes = new Uint8Array(ip.family === 4 ? 4 : 16)
  writeIp(ip, new DataView(bytes.buffer), 0)
  return bytes
}

/** Writes 4 or 16 bytes in network order at `offset`. */
export function writeIp(ip: Ip, view: DataView, offset: number): void {
  if (ip.family === 4) {
    view.setUint32(offset, ip.value)
    return
  }
  view.setBigUint64(offset, ip.value >> 64n)
  view.setBigUint64(offset + 8, ip.value & 0xffff_ffff_ffff_ffffn)
}

/** The address in 4 or 16 bytes of network order. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length === 4) return { family: 4, value: view.getUint32(0) }
  if (bytes.length === 16) return { family: 6, value: (view.getBigUint64(0) << 64n) | view.getBigUint64(8) }
  throw new IpError('bad-address', `${bytes.length} bytes`, `an address has 4 or 16 bytes, not ${bytes.length}`)
}

const within = (ip: Ip, base4: number, length4: number, base6: bigint, length6: number): boolean =>
  ip.family === 4 ? ip.value >>> (32 - length4) === base4 : ip.value >> BigInt(128 - length6) === base6

/** 224.0.0.0/4 or ff00::/8. */
export const isMulticast = (ip: Ip): boolean => within(ip, 0xe, 4, 0xffn, 8)

/** 127.0.0.0/8 or ::1. */
export const isLoopback = (ip: Ip): boolean => within(ip, 127, 8, 1n, 128)

/** 169.254.0.0/16 or fe80::/10. */
export const isLinkLocal = (ip: Ip): boolean => within(ip, 0xa9fe, 16, 0x3fan, 10)

/** 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918) and fc00::/7 (RFC 4193). */
export const isPrivate = (ip: Ip): boolean =>
  within(ip, 10, 8, 0x7en, 7) || (ip.family === 4 && (ip.value >>> 20 === 0xac1 || ip.value >>> 16 === 0xc0a8))

/** 0.0.0.0 or ::. */
export const isUnspecified = (ip: Ip): boolean => (ip.family === 4 ? ip.value === 0 : ip.value === 0n)
