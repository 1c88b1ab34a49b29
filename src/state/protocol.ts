/**
 * How routes, neighbours and rules are marked as ours: the protocol field, which says who programmed an entry (rtnetlink.h, RTPROT_*).
 *
 * Routes take one of 48 numbers, by destination. The kernel keeps one record for each distinct next hop and finds it by a
 * hash that takes in device and protocol but not the gateway (net/ipv4/fib_semantics.c, fib_info_hashfn): with a single number
 * all peers behind one device share one bucket, and programming n of them costs n². 48 numbers make 5,000 routes five
 * times faster, and one more among them cost a fifth.
 */

import type { CidrText } from '#ip/text.ts'

/** The first of them; none is in iproute2's rt_protos, nor one of FRR's (186 to 198). Neighbours and rules bear this one. */
export const HEDDLE_PROTOCOL = 200

const COUNT = 48

export const isHeddleProtocol = (protocol: number | undefined): boolean =>
  protocol !== undefined && protocol >= HEDDLE_PROTOCOL && protocol < HEDDLE_PROTOCOL + COUNT

/** The number of a route to `dst`: always the same one. */
export function routeProtocol(dst: CidrText): number {
  // FNV-1a, 32 bits.
  let hash = 0x811c9dc5
  for (let i = 0; i < dst.length; i++) hash = Math.imul(hash ^ dst.charCodeAt(i), 0x01000193)
  return HEDDLE_PROTOCOL + (((hash ^ (hash >>> 16)) >>> 0) % COUNT)
}
