/** IPv4, TCP and UDP headers in place (RFC 791, 9293, 768). Offsets in bytes; functions read and write a DataView at a packet's first byte. */

import { checksumOf, sum } from './checksum.ts'

export const IP = {
  TOS: 1,
  LENGTH: 2,
  ID: 4,
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECK: 10,
  SOURCE: 12,
  DESTINATION: 16,
} as const
export const IP_HEADER = 20
export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17 } as const

/** In the field FRAGMENT: must not be fragmented; more fragments follow; offset of this one in units of 8 bytes. */
export const FRAGMENT = { DONT: 0x4000, MORE: 0x2000, OFFSET: 0x1fff } as const

export const TCP = { SEQUENCE: 4, ACK: 8, OFFSET: 12, FLAGS: 13, WINDOW: 14, CHECK: 16 } as const
export const TCP_HEADER = 20
export const TCP_FLAG = { FIN: 1, PSH: 8, ACK: 0x10, CWR: 0x80 } as const

export const UDP = { LENGTH: 4, CHECK: 6 } as const
export const UDP_HEADER = 8

/** Length of the IP header in bytes. */
export const headerLength = (view: DataView, ip: number): number => (view.getUint8(ip) & 0x0f) * 4

/**
 * The packet's whole length, which may be less than the `length` bytes it came in; 0 for what is no IPv4 packet, -1 for one whose
 * header contradicts itself.
 */
export function packetLength(view: DataView, ip: number, length: number): number {
  if (length < 1 || view.getUint8(ip) >>> 4 !== 4) return 0
  if (length < IP_HEADER) return -1
  const header = headerLength(view, ip)
  const total = view.getUint16(ip + IP.LENGTH)
  return header < IP_HEADER || total < header || total > length ? -1 : total
}

/** One hop less, with the header's checksum (RFC 1141). False when there is none left: the packet is as it was. */
export function decrementTtl(view: DataView, ip: number): boolean {
  const ttl = view.getUint8(ip + IP.TTL)
  if (ttl <= 1) return false
  view.setUint8(ip + IP.TTL, ttl - 1)
  const check = view.getUint16(ip + IP.CHECK) + 0x0100
  view.setUint16(ip + IP.CHECK, check >= 0xffff ? check + 1 : check)
  return true
}

/** Writes the header's checksum. */
export function setHeaderCheck(view: DataView, ip: number): void {
  view.setUint16(ip + IP.CHECK, 0)
  view.setUint16(ip + IP.CHECK, checksumOf(sum(view, ip, ip + headerLength(view, ip))))
}

/** What TCP and UDP add to their own sum: addresses, protocol and length. */
export const pseudoHeader = (view: DataView, ip: number, protocol: number, length: number): number =>
  view.getUint32(ip + IP.SOURCE) + view.getUint32(ip + IP.DESTINATION) + protocol + length
