/** The devices that carry pods' packets between nodes. */

import type { Link } from '#netlink/link-codec.ts'
import type { Facts } from './facts.ts'

const KINDS = new Set(['vxlan', 'ipip', 'sit', 'ip6tnl', 'wireguard', 'tun'])

/** flannel's, Calico's and our own devices have names of these shapes. */
const NAMES = /^(flannel|vxlan\.calico|tunl0$|wireguard\.cali)/

export const tunnels = ({ links }: Facts): readonly Link[] =>
  links.filter(({ name, up, info }) => up && info !== undefined && KINDS.has(info.kind) && NAMES.test(name))

/** Bytes that a tunnel of this kind puts in front of a packet, as each backend subtracts them; undefined where it depends. */
export function overheadOf({ info }: Link, overV6: boolean): number | undefined {
  switch (info?.kind) {
    case 'vxlan':
      return overV6 ? 70 : 50
    case 'ipip':
      return 20
    case 'tun':
      return 28
    case 'wireguard':
      return overV6 ? 80 : 60
    default:
      return undefined
  }
}
