/** Intervals: parts of keys that stand for a prefix or a range. In text, because they are read by people: `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, `8000-8080`. */

import { Writer } from '#codec/buffer.ts'
import { formatIp, type Ip, ip4, ip6, ipToBytes, parseIp } from '#ip/address.ts'
import { cidrOf, contains, formatCidr, lastOf, parseCidr } from '#ip/prefix.ts'
import { badValue, dataType, type DataTypeName, type Part, readKey, writeKey } from './datatype.ts'

/** The first and the last value of an interval. */
export interface Interval {
  readonly from: Part
  readonly to: Part
}

/** What a part of an interval set's key stands for; a single value is an interval of one. Throws `bad-value`, or `IpError`. */
export function parseInterval(type: DataTypeName, part: Part): Interval {
  if (typeof part !== 'string' || !dataType(type).ordered) return { from: part, to: part }
  if (part.includes('/') && (type === 'ipv4_addr' || type === 'ipv6_addr')) {
    const cidr = parseCidr(part)
    return { from: formatIp(cidr.ip), to: formatIp(lastOf(cidr)) }
  }
  const dash = part.indexOf('-')
  if (dash === -1) return { from: part, to: part }
  const [from, to] = [valueOf(type, part.slice(0, dash)), valueOf(type, part.slice(dash + 1))]
  if (compareParts(type, from, to) > 0) throw badValue(type, part, 'its end comes before its start')
  return { from, to }
}

/** Numbers within a range's text; addresses are text already. */
const valueOf = (type: DataTypeName, text: string): Part =>
  (type === 'inet_service' || type === 'inet_proto') && /^\d{1,5}$/.test(text) ? Number(text) : text

/** The shortest text of an interval: the value, its prefix, or both ends. */
export function formatInterval(type: DataTypeName, { from, to }: Interval): Part {
  if (from === to) return from
  if (typeof from === 'string' && typeof to === 'string' && (type === 'ipv4_addr' || type === 'ipv6_addr'))
    return prefixOf(parseIp(from), parseIp(to)) ?? `${from}-${to}`
  return `${from}-${to}`
}

function prefixOf(from: Ip, to: Ip): string | undefined {
  const bits = from.family === 4 ? 32 : 128
  const size = BigInt(to.value) - BigInt(from.value) + 1n
  const length = bits - (size.toString(2).length - 1)
  if (size !== 1n << BigInt(bits - length)) return undefined
  const cidr = cidrOf(from, length)
  return cidr.ip.value === from.value && contains(cidr, to) ? formatCidr(cidr) : undefined
}

/** The value after `part`, undefined after the last. Sets of one interval type store half-open intervals. */
export function following(type: DataTypeName, part: Part): Part | undefined {
  const bytes = bytesOf(type, part)
  for (let i = bytes.length - 1; i >= 0; i--) {
    const byte = bytes[i] ?? 0
    bytes[i] = (byte + 1) & 0xff
    if (byte !== 0xff) return readKey([type], bytes)[0]
  }
  return undefined
}

/** The value before `part`. The first one has none and is returned as it is. */
export function preceding(type: DataTypeName, part: Part): Part {
  const bytes = bytesOf(type, part)
  if (bytes.every((byte) => byte === 0)) return part
  for (let i = bytes.length - 1; i >= 0; i--) {
    const byte = bytes[i] ?? 0
    bytes[i] = (byte - 1) & 0xff
    if (byte !== 0) break
  }
  return readKey([type], bytes)[0] ?? part
}

/** The last value of a type: where an interval without an end ends. */
export function lastValue(type: DataTypeName): Part {
  if (type === 'ipv4_addr') return formatIp(ip4(0xffff_ffff))
  if (type === 'ipv6_addr') return formatIp(ip6((1n << 128n) - 1n))
  return readKey([type], new Uint8Array(dataType(type).length).fill(0xff))[0] ?? 0
}

export const compareParts = (type: DataTypeName, a: Part, b: Part): number =>
  Buffer.compare(bytesOf(type, a), bytesOf(type, b))

function bytesOf(type: DataTypeName, part: Part): Uint8Array {
  if (type === 'ipv4_addr' || type === 'ipv6_addr') return ipToBytes(parseIp(String(part)))
  const writer = new Writer(16)
  writeKey(writer, [type], [part])
  return writer.written()
}
