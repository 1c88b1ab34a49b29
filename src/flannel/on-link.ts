/** Is a peer on the same layer 2, so that a plain route to it will do? */

import type { Ip } from '#ip/address.ts'
import { contains, parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'

/** A route of the main table that leaves by the underlay interface, or that could be taken instead of one. */
export interface UnderlayRoute {
  readonly dst: CidrText
  /** Absent: the destination is on-link. */
  readonly via?: IpText
  readonly dev?: string
}

/**
 * True when the longest prefix that holds `ip` has no gateway and leaves by `dev`: what `ip route get` would say, computed from the
 * routes themselves so that a plan needs no kernel.
 */
export function isOnLink(routes: readonly UnderlayRoute[], ip: Ip, dev: string): boolean {
  let best: { readonly length: number; readonly route: UnderlayRoute } | undefined
  for (const route of routes) {
    const cidr = parseCidr(route.dst)
    if (contains(cidr, ip) && (best === undefined || cidr.length > best.length)) best = { length: cidr.length, route }
  }
  return best !== undefined && best.route.via === undefined && best.route.dev === dev
}
