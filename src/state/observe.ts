/** From what the kernel reports to entries: the reading half between rtnetlink and the state. */

import type { Of } from '#codec/codec.ts'
import type { IpText } from '#ip/text.ts'
import type { SeenAddr } from '#netlink/addr.ts'
import type { SeenFdb } from '#netlink/fdb.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { LinkKinds } from '#netlink/link-kinds.ts'
import type { SeenNeigh } from '#netlink/neigh.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import type { SeenRule } from '#netlink/rule.ts'
import type { Devices } from './devices.ts'
import type {
  AddressEntry,
  FdbEntry,
  LinkData,
  LinkEntry,
  NeighEntry,
  RouteEntry,
  RouteScope,
  RuleEntry,
} from './entry.ts'

/** Undefined for kinds of links that no entry describes. */
export function linkEntry(link: Link, devices: Devices): LinkEntry | undefined {
  const data = linkData(link, devices)
  if (data === undefined) return undefined
  const { name, up, mtu, mac } = link
  return { kind: 'link', name, up, mtu, ...(mac === undefined ? {} : { mac }), data }
}

function linkData({ info }: Link, devices: Devices): LinkData | undefined {
  if (info?.kind === 'bridge') return { type: 'bridge' }
  if (info?.kind === 'dummy') return { type: 'dummy' }
  if (info?.kind === 'wireguard') return { type: 'wireguard' }
  if (info?.kind === 'tun' && info.data?.type === TUN) return { type: 'tun' }
  if (info?.kind === 'ipip') return ipipData(info.data ?? {})
  if (info?.kind !== 'vxlan') return undefined
  const { id, local, link, port, learning, gbp } = info.data ?? {}
  // A device without these was made by somebody for something else; it counts as one of another identity.
  return {
    type: 'vxlan',
    vni: id ?? 0,
    ...(local === undefined ? {} : { local }),
    dev: devices.nameOf(link ?? 0) ?? '',
    port: port ?? 0,
    learning: learning === true,
    gbp: gbp === true,
  }
}

/** Not a TAP device (linux/if_link.h, IFLA_TUN_TYPE). */
const TUN = 1

/** The kernel shows a missing end as 0.0.0.0. */
function ipipData({ local, remote, pathMtuDiscovery }: Of<LinkKinds['ipip']>): LinkData {
  const end = (ip: IpText | undefined): IpText | undefined => (ip === '0.0.0.0' ? undefined : ip)
  return {
    type: 'ipip',
    ...optional('local', end(local)),
    ...optional('remote', end(remote)),
    pathMtuDiscovery: pathMtuDiscovery === true,
  }
}

const optional = <K extends string>(key: K, value: IpText | undefined): { readonly [key in K]?: IpText } => {
  const made: { [key in K]?: IpText } = {}
  if (value !== undefined) made[key] = value
  return made
}

export function addressEntry(addr: SeenAddr, devices: Devices): AddressEntry | undefined {
  const dev = devices.nameOf(addr.index)
  return dev === undefined ? undefined : { kind: 'address', dev, address: addr.address }
}

const TYPES: Readonly<Record<string, RouteEntry['type']>> = {
  unicast: 'unicast',
  blackhole: 'blackhole',
  local: 'local',
  unreachable: 'unreachable',
}
const SCOPES: Readonly<Record<string, RouteScope>> = { global: 'global', link: 'link', host: 'host' }

/** Undefined for types that no entry describes. A route of several ways has neither device nor next hop, so it is like no wanted one. */
export function routeEntry(route: SeenRoute, devices: Devices): RouteEntry | undefined {
  const type = TYPES[route.type]
  if (type === undefined) return undefined
  const scope = typeof route.scope === 'number' ? route.scope : SCOPES[route.scope]
  // IPv6 shows the loopback device for routes that lead nowhere.
  const dev = type === 'blackhole' || type === 'unreachable' ? undefined : devices.nameOf(route.oif ?? 0)
  return {
    kind: 'route',
    dst: route.dst,
    table: route.table,
    priority: route.priority,
    type,
    ...(dev === undefined ? {} : { dev }),
    ...(route.gateway === undefined ? {} : { via: route.gateway }),
    ...(route.prefSrc === undefined ? {} : { src: route.prefSrc }),
    ...(scope === undefined ? {} : { scope }),
    onlink: route.onlink === true,
    protocol: route.protocol,
  }
}

/** Only permanent ones: what the kernel learned by itself comes and goes. */
export function neighEntry(neigh: SeenNeigh, devices: Devices): NeighEntry | undefined {
  const key = neighKey(neigh, devices)
  if (key === undefined || neigh.mac === undefined || neigh.state !== 'permanent') return undefined
  return { kind: 'neigh', ...key, mac: neigh.mac }
}

/** Its identity alone: the kernel takes the MAC away from an entry before it tells that the entry is gone. */
export function neighKey(neigh: SeenNeigh, devices: Devices): { dev: string; ip: IpText } | undefined {
  const dev = devices.nameOf(neigh.index)
  return dev === undefined || neigh.proxy === true ? undefined : { dev, ip: neigh.ip }
}

/** Only tunnels' permanent entries: a bridge learns its own. */
export function fdbEntry(fdb: SeenFdb, devices: Devices): FdbEntry | undefined {
  const dev = devices.nameOf(fdb.index)
  if (dev === undefined || fdb.dst === undefined || fdb.of !== 'self' || fdb.state !== 'permanent') return undefined
  return { kind: 'fdb', dev, mac: fdb.mac, dst: fdb.dst }
}

/** Only lookups by source, destination and mark. */
export function ruleEntry(rule: SeenRule): RuleEntry | undefined {
  if (rule.action !== 'table' || rule.invert === true || rule.iif !== undefined || rule.oif !== undefined)
    return undefined
  return {
    kind: 'rule',
    family: rule.family,
    priority: rule.priority,
    table: rule.table ?? RT_TABLE.MAIN,
    ...(rule.from === undefined ? {} : { from: rule.from }),
    ...(rule.to === undefined ? {} : { to: rule.to }),
    ...(rule.mark === undefined ? {} : { mark: rule.mark }),
    ...(rule.mask === undefined || rule.mark === undefined ? {} : { mask: rule.mask }),
  }
}
