/** Ethernet addresses as canonical text (lower case, colons); bytes only in codecs. */

import { IpError } from './address.ts'
import type { Brand } from './brand.ts'

/** Canonical text of a 48-bit MAC: `0a:1b:2c:3d:4e:5f`. */
export type MacText = Brand<'MacText'>

/** Parses colon- or dash-separated text of six bytes; undefined for anything else. */
export function tryParseMac(text: string): MacText | undefined {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) return undefined
  return text.toLowerCase().replaceAll('-', ':') as MacText
}

export function parseMac(text: string): MacText {
  const mac = tryParseMac(text)
  if (mac === undefined) {
    throw new IpError(
      'bad-mac',
      text,
      `${JSON.stringify(text.slice(0, 64))} is not a MAC address such as 0a:1b:2c:3d:4e:5f`,
    )
  }
  return mac
}

export function macToBytes(mac: MacText): Uint8Array {
  return Uint8Array.from({ length: 6 }, (_, i) => Number.parseInt(mac.slice(3 * i, 3 * i + 2), 16))
}

export function macFromBytes(bytes: Uint8Array): MacText {
  if (bytes.length !== 6)
    throw new IpError('bad-mac', `${bytes.length} bytes`, `a MAC address has 6 bytes, not ${bytes.length}`)
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':') as MacText
}

/** True for group addresses (bit 0 of the first byte, IEEE 802). */
export const isGroupMac = (mac: MacText): boolean => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1

export const ZERO_MAC = '00:00:00:00:00:00' as MacText

/** A locally administered unicast MAC from six random bytes. */
export function localMac(random: Uint8Array): MacText {
  const bytes = Uint8Array.from(random.subarray(0, 6))
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02
  return macFromBytes(bytes)
}
