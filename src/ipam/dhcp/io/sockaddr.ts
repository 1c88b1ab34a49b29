/** struct sockaddr_ll, sockaddr_in and sockaddr_in6 (linux/if_packet.h, netinet/in.h). */

import { LITTLE } from '#codec/buffer.ts'
import { ipToBytes, parseIp } from '#ip/address.ts'
import { macToBytes } from '#ip/mac.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'

export const ETH_P_IP = 0x0800

export function sockaddrLl(index: number, mac?: MacText, protocol = ETH_P_IP): Uint8Array {
  const bytes = new Uint8Array(20)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF.PACKET, LITTLE)
  view.setUint16(2, protocol)
  view.setInt32(4, index, LITTLE)
  if (mac !== undefined) {
    bytes[11] = 6
    bytes.set(macToBytes(mac), 12)
  }
  return bytes
}

export function sockaddrIn(address: IpText, port: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF.INET, LITTLE)
  view.setUint16(2, port)
  bytes.set(ipToBytes(parseIp(address)), 4)
  return bytes
}

/** `scope`: index of the link that a link-local or multicast address is on. */
export function sockaddrIn6(address: IpText, port: number, scope: number): Uint8Array {
  const bytes = new Uint8Array(28)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF.INET6, LITTLE)
  view.setUint16(2, port)
  bytes.set(ipToBytes(parseIp(address)), 8)
  view.setUint32(24, scope, LITTLE)
  return bytes
}
