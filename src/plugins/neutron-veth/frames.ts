/** Packets that tell a network where an address is now: gratuitous ARP (RFC 5227 §3) and unsolicited neighbour advertisement (RFC 4861 §7.2.6). */

import { ipToBytes, parseIp } from '#ip/address.ts'
import { macToBytes } from '#ip/mac.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText, MacText } from '#ip/text.ts'

export const ETH_P_ARP = 0x0806
export const ETH_P_IPV6 = 0x86dd

export interface Frame {
  /** EtherType. */
  readonly protocol: number
  readonly to: MacText
  /** What follows the Ethernet header. */
  readonly bytes: Uint8Array
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff' as MacText
/** RFC 2464 §7, of ff02::1. */
const ALL_NODES_MAC = '33:33:00:00:00:01' as MacText

/** `ip` is at `mac` from now on. */
export const announcement = (ip: IpText, mac: MacText): Frame =>
  familyOf(ip) === 4
    ? { protocol: ETH_P_ARP, to: BROADCAST, bytes: gratuitousArp(ip, mac) }
    : { protocol: ETH_P_IPV6, to: ALL_NODES_MAC, bytes: advertisement(ip, mac) }

/** A request for the address by itself: everybody updates what they know, nobody answers. */
function gratuitousArp(ip: IpText, mac: MacText): Uint8Array {
  const bytes = new Uint8Array(28)
  const address = ipToBytes(parseIp(ip))
  // Ethernet, IPv4, lengths 6 and 4, request.
  bytes.set([0, 1, 8, 0, 6, 4, 0, 1])
  bytes.set(macToBytes(mac), 8)
  bytes.set(address, 14)
  bytes.set(address, 24)
  return bytes
}

const HEADER = 40
const ICMPV6 = 58
const MESSAGE = 32
/** RFC 4861 §4.4: not a solicited answer, and what is known is to be replaced. */
const OVERRIDE = 0x20
const ALL_NODES = ipToBytes(parseIp('ff02::1'))

function advertisement(ip: IpText, mac: MacText): Uint8Array {
  const bytes = new Uint8Array(HEADER + MESSAGE)
  const view = new DataView(bytes.buffer)
  const address = ipToBytes(parseIp(ip))
  bytes[0] = 0x60
  view.setUint16(4, MESSAGE)
  bytes[6] = ICMPV6
  // Who forwards lowers it: only what comes from the link itself is believed.
  bytes[7] = 255
  bytes.set(address, 8)
  bytes.set(ALL_NODES, 24)
  bytes[HEADER] = 136
  bytes[HEADER + 4] = OVERRIDE
  bytes.set(address, HEADER + 8)
  // Target link-layer address, in units of eight bytes.
  bytes.set([2, 1], HEADER + 24)
  bytes.set(macToBytes(mac), HEADER + 26)
  view.setUint16(HEADER + 2, checksum(view))
  return bytes
}

/** Over addresses, length and protocol (RFC 8200 §8.1), then the message. */
function checksum(packet: DataView): number {
  let sum = MESSAGE + ICMPV6
  for (let at = 8; at < HEADER + MESSAGE; at += 2) sum += packet.getUint16(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
