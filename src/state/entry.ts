/**
 * What a node's kernel should hold, as data: one entry per thing that a person would type one command for.
 *
 * Links are named, never numbered: an index is only true for one life of a link, a plan must survive its re-creation.
 */

import { familyOf } from '#ip/prefix.ts'
import type { CidrText, Family, IpNetText, IpText, MacText } from '#ip/text.ts'
import type { Endpoint } from '#netlink/wireguard.ts'
import type { WgKeyText } from '#netlink/wireguard-key.ts'
import type { Table } from '#nft/table.ts'
import type { Secret } from '#sys/secret.ts'
import { routeProtocol, routeScope } from './protocol.ts'

/** Who put an entry here (`flannel/vxlan`) and which object made it (`node/worker-2`). */
export interface Origin {
  readonly owner: string
  readonly reason: string
}

/** A VXLAN device's identity. Like `ip link add … type vxlan id VNI local A dev D dstport P nolearning`. */
export interface VxlanData {
  readonly type: 'vxlan'
  readonly vni: number
  /** Source address of the outer packets. Always there in what is wanted. */
  readonly local?: IpText
  /** The underlay device. */
  readonly dev: string
  readonly port: number
  readonly learning: boolean
  readonly gbp: boolean
}

/** An IP-in-IP device (RFC 2003) without a remote end: routes name it. Like `ip link add … type ipip local A remote any [nopmtudisc]`. */
export interface IpipData {
  readonly type: 'ipip'
  readonly local?: IpText
  /** Set only on a device that somebody else made or changed. */
  readonly remote?: IpText
  /** Whether every outer packet must not be fragmented; if not, only those whose inner packet must not. */
  readonly pathMtuDiscovery: boolean
}

/** A WireGuard device; its keys and peers are entries of their own. */
export interface WireguardData {
  readonly type: 'wireguard'
}

export interface BridgeData {
  readonly type: 'bridge'
}

/** A device with no options of its own. */
export interface DummyData {
  readonly type: 'dummy'
}

/** A device whose packets a program reads and writes; it stays without one. Like `ip tuntap add mode tun`. */
export interface TunData {
  readonly type: 'tun'
}

export type LinkData = VxlanData | IpipData | WireguardData | BridgeData | DummyData | TunData

/** A device that Heddle makes and keeps up. Like `ip link add NAME mtu M address A type T …`. */
export interface LinkEntry {
  readonly kind: 'link'
  readonly name: string
  /** Always true where it is wanted; what is observed may be down. */
  readonly up: boolean
  readonly mtu: number
  /** Absent: the kernel's choice, left as it is. */
  readonly mac?: MacText
  readonly data: LinkData
}

/** Like `ip address add A dev D`. */
export interface AddressEntry {
  readonly kind: 'address'
  readonly dev: string
  readonly address: IpNetText
}

/** Like `ip route replace DST via GW dev D onlink`. Identity is destination, table and priority, as in the kernel. */
export interface RouteEntry {
  readonly kind: 'route'
  readonly dst: CidrText
  readonly table: number
  /** Metric; the kernel's default is 0 for IPv4 and 1024 for IPv6. */
  readonly priority: number
  readonly type: 'unicast' | 'blackhole' | 'local' | 'unreachable'
  readonly dev?: string
  readonly via?: IpText
  readonly onlink?: boolean
  /** Like `src A`: the address that the node itself uses. */
  readonly src?: IpText
  /** Absent: as `ip route` chooses, but spread where there is a next hop (`routeScope`; `normal` fills it in). */
  readonly scope?: RouteScope
  /** Who programmed it (rtnetlink.h RTPROT_*); absent means ours (`routeProtocol`). */
  readonly protocol?: number
}

/** A number: one of those between global and site, which mean as much as global. */
export type RouteScope = 'global' | 'link' | 'host' | number

/** Like `ip rule add priority P from S lookup T`. */
export interface RuleEntry {
  readonly kind: 'rule'
  readonly family: Family
  readonly priority: number
  readonly table: number
  readonly from?: CidrText
  readonly to?: CidrText
  readonly mark?: number
  readonly mask?: number
}

/** A permanent neighbour. Like `ip neighbour replace IP lladdr MAC dev D nud permanent`. */
export interface NeighEntry {
  readonly kind: 'neigh'
  readonly dev: string
  readonly ip: IpText
  readonly mac: MacText
}

/** A tunnel's forwarding entry. Like `bridge fdb replace MAC dev D dst A self permanent`. */
export interface FdbEntry {
  readonly kind: 'fdb'
  readonly dev: string
  readonly mac: MacText
  readonly dst: IpText
}

/** Like `sysctl -w KEY=VALUE`; the key with slashes, below /proc/sys. */
export interface SysctlEntry {
  readonly kind: 'sysctl'
  readonly key: string
  readonly value: string
  /** The device that it belongs to, if any: it is gone and written again with it. */
  readonly dev?: string
}

/** A table of nftables, whole: it is replaced in one transaction. Like `nft -f`. */
export interface NftEntry {
  readonly kind: 'nft'
  readonly table: Table
}

/** A WireGuard device's own side. Like `wg set D listen-port P private-key …`. */
export interface WireguardEntry {
  readonly kind: 'wireguard'
  readonly dev: string
  /** What the private key must be the private key of. */
  readonly publicKey: WgKeyText
  /** Always there in what is wanted; never in what was observed. */
  readonly privateKey?: Secret
  readonly listenPort: number
}

