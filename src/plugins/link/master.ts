/** The link that a pod's link shares: `master` of macvlan, ipvlan and vlan. */

import { invalidConfig } from '#cni/errors.ts'
import { findLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listRoutes } from '#netlink/route.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'

/** The link of that name, or with '' the one of the default route. Throws CniError 7; `what` names the configuration, `where` the namespace. */
export function masterOf(netlink: NetlinkSocket, name: string, what: string, where: string): Link {
  if (name === '') return defaultRouteLink(netlink, what, where)
  const link = findLink(netlink, name)
  if (link !== undefined) return link
  throw invalidConfig(`${what}: "master" ${JSON.stringify(name)} is no link of ${where}`, 'see ip link')
}

/** IPv4's before IPv6's, then the one the kernel prefers. */
function defaultRouteLink(netlink: NetlinkSocket, what: string, where: string): Link {
  for (const [family, dst] of [
    [4, '0.0.0.0/0'],
    [6, '::/0'],
  ] as const) {
    const [first] = listRoutes(netlink, { family, table: RT_TABLE.MAIN })
      .filter((route) => route.dst === dst)
      .flatMap(({ oif, nexthops, priority }) => ({ oif: oif ?? nexthops?.[0]?.oif, priority: priority ?? 0 }))
      .filter(({ oif }) => oif !== undefined)
      .sort((a, b) => a.priority - b.priority)
    const link = first?.oif === undefined ? undefined : findLink(netlink, first.oif)
    if (link !== undefined) return link
  }
  throw invalidConfig(`${what} has no "master", and ${where} no default route to find one by`, 'name a link')
}

/** Throws CniError 7 for a packet size that the master cannot carry. */
export function checkMtu(mtu: number, master: Link, what: string): void {
  if (mtu <= master.mtu) return
  throw invalidConfig(
    `${what}: "mtu" is ${mtu}`,
    `${master.name} carries at most ${master.mtu}: choose 0 to ${master.mtu}`,
  )
}
