/** Addresses in binary, canonical text in models. */

import { formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import type { Family, IpText, MacText } from '#ip/text.ts'
import { CodecError } from './buffer.ts'
import type { Codec } from './codec.ts'

/** An address that fills what is left: 4 or 16 bytes in network order. */
export const ipAddress: Codec<IpText> = {
  name: 'ip',
  write(w, value) {
    const ip = parseIp(value)
    const at = w.reserve(ip.family === 4 ? 4 : 16)
    writeIp(ip, w.view, at)
  },
  read(r) {
    const size = r.left
    if (size !== 4 && size !== 16) throw new CodecError('bad-length', `an address of ${size} bytes`)
    const at = r.take(size)
    if (size === 4) return formatIp({ family: 4, value: r.view.getUint32(at) })
    return formatIp(ipFromBytes(r.bytes.subarray(at, at + 16)))
  },
}

/** An address of one family only. */
export const ipOf = (family: Family): Codec<IpText> => ({
  name: `ip${family}`,
  write(w, value) {
    const ip = parseIp(value)
    if (ip.family !== family) throw new CodecError('bad-value', `${value} is no IPv${family} address`)
    const at = w.reserve(family === 4 ? 4 : 16)
    writeIp(ip, w.view, at)
  },
  read(r) {
    const size = family === 4 ? 4 : 16
    const at = r.take(size)
    return formatIp(ipFromBytes(r.bytes.subarray(at, at + size)))
  },
})

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
const hex = (byte: number | undefined): string => HEX[byte ?? 0] ?? '00'

/** A MAC address of 6 bytes. */
export const mac: Codec<MacText> = {
  name: 'mac',
  write(w, value) {
    const text = parseMac(value)
    const at = w.reserve(6)
    for (let i = 0; i < 6; i++) w.bytes[at + i] = (nibble(text, 3 * i) << 4) | nibble(text, 3 * i + 1)
  },
  read(r) {
    const at = r.take(6)
    const b = r.bytes
    return parseMac(
      `${hex(b[at])}:${hex(b[at + 1])}:${hex(b[at + 2])}:${hex(b[at + 3])}:${hex(b[at + 4])}:${hex(b[at + 5])}`,
    )
  },
}

/** The value of one hexadecimal digit, known to be one. */
function nibble(text: string, index: number): number {
  const c = text.charCodeAt(index)
  return c <= 0x39 ? c - 0x30 : c - 0x57
}
