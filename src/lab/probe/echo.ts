/** ICMP echo (RFC 792, RFC 4443) as a raw socket sends and receives it: pure encoding and decoding. */

import type { Family } from '#ip/text.ts'

export interface EchoRequest {
  readonly family: Family
  readonly id: number
  readonly seq: number
  /** Length of the whole IP packet that this becomes, headers included. */
  readonly packetLength: number
}

/** What came back for the echo request with this id and sequence number. */
export interface EchoAnswer {
  readonly id: number
  readonly seq: number
  readonly answer:
    | { readonly kind: 'reply' }
    /** "Fragmentation needed" or "packet too big", with the MTU that it names. */
    | { readonly kind: 'too-big'; readonly mtu: number }
    | { readonly kind: 'unreachable'; readonly type: number; readonly code: number }
}

const HEADER = { 4: 20, 6: 40 } as const
const ICMP_HEADER = 8
const REQUEST = { 4: 8, 6: 128 } as const
const REPLY = { 4: 0, 6: 129 } as const

/** The shortest packet: headers alone. */
export const minimalPacket = (family: Family): number => HEADER[family] + ICMP_HEADER

/** The ICMP message; the kernel puts the IP header before it, and for IPv6 fills in the checksum. */
export function encodeEcho({ family, id, seq, packetLength }: EchoRequest): Uint8Array {
  const bytes = new Uint8Array(packetLength - HEADER[family])
  const view = new DataView(bytes.buffer)
  bytes[0] = REQUEST[family]
  view.setUint16(4, id)
  view.setUint16(6, seq)
  for (let i = ICMP_HEADER; i < bytes.length; i++) bytes[i] = i & 0xff
  if (family === 4) view.setUint16(2, checksum(bytes))
  return bytes
}

/** The Internet checksum (RFC 1071). */
export function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** Reads what a raw socket received: with the IP header for IPv4, without for IPv6. Undefined for anything that answers no echo request. */
export function decodeAnswer(family: Family, datagram: Uint8Array): EchoAnswer | undefined {
  const icmp = family === 4 ? afterIpv4(datagram) : datagram
  if (icmp === undefined || icmp.length < ICMP_HEADER) return undefined
  const view = new DataView(icmp.buffer, icmp.byteOffset, icmp.byteLength)
  const type = view.getUint8(0)
  const code = view.getUint8(1)
  if (type === REPLY[family]) {
    return { id: view.getUint16(4), seq: view.getUint16(6), answer: { kind: 'reply' } }
  }
  const quoted = quotedEcho(family, icmp.subarray(ICMP_HEADER))
  if (quoted === undefined) return undefined
  if (family === 4) {
    if (type === 3 && code === 4) return { ...quoted, answer: { kind: 'too-big', mtu: view.getUint16(6) } }
    return type === 3 || type === 11 ? { ...quoted, answer: { kind: 'unreachable', type, code } } : undefined
  }
  if (type === 2) return { ...quoted, answer: { kind: 'too-big', mtu: view.getUint32(4) } }
  return type === 1 || type === 3 ? { ...quoted, answer: { kind: 'unreachable', type, code } } : undefined
}

function afterIpv4(packet: Uint8Array): Uint8Array | undefined {
  const first = packet[0]
  if (first === undefined || first >> 4 !== 4) return undefined
  const length = (first & 15) * 4
  return length >= HEADER[4] ? packet.subarray(length) : undefined
}

/** The id and sequence number of the echo request that an error message quotes. */
function quotedEcho(family: Family, quoted: Uint8Array): { id: number; seq: number } | undefined {
  const icmp = family === 4 ? afterIpv4(quoted) : quoted.subarray(HEADER[6])
  if (icmp === undefined || icmp.length < ICMP_HEADER || icmp[0] !== REQUEST[family]) return undefined
  const view = new DataView(icmp.buffer, icmp.byteOffset, icmp.byteLength)
  return { id: view.getUint16(4), seq: view.getUint16(6) }
}
