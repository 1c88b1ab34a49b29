/**
 * Keys of leases: `<prefix>/subnets/10.5.52.0-24`, and with IPv6 `<prefix>/subnets/10.5.52.0-24&fc00:0:0:1::-64`. Source: flannel's pkg/subnet (ParseSubnetKey,
 * MakeSubnetKey), which looks at the end of the key only. There are none of IPv6 alone.
 */

import { formatCidr, overlaps, parseCidr, tryParseCidr } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { CidrText } from '#ip/text.ts'

/** What one lease holds. */
export interface Subnets {
  readonly 4: CidrText
  readonly 6?: CidrText
}

const KEY = /(\d{1,3}(?:\.\d{1,3}){3})-(\d{1,2})(?:&([0-9a-f:.]{2,45})-(\d{1,3}))?$/i

/** The last part of a lease's key. */
export function leaseName(subnets: Subnets): string {
  const part = (cidr: CidrText): string => {
    const { ip, length } = parseCidr(cidr)
    return `${formatIp(ip)}-${length}`
  }
  return subnets[6] === undefined ? part(subnets[4]) : `${part(subnets[4])}&${part(subnets[6])}`
}

/** What a key below `subnets/` stands for; undefined for a key that is no lease's. Never throws. */
export function parseLeaseKey(key: string): Subnets | undefined {
  const [, v4, length4, v6, length6] = KEY.exec(key) ?? []
  const first = tryParseCidr(`${v4}/${length4}`)
  if (first === undefined || first.length === 0) return undefined
  if (v6 === undefined) return { 4: formatCidr(first) }
  const second = tryParseCidr(`${v6}/${length6}`)
  return second?.ip.family === 6 && second.length > 0 ? { 4: formatCidr(first), 6: formatCidr(second) } : undefined
}

export const sameSubnets = (a: Subnets | undefined, b: Subnets | undefined): boolean =>
  a?.[4] === b?.[4] && a?.[6] === b?.[6]

/** Whether two leases hold an address in common. */
export const overlap = (a: Subnets, b: Subnets): boolean =>
  overlaps(parseCidr(a[4]), parseCidr(b[4])) ||
  (a[6] !== undefined && b[6] !== undefined && overlaps(parseCidr(a[6]), parseCidr(b[6])))
