/**
 * Into a VRF and out of it. The kernel sets the link down and up for that, which takes its IPv6 addresses and all its routes away; the routes for its own subnets come
 * back by themselves, in the VRF's table.
 */

import { addrMessage, IFA_F, listAddrs, type SeenAddr } from '#netlink/addr.ts'
import { setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { RT_TABLE, RTPROT } from '#netlink/route-names.ts'
import { hasCode } from '#sys/errno.ts'
import { directFirst, routesBy } from '../link/own-routes.ts'
import type { Pod } from '../link/pod.ts'

/** What a link would lose. */
export interface Kept {
  readonly addrs: readonly SeenAddr[]
  readonly routes: readonly SeenRoute[]
}

export function keep({ netlink }: Pod, { index }: Link): Kept {
  const routes = routesBy(listRoutes(netlink), index).filter(
    ({ table, protocol, dst }) =>
      table !== RT_TABLE.LOCAL && protocol !== RTPROT.KERNEL && protocol !== RTPROT.RA && !dst.startsWith('ff'),
  )
  return { addrs: listAddrs(netlink, { index, family: 6 }), routes }
}

/** Like `ip link set DEV master VRF`, or `nomaster` for 0, with everything that it had: routes of table `from` are in `to` afterwards. */
export function setMaster(
  { netlink }: Pod,
  { index }: Link,
  master: number,
  { addrs, routes }: Kept,
  from: number,
  to: number,
): void {
  const moved = routes.map((route) => (route.table === from ? { ...route, table: to } : route))
  const messages: readonly Message[] = [
    setLinkMessage(index, { master }),
    ...addrs.map(({ flags, ...addr }) =>
      // It was found to be the only one of its kind already.
      addrMessage('add', { ...addr, nodad: (flags & IFA_F.TENTATIVE) === 0 }),
    ),
    ...directFirst(moved).map((route) => routeMessage('append', route)),
  ]
  // What came back by itself is as good.
  const failed = netlink.batch(messages).find((error) => error !== undefined && !hasCode(error, 'EEXIST'))
  if (failed !== undefined) throw failed
}