/** A WireGuard device's peer. Like `wg set D peer KEY endpoint A:P allowed-ips … persistent-keepalive S`. */
export interface WgPeerEntry {
  readonly kind: 'wgpeer'
  readonly dev: string
  readonly publicKey: WgKeyText
  /** Where it was said to be. Always there in what is wanted. */
  readonly endpoint?: Endpoint
  /** Sorted as text. */
  readonly allowedIps: readonly CidrText[]
  /** Seconds; 0 is off. */
  readonly keepalive: number
  readonly presharedKey?: Secret
}

/** A process of ours that carries a TUN device's packets in UDP (flannel's udp backend): its device and what it has to know. */
export interface RelayEntry {
  readonly kind: 'relay'
  readonly dev: string
  /** Where its socket is bound. */
  readonly address: IpText
  /** Its own port and that of every peer. */
  readonly port: number
  /** The cluster's pod network, and this node's part of it. */
  readonly network: CidrText
  readonly subnet: CidrText
  /** Take datagrams from addresses that are no peer's. */
  readonly anySource: boolean
}

/** A subnet that the relay of a device sends to a peer. */
export interface RelayPeerEntry {
  readonly kind: 'relaypeer'
  readonly relay: string
  readonly dst: CidrText
  readonly via: IpText
}

export type Entry =
  | LinkEntry
  | AddressEntry
  | RouteEntry
  | RuleEntry
  | NeighEntry
  | FdbEntry
  | WireguardEntry
  | WgPeerEntry
  | RelayEntry
  | RelayPeerEntry
  | SysctlEntry
  | NftEntry
export type EntryKind = Entry['kind']

/** An entry somebody wants, with who and why. */
export interface Desired<E extends Entry = Entry> {
  readonly entry: E
  readonly origin: Origin
}

/** An entry's identity: two entries with one key cannot be in one kernel. */
export type Key = string

export function keyOf(entry: Entry): Key {
  switch (entry.kind) {
    case 'link':
      return `link ${entry.name}`
    case 'address':
      return `address ${entry.dev} ${entry.address}`
    case 'route':
      return `route ${entry.table} ${entry.dst} ${entry.priority}`
    case 'rule':
      return `rule ${entry.family} ${entry.priority} ${entry.from ?? 'all'} ${entry.to ?? 'all'} ${entry.mark ?? 0}/${entry.mask ?? 0} ${entry.table}`
    case 'neigh':
      return `neigh ${entry.dev} ${entry.ip}`
    case 'fdb':
      return `fdb ${entry.dev} ${entry.mac}`
    case 'wireguard':
      return `wireguard ${entry.dev}`
    case 'wgpeer':
      return `wgpeer ${entry.dev} ${entry.publicKey}`
    case 'relay':
      return `relay ${entry.dev}`
    case 'relaypeer':
      return `relaypeer ${entry.relay} ${entry.dst}`
    case 'sysctl':
      return `sysctl ${entry.key}`
    case 'nft':
      return `nft ${entry.table.family} ${entry.table.name}`
    default:
      return entry satisfies never
  }
}

/** The device whose end is this entry's end. */
export function deviceOf(entry: Entry): string | undefined {
  switch (entry.kind) {
    case 'link':
      return entry.data.type === 'vxlan' ? entry.data.dev : undefined
    case 'address':
    case 'neigh':
    case 'fdb':
    case 'wireguard':
    case 'wgpeer':
    case 'relay':
    case 'route':
    case 'sysctl':
      return entry.dev
    default:
      return undefined
  }
}

/** The metric that the kernel gives a route without one. */
export const defaultPriority = (dst: CidrText): number => (familyOf(dst) === 4 ? 0 : 1024)

export const MAIN_TABLE = 254

/** Marks links as the agent's own (IFLA_IFALIAS). Links of CNI plugins bear other aliases. */
export const LINK_ALIAS = 'heddle agent'

/** The same entry with every default that the kernel would fill in, so that wanted and observed entries compare field by field. */
export const normal = (entry: Entry): Entry => (entry.kind === 'route' ? normalRoute(entry) : entry)

export function normalRoute(entry: RouteEntry): RouteEntry {
  if (entry.onlink !== undefined && entry.scope !== undefined && entry.protocol !== undefined) return entry
  const { kind, dst, table, priority, type } = entry
  return {
    kind,
    dst,
    table,
    priority,
    type,
    ...(entry.dev === undefined ? {} : { dev: entry.dev }),
    ...(entry.via === undefined ? {} : { via: entry.via }),
    ...(entry.src === undefined ? {} : { src: entry.src }),
    onlink: entry.onlink ?? false,
    scope: entry.scope ?? defaultScope(entry),
    protocol: entry.protocol ?? routeProtocol(dst),
  }
}

/** As iproute2 chooses (host for local routes, link for IPv4 routes without a next hop, else global), but spread where many share a device. IPv6 knows only global. */
function defaultScope({ dst, type, via }: RouteEntry): RouteScope {
  if (familyOf(dst) === 6) return 'global'
  if (type === 'local') return 'host'
  if (type !== 'unicast') return 'global'
  return via === undefined ? 'link' : routeScope(dst)
}
