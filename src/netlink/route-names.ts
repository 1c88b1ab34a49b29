/** Words that routes, rules and addresses share (include/uapi/linux/rtnetlink.h, fib_rules.h). */

import { names } from './names.ts'

/** RT_SCOPE_*. */
export const scopes = names({ global: 0, site: 200, link: 253, host: 254, nowhere: 255 })
export type Scope = ReturnType<typeof scopes.nameOf>

/** RTN_*. */
export const routeTypes = names({
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
  nat: 10,
  xresolve: 11,
})
export type RouteType = ReturnType<typeof routeTypes.nameOf>

/** RTPROT_*: who made a route. Numbers above 4 mean nothing to the kernel; /etc/iproute2/rt_protos names them. */
export const RTPROT = {
  UNSPEC: 0,
  REDIRECT: 1,
  KERNEL: 2,
  BOOT: 3,
  STATIC: 4,
  RA: 9,
  BIRD: 12,
  DHCP: 16,
  BGP: 186,
} as const

/** RT_TABLE_*. */
export const RT_TABLE = { UNSPEC: 0, DEFAULT: 253, MAIN: 254, LOCAL: 255 } as const
