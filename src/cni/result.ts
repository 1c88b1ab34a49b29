/** What a CNI ADD made: the 1.1.0 shape, which all code inside works with. Older versions exist only at the edges (`version/`). Source: CNI SPEC.md §5. */

import type { CidrText, IpNetText, IpText } from '#ip/text.ts'

export interface Interface {
  readonly name: string
  /** A MacText, or another kind of hardware address (InfiniBand) exactly as a foreign plugin wrote it: read with `tryParseMac`. */
  readonly mac?: string
  readonly mtu?: number
  /** Path of the container's network namespace; absent for interfaces of the host. */
  readonly sandbox?: string
  readonly socketPath?: string
  readonly pciID?: string
}

export interface IpConfig {
  /** Address with its prefix length, host bits kept. */
  readonly address: IpNetText
  readonly gateway?: IpText
  /** Index into `interfaces`; absent in the result of an IPAM plugin. */
  readonly interface?: number
}

export interface RouteConfig {
  readonly dst: CidrText
  readonly gw?: IpText
  readonly mtu?: number
  readonly advmss?: number
  readonly priority?: number
  readonly table?: number
  /** 0 global, 253 link, 254 host (rtnetlink's numbers). */
  readonly scope?: number
}

export interface Dns {
  readonly nameservers?: readonly string[]
  readonly domain?: string
  readonly search?: readonly string[]
  readonly options?: readonly string[]
}

export interface Result {
  readonly interfaces: readonly Interface[]
  readonly ips: readonly IpConfig[]
  readonly routes: readonly RouteConfig[]
  readonly dns: Dns
}

export const emptyResult: Result = { interfaces: [], ips: [], routes: [], dns: {} }

type Loose<T> = { [K in keyof T]?: T[K] | undefined }

/** Without the keys that are absent or empty, so that an empty DNS is `{}`. */
export function dnsOf(dns: Loose<Dns>): Dns {
  return {
    ...(dns.nameservers !== undefined && dns.nameservers.length > 0 ? { nameservers: dns.nameservers } : {}),
    ...(dns.domain !== undefined && dns.domain !== '' ? { domain: dns.domain } : {}),
    ...(dns.search !== undefined && dns.search.length > 0 ? { search: dns.search } : {}),
    ...(dns.options !== undefined && dns.options.length > 0 ? { options: dns.options } : {}),
  }
}

/** True when the configuration names no DNS setting at all. */
export const isEmptyDns = (dns: Dns): boolean => Object.keys(dns).length === 0
