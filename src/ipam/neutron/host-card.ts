/** The network card whose port gets the pods' addresses, as the kernel shows it. */

import { invalidConfig } from '#cni/errors.ts'
import type { IpText } from '#ip/text.ts'
import type { MacText } from '#ip/mac.ts'
import { parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import { listAddrs } from '#netlink/addr.ts'
import { findLink } from '#netlink/link.ts'
import { listRoutes } from '#netlink/route.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'

export interface HostCard {
  readonly interface: string
  readonly mac: MacText
  /** Of the card, link-local ones left out; the first is what routes prefer. */
  readonly addresses: readonly IpText[]
}

/** Where the routes of other programs' and of the kernel's own are equal, the lowest metric wins; a default route without one has metric 0. */
function defaultDevice(netlink: NetlinkSocket): number | undefined {
  for (const family of [4, 6] as const) {
    const routes = listRoutes(netlink, { family, table: RT_TABLE.MAIN })
      .filter(({ dst, type }) => (dst === '0.0.0.0/0' || dst === '::/0') && (type === undefined || type === 'unicast'))
      .flatMap((route) => {
        const index = route.oif ?? route.nexthops?.find(({ oif }) => oif !== undefined)?.oif
        return index === undefined ? [] : [{ index, metric: route.priority ?? 0 }]
      })
      .toSorted((a, b) => a.metric - b.metric)
    if (routes[0] !== undefined) return routes[0].index
  }
  return undefined
}

/** The card of this name; '': that of the default route with the lowest metric. Throws CniError 7 where there is none. */
export function hostCard(netlink: NetlinkSocket, name: string): HostCard {
  const ref = name === '' ? defaultDevice(netlink) : name
  if (ref === undefined)
    throw invalidConfig('this host has no default route, so its card is not known', 'name it with "hostInterface"')
  const link = findLink(netlink, ref)
  if (link === undefined)
    throw invalidConfig(`hostInterface ${JSON.stringify(ref)} is not there`, 'name an interface of this host')
  if (link.mac === undefined)
    throw invalidConfig(`hostInterface ${link.name} has no MAC address`, 'name the card that Neutron knows')
  const addresses = listAddrs(netlink, { index: link.index })
    .filter(({ scope }) => scope === 'global' || scope === undefined)
    .map(({ address }) => formatIp(parseIpNet(address).ip))
  return { interface: link.name, mac: link.mac, addresses }
}
