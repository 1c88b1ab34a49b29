/** UDP in IPv4, as a packet socket sends and receives it: before it has an address, a client cannot use the kernel's own UDP. Sources: RFC 791, 768, 1071. */

import { formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { DhcpWireError, malformed, truncated } from './error.ts'

export interface Packet4 {
  readonly source: IpText
  readonly destination: IpText
  readonly sourcePort: number
  readonly destinationPort: number
  readonly payload: Uint8Array
}

const UDP = 17
const IP_HEADER = 20
const UDP_HEADER = 8
/** Of a client's own packets; a relay or a server on another network may be the receiver. */
const TTL = 64

/** The ones' complement sum of 16-bit words, folded; an odd last byte is the high half of a word. */
function sum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let total = initial
  for (let i = start; i < end; i += 2) total += ((bytes[i] ?? 0) << 8) | (i + 1 < end ? (bytes[i + 1] ?? 0) : 0)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

/** Addresses, protocol and length, which UDP's checksum covers too; `packet` starts with its IP header. */
const pseudoHeader = (packet: Uint8Array, udpLength: number): number => sum(packet, 12, 20, UDP + udpLength)

export function encodePacket4(packet: Packet4): Uint8Array {
  const length = IP_HEADER + UDP_HEADER + packet.payload.length
  if (length > 0xffff) throw new DhcpWireError('too-long', `an IP packet of ${length} bytes`)
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, 0x45)
  view.setUint8(1, 0x10) // low delay, as DHCP clients mark their packets
  view.setUint16(2, length)
  view.setUint8(8, TTL)
  view.setUint8(9, UDP)
  writeIp(parseIp(packet.source), view, 12)
  writeIp(parseIp(packet.destination), view, 16)
  view.setUint16(10, ~sum(bytes, 0, IP_HEADER) & 0xffff)
  const udpLength = UDP_HEADER + packet.payload.length
  view.setUint16(20, packet.sourcePort)
  view.setUint16(22, packet.destinationPort)
  view.setUint16(24, udpLength)
  bytes.set(packet.payload, IP_HEADER + UDP_HEADER)
  const checksum = ~sum(bytes, IP_HEADER, length, pseudoHeader(bytes, udpLength)) & 0xffff
  // 0 would say that there is none.
  view.setUint16(26, checksum === 0 ? 0xffff : checksum)
  return bytes
}

/**
 * Reads a packet that starts with its IP header. Throws `DhcpWireError`.
 *
 * A sender on this machine leaves UDP's checksum to a network card, and the packet may never meet one: the field then holds the sum of the pseudo header
 * alone (linux/skbuff.h, CHECKSUM_PARTIAL), which is as unlikely to come about by damage as a right checksum is.
 */
export function decodePacket4(bytes: Uint8Array): Packet4 {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < IP_HEADER) throw truncated('an IP header')
  const header = (view.getUint8(0) & 0xf) * 4
  const length = view.getUint16(2)
  if (view.getUint8(0) >> 4 !== 4 || header < IP_HEADER) throw malformed('no IPv4 header')
  if (length > bytes.length || length < header + UDP_HEADER) throw truncated('an IPv4 packet')
  if (view.getUint8(9) !== UDP) throw new DhcpWireError('not-for-us', 'not UDP')
  if ((view.getUint16(6) & 0x3fff) !== 0) throw malformed('a fragment')
  if (sum(bytes, 0, header) !== 0xffff) throw new DhcpWireError('checksum', 'bad IP header checksum')
  const udpLength = view.getUint16(header + 4)
  if (udpLength < UDP_HEADER || header + udpLength > length) throw truncated('a UDP datagram')
  const given = view.getUint16(header + 6)
  const pseudo = sum(bytes, 0, 0, pseudoHeader(bytes, udpLength))
  if (given !== 0 && given !== pseudo && sum(bytes, header, header + udpLength, pseudo) !== 0xffff)
    throw new DhcpWireError('checksum', 'bad UDP checksum')
  return {
    source: formatIp(ipFromBytes(bytes.subarray(12, 16))),
    destination: formatIp(ipFromBytes(bytes.subarray(16, 20))),
    sourcePort: view.getUint16(header),
    destinationPort: view.getUint16(header + 2),
    // The length of the IP header may put this at an odd place; what follows only reads bytes.
    payload: bytes.subarray(header + UDP_HEADER, header + udpLength),
  }
}
