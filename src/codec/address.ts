/** Addresses in binary, canonical text in models. */

import { formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import { macToBytes, parseMac } from '#ip/mac.ts'
import type { Family, IpText, MacText } from '#ip/text.ts'
import { CodecError, type Writer } from './buffer.ts'
import type { Codec } from './codec.ts'

/** An address that fills what is left: 4 or 16 bytes in network order. */
export const ipAddress: Codec<IpText> = {
  name: 'ip',
  write: writeIpText,
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
    const at = w.reserve(6)
    for (let i = 0; i < 6; i++) {
      const high = nibble(value, 3 * i)
      const low = nibble(value, 3 * i + 1)
      // Not canonical text after all: the parser takes it, or says what is wrong.
      if (high < 0 || low < 0 || value.length !== 17) return writeForeignMac(w, at, value)
      w.bytes[at + i] = (high << 4) | low
    }
  },
  read(r) {
    const at = r.take(6)
    const b = r.bytes
    // Canonical by construction: `macFromBytes` in a form that dumps of ten thousand entries can afford.
    return `${hex(b[at])}:${hex(b[at + 1])}:${hex(b[at + 2])}:${hex(b[at + 3])}:${hex(b[at + 4])}:${hex(b[at + 5])}` as MacText
  },
}

/** The value of one lower-case hexadecimal digit, or -1. */
function nibble(text: string, index: number): number {
  const c = text.charCodeAt(index)
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  return c >= 0x61 && c <= 0x66 ? c - 0x57 : -1
}

function writeForeignMac(w: Writer, at: number, value: string): void {
  w.bytes.set(macToBytes(parseMac(value)), at)
}

/**
 * Writes 4 or 16 bytes in network order. A dotted quad goes from text to bytes without a value between, because routes and
 * neighbours are written by the thousand; whatever is not plainly one is the parser's to judge.
 */
export function writeIpText(w: Writer, text: string): void {
  let value = 0
  let octet = 0
  let digits = 0
  let dots = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x2e && digits > 0 && octet < 256) {
      value = value * 256 + octet
      octet = 0
      digits = 0
      dots++
    } else if (c >= 0x30 && c <= 0x39 && digits < 3 && (digits === 0 || octet > 0)) {
      octet = octet * 10 + c - 0x30
      digits++
    } else {
      return writeParsedIp(w, text)
    }
  }
  if (dots !== 3 || digits === 0 || octet > 255) return writeParsedIp(w, text)
  const at = w.reserve(4)
  w.view.setUint32(at, value * 256 + octet)
}

function writeParsedIp(w: Writer, text: string): void {
  const ip = parseIp(text)
  const at = w.reserve(ip.family === 4 ? 4 : 16)
  writeIp(ip, w.view, at)
}
