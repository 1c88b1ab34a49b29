/** `struct sockaddr_in` and `struct sockaddr_in6` (linux/in.h, linux/in6.h). */

import { formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import type { Family, IpText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'

export interface Endpoint {
  readonly ip: IpText
  readonly port: number
}

const LENGTH = { 4: 16, 6: 28 } as const
const IP_AT = { 4: 4, 6: 8 } as const

export const domainOf = (family: Family): number => (family === 4 ? AF.INET : AF.INET6)

/** Bytes for bind, connect and sendto. */
export function encodeSockaddr({ ip, port }: Endpoint): Uint8Array {
  const value = parseIp(ip)
  const bytes = new Uint8Array(LENGTH[value.family])
  // sa_family is in host order, the port in network order.
  new Uint16Array(bytes.buffer, 0, 1)[0] = domainOf(value.family)
  const view = new DataView(bytes.buffer)
  view.setUint16(2, port)
  writeIp(value, view, IP_AT[value.family])
  return bytes
}

/** Undefined for an address of another kind. */
export function decodeSockaddr(bytes: Uint8Array): Endpoint | undefined {
  if (bytes.length < 2) return undefined
  const [sa] = new Uint16Array(bytes.slice(0, 2).buffer)
  const family = sa === AF.INET ? 4 : sa === AF.INET6 ? 6 : undefined
  if (family === undefined || bytes.length < LENGTH[family]) return undefined
  const at = IP_AT[family]
  const ip = formatIp(ipFromBytes(bytes.slice(at, at + (family === 4 ? 4 : 16))))
  return { ip, port: new DataView(bytes.buffer, bytes.byteOffset).getUint16(2) }
}
