/** WireGuard's messages: the attribute tables of generic netlink's family `wireguard`. Source: linux/wireguard.h. */

import { ipAddress, writeIpText } from '#codec/address.ts'
import { attr, attributes, many, NLA_F_NESTED, nest, type AttributesValue } from '#codec/attributes.ts'
import { CodecError } from '#codec/buffer.ts'
import { be16, cstring, u16, u32, u64, u8, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { wgKey, wgSecret } from './wireguard-key.ts'

export const WG_CMD = { GET_DEVICE: 0, SET_DEVICE: 1 } as const

/** WGPEER_F_*. */
export const WGPEER_F = { REMOVE_ME: 1, REPLACE_ALLOWEDIPS: 2, UPDATE_ONLY: 4 } as const

/** Where a peer is: UDP over IPv4 or IPv6. */
export interface Endpoint {
  readonly ip: IpText
  readonly port: number
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28): the family in host order, the rest in network order. */
const endpoint: Codec<Endpoint> = {
  name: 'sockaddr',
  write(w, { ip, port }) {
    const family = familyOf(ip)
    u16.write(w, family === 4 ? AF.INET : AF.INET6)
    be16.write(w, port)
    if (family === 6) w.reserve(4)
    writeIpText(w, ip)
    w.reserve(family === 4 ? 8 : 4)
  },
  read(r) {
    const family = u16.read(r)
    const port = be16.read(r)
    if (family !== AF.INET && family !== AF.INET6)
      throw new CodecError('bad-value', `a socket address of family ${family}`)
    if (family === AF.INET6) r.take(4)
    const end = r.end
    r.end = Math.min(end, r.offset + (family === AF.INET ? 4 : 16))
    try {
      return { ip: ipAddress.read(r), port }
    } finally {
      r.end = end
      r.take(r.left)
    }
  },
}

/** WGALLOWEDIP_A_*. */
const allowedIp = attributes('allowed IP', { family: attr(1, u16), ip: attr(2, ipAddress), length: attr(3, u8) })

/** WGPEER_A_*. */
export const peerAttributes = attributes('peer', {
  publicKey: attr(1, wgKey),
  presharedKey: attr(2, wgSecret),
  flags: attr(3, u32),
  endpoint: attr(4, endpoint),
  /** Seconds; 0 is off. */
  keepalive: attr(5, u16),
  lastHandshake: attr(6, struct('__kernel_timespec', { seconds: u64, nanoseconds: u64 })),
  rxBytes: attr(7, u64),
  txBytes: attr(8, u64),
  allowedIps: nest(9, attributes('allowed IPs', { list: many(0, allowedIp, NLA_F_NESTED) })),
})

export type PeerWire = AttributesValue<typeof peerAttributes.table>

/** WGDEVICE_A_*. */
export const deviceAttributes = attributes('WireGuard device', {
  index: attr(1, u32),
  name: attr(2, cstring(16)),
  privateKey: attr(3, wgSecret),
  publicKey: attr(4, wgKey),
  flags: attr(5, u32),
  listenPort: attr(6, u16),
  fwmark: attr(7, u32),
  peers: nest(8, attributes('peers', { list: many(0, peerAttributes, NLA_F_NESTED) })),
})

export type DeviceWire = AttributesValue<typeof deviceAttributes.table>
