/** Kernel objects as `ip` and `bridge` print them, so that what the lab shows can be compared with what a person types. */

import { familyOf } from '#ip/prefix.ts'
import type { SeenFdb } from '#netlink/fdb.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { SeenNeigh } from '#netlink/neigh.ts'
import { RTPROT } from '#netlink/route-names.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'

/** The name of a link by its index. */
export type NameOf = (index: number) => string

const PROTOCOLS = new Map<number, string>([
  [RTPROT.KERNEL, 'kernel'],
  [RTPROT.STATIC, 'static'],
  [RTPROT.RA, 'ra'],
  [RTPROT.BIRD, 'bird'],
  [RTPROT.DHCP, 'dhcp'],
  [RTPROT.BGP, 'bgp'],
])

const protocolName = (protocol: number): string => PROTOCOLS.get(protocol) ?? String(protocol)

const words = (...parts: readonly (string | false | undefined)[]): string =>
  parts.filter((part) => part !== undefined && part !== false && part !== '').join(' ')

/** As `ip route show` prints it. */
export function routeLine(route: SeenRoute, nameOf: NameOf): string {
  const family = familyOf(route.dst)
  const [address, length] = route.dst.split('/')
  const host = length === (family === 4 ? '32' : '128')
  const destination = length === '0' ? 'default' : host ? address : route.dst
  return words(
    route.type !== 'unicast' && String(route.type),
    destination,
    route.gateway !== undefined && `via ${route.gateway}`,
    route.oif !== undefined && `dev ${nameOf(route.oif)}`,
    route.protocol !== RTPROT.BOOT && `proto ${protocolName(route.protocol)}`,
    family === 4 && route.scope !== 'global' && `scope ${route.scope}`,
    route.prefSrc !== undefined && `src ${route.prefSrc}`,
    route.priority !== 0 && `metric ${route.priority}`,
    route.onlink === true && 'onlink',
    family === 6 && 'pref medium',
  )
}

/** As `ip neighbour show` prints it. */
export const neighLine = (neigh: SeenNeigh, nameOf: NameOf): string =>
  words(
    neigh.ip,
    `dev ${nameOf(neigh.index)}`,
    neigh.mac !== undefined && `lladdr ${neigh.mac}`,
    neigh.router === true && 'router',
    neigh.proxy === true && 'proxy',
    String(neigh.state).toUpperCase(),
    neigh.protocol !== undefined && `proto ${protocolName(neigh.protocol)}`,
  )

/** As `bridge fdb show` prints it. */
export const fdbLine = (fdb: SeenFdb, nameOf: NameOf): string =>
  words(
    fdb.mac,
    `dev ${nameOf(fdb.index)}`,
    fdb.dst !== undefined && `dst ${fdb.dst}`,
    fdb.of === 'self' && 'self',
    fdb.master !== undefined && `master ${nameOf(fdb.master)}`,
    fdb.state === 'permanent' && 'permanent',
  )

/** The same of a TUN device. */
export const tunLine = (link: Link): string | undefined =>
  link.info?.kind === 'tun' ? words(link.name, `mtu ${link.mtu}`, 'tun type tun') : undefined

/** The same of an IP-in-IP device. */
export function ipipLine(link: Link): string | undefined {
  if (link.info?.kind !== 'ipip') return undefined
  const { local, remote } = link.info.data ?? {}
  const end = (ip: string | undefined): string => (ip === undefined || ip === '0.0.0.0' ? 'any' : ip)
  return words(link.name, `mtu ${link.mtu}`, `ipip remote ${end(remote)} local ${end(local)}`)
}

/** The kind-specific part of what `ip -d link show` prints for a VXLAN device; undefined for other links. */
export function vxlanLine(link: Link, nameOf: NameOf): string | undefined {
  if (link.info?.kind !== 'vxlan') return undefined
  const data = link.info.data ?? {}
  return words(
    link.name,
    `address ${link.mac ?? 'unknown'}`,
    `mtu ${link.mtu}`,
    `vxlan id ${data.id ?? 0}`,
    data.local !== undefined && `local ${data.local}`,
    data.link !== undefined && `dev ${nameOf(data.link)}`,
    data.port !== undefined && `dstport ${data.port}`,
    data.learning === false && 'nolearning',
  )
}
