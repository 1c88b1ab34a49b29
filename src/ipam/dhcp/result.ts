/** From leases to what a plugin answers, and to what the pod's link holds. */

import { dnsOf, type Dns, type Result } from '#cni/result.ts'
import { formatIpNet, hostCidr } from '#ip/prefix.ts'
import { parseIp } from '#ip/address.ts'
import type { IpNetText } from '#ip/text.ts'
import type { Configuration } from './io/pod-link.ts'
import type { Lease4 } from './lease/lease4.ts'
import type { Lease6 } from './lease/machine6.ts'

export interface Leases {
  readonly lease4?: Lease4 | undefined
  readonly lease6?: Lease6 | undefined
}

export const address4 = (lease: Lease4): IpNetText => formatIpNet({ ip: parseIp(lease.address), length: lease.length })

/** DHCPv6 says nothing of prefixes: which neighbours there are, the routers tell (RFC 8415 §18.2.10.1, RFC 5942 §4). */
export const addresses6 = (lease: Lease6): readonly IpNetText[] =>
  lease.addresses.map((address) => formatIpNet(hostCidr(parseIp(address))))

const joined = (a: readonly string[] | undefined, b: readonly string[] | undefined): readonly string[] => [
  ...new Set([...(a ?? []), ...(b ?? [])]),
]

const mergeDns = (a: Dns, b: Dns): Dns =>
  dnsOf({ nameservers: joined(a.nameservers, b.nameservers), domain: a.domain, search: joined(a.search, b.search) })

/** `priority` 0: the kernel's default metric. */
export function resultOf({ lease4, lease6 }: Leases, priority: number): Result {
  const metric = priority === 0 ? {} : { priority }
  return {
    interfaces: [],
    ips: [
      ...(lease4 === undefined
        ? []
        : [{ address: address4(lease4), ...(lease4.router === undefined ? {} : { gateway: lease4.router }) }]),
      ...(lease6 === undefined ? [] : addresses6(lease6).map((address) => ({ address }))),
    ],
    routes: (lease4?.routes ?? []).map((route) => ({ ...route, ...metric })),
    dns: mergeDns(lease4?.dns ?? {}, lease6?.dns ?? {}),
  }
}

/** What the lease puts on the pod's link. */
export const configuration4 = (lease: Lease4, priority: number): Configuration => ({
  addresses: [address4(lease)],
  routes: lease.routes.map(({ dst, gw }) => ({ dst, gw, ...(priority === 0 ? {} : { priority }) })),
})

export const configuration6 = (lease: Lease6): Configuration => ({ addresses: addresses6(lease), routes: [] })
