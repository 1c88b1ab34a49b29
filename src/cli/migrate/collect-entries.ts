/** flannel's devices, and the routes, neighbours and forwarding entries that flanneld has put there. */

import { containsCidr, parseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { listFdb } from '#netlink/fdb.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { listRoutes } from '#netlink/route.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { RTPROT, RT_TABLE, scopes } from '#netlink/route-names.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import type { FlannelEntry } from './entry.ts'

/** flannel.1, flannel-v6.1, flannel.ipip, flannel0, flannel-wg, flannel-wg-v6, flannel-vxlan. Source: flannel's pkg/backend. */
const NAMES = /^flannel(?:[.-]|\d+$)/

export const flannelDevices = (links: readonly Link[]): readonly Link[] => links.filter(({ name }) => NAMES.test(name))

/**
 * Routes to parts of the pod networks that came from a program that does not say who it is, as flanneld does (RTPROT_BOOT): through its devices, or through a
 * next hop (host-gw, DirectRouting). Permanent neighbours and forwarding entries of its devices.
 */
export function readEntries(
  socket: NetlinkSocket,
  links: readonly Link[],
  networks: readonly CidrText[],
): readonly FlannelEntry[] {
  const names = new Map(links.map(({ index, name }) => [index, name]))
  const own = flannelDevices(links)
  const indices = new Set(own.map(({ index }) => index))
  const outer = networks.map(parseCidr)
  const isFlannels = ({ dst, gateway, oif, protocol, type, nexthops, metrics }: SeenRoute): boolean =>
    protocol === RTPROT.BOOT &&
    type === 'unicast' &&
    nexthops === undefined &&
    metrics === undefined &&
    outer.some((network) => containsCidr(network, parseCidr(dst))) &&
    ((oif !== undefined && indices.has(oif)) || gateway !== undefined)
  const routes = listRoutes(socket, { table: RT_TABLE.MAIN })
    .filter(isFlannels)
    .flatMap((route) => routeEntry(route, names))
  return [...routes, ...own.flatMap((link) => [...neighbours(socket, link), ...forwarding(socket, link)])]
}

function routeEntry(route: SeenRoute, names: ReadonlyMap<number, string>): readonly FlannelEntry[] {
  const dev = names.get(route.oif ?? 0)
  if (dev === undefined) return []
  return [
    {
      kind: 'route',
      dev,
      dst: route.dst,
      ...(route.gateway === undefined ? {} : { via: route.gateway }),
      ...(route.prefSrc === undefined ? {} : { src: route.prefSrc }),
      onlink: route.onlink === true,
      table: route.table,
      protocol: route.protocol,
      scope: scopes.valueOf(route.scope),
      priority: route.priority,
    },
  ]
}

const neighbours = (socket: NetlinkSocket, { index, name }: Link): readonly FlannelEntry[] =>
  listNeighs(socket, { index }).flatMap(({ ip, mac, state, protocol, proxy }) =>
    mac === undefined || state !== 'permanent' || proxy === true || (protocol ?? 0) > RTPROT.STATIC
      ? []
      : [{ kind: 'neigh' as const, dev: name, ip, mac }],
  )

const forwarding = (socket: NetlinkSocket, { index, name, info }: Link): readonly FlannelEntry[] =>
  info?.kind !== 'vxlan'
    ? []
    : listFdb(socket, { index }).flatMap(({ mac, dst, of, state, port, vni, via }) =>
        dst === undefined || of !== 'self' || state !== 'permanent' || (port ?? vni ?? via) !== undefined
          ? []
          : [{ kind: 'fdb' as const, dev: name, mac, dst }],
      )
