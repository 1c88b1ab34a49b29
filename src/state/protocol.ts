/**
 * How routes, neighbours and rules are marked as ours: the protocol field, which says who programmed an entry (rtnetlink.h, RTPROT_*).
 *
 * Routes through a next hop take one of eight numbers and one of 199 scopes, by destination. The kernel keeps one record for each distinct next hop and finds
 * it by a hash that takes in device, protocol and scope but not the gateway (net/ipv4/fib_semantics.c, fib_info_hashfn): with one number and one scope all peers
 * behind one device share one bucket, and programming n of them costs n². Every scope below that of a link means the same to the kernel's lookups: they ask for
 * at least the widest (fib_table_lookup), and next hops are looked up at the scope of a link (fib_check_nh).
 */

import type { CidrText } from '#ip/text.ts'

/** The first of them; none is in iproute2's rt_protos, nor one of FRR's (186 to 198). Neighbours and rules bear this one. */
export const HEDDLE_PROTOCOL = 200

const PROTOCOLS = 8
/** 0 is "global" and 200 "site"; the numbers between them are free (rtnetlink.h, rt_scope_t). */
const SCOPES = 199

export const isHeddleProtocol = (protocol: number | undefined): boolean =>
  protocol !== undefined && protocol >= HEDDLE_PROTOCOL && protocol < HEDDLE_PROTOCOL + PROTOCOLS

/** The number of a route to `dst`: always the same one. */
export const routeProtocol = (dst: CidrText): number => HEDDLE_PROTOCOL + (hashOf(dst) % PROTOCOLS)

/** The scope of an IPv4 route to `dst` through a next hop: always the same one. */
export const routeScope = (dst: CidrText): number => 1 + (Math.floor(hashOf(dst) / PROTOCOLS) % SCOPES)

/** FNV-1a, 32 bits, its halves folded together: short texts differ in the lower half only little. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 16)) >>> 0
}
