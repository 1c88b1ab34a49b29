/** This node as its plans see it: plain data, made anew when anything in it changes. */

import type { Family } from '#ip/address.ts'
import { formatCidr, hostCidr, nthOf, parseCidr } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import type { WgKeyText } from '#netlink/wireguard-key.ts'
import type { Secret } from '#sys/secret.ts'
import type { BackendConf } from './backend-conf.ts'
import type { UnderlayRoute } from './on-link.ts'

/** The interface that carries one family's traffic between nodes. */
export interface Underlay {
  readonly dev: string
  readonly mtu: number
  /** Routes out of `dev` that are not Heddle's own: they decide who is on-link. */
  readonly routes: readonly UnderlayRoute[]
}

export interface LocalFamily {
  readonly underlay: Underlay
  /** The cluster's pod network. */
  readonly network: CidrText
  /** This node's part of it. */
  readonly subnet: CidrText
  /** The underlay interface's own address; what tunnels start from. */
  readonly address: IpText
  /** What peers are told; differs from `address` behind address translation. */
  readonly publicIp: IpText
  /** The tunnel device's MAC, for backends that have one. */
  readonly mac?: MacText
}

/** What a backend has of its own, from before the first plan: keys that outlive devices. */
export interface WireguardIdentity {
  readonly kind: 'wireguard'
  readonly publicKey: WgKeyText
  readonly privateKey: Secret
}

export interface ExtensionIdentity {
  readonly kind: 'extension'
  /** What PreStartupCommand printed. */
  readonly text: string
}

export type Identity = WireguardIdentity | ExtensionIdentity

export interface Local {
  readonly node: string
  readonly backend: BackendConf
  /** For backends that have one. */
  readonly identity?: Identity
  readonly ipMasq: boolean
  /** Choose source ports of masqueraded connections at random (`--random-fully`). */
  readonly randomFully: boolean
  /** Let pods' packets through the host's own FORWARD rules. */
  readonly forwardRules: boolean
  /** Packets to pods that are not there end at a route of their own: for nodes without a bridge. */
  readonly blackhole: boolean
  /** False on kernels that were started without IPv6: there is nothing to set below net/ipv6 then. */
  readonly kernelHasIpv6: boolean
  readonly 4?: LocalFamily
  readonly 6?: LocalFamily
}

/** The families that this node has, IPv4 first. */
export const localFamilies = (local: Local): Family[] =>
  ([4, 6] as const).filter((family) => local[family] !== undefined)

/** The smallest MTU of the interfaces between nodes. */
export const underlayMtu = (local: Local): number =>
  Math.min(...localFamilies(local).map((family) => local[family]?.underlay.mtu ?? Infinity))

/** The subnet's first address, which flannel gives to the tunnel device and uses as the peer's next hop. */
export const firstOf = (subnet: CidrText): IpText => formatIp(parseCidr(subnet).ip)

/** The same as an address of one: `10.244.1.0/32`. */
export function firstAlone(subnet: CidrText): IpNetText {
  const { ip } = hostCidr(parseCidr(subnet).ip)
  return `${formatIp(ip)}/${ip.family === 4 ? 32 : 128}` as IpNetText
}

/** The subnet's gateway: the address after the first, as `10.244.1.1`. A subnet of one address is its own gateway. */
export function gatewayOf(subnet: CidrText): IpText {
  const cidr = parseCidr(subnet)
  return formatIp(formatCidr(cidr) === formatCidr(hostCidr(cidr.ip)) ? cidr.ip : nthOf(cidr, 1))
}
