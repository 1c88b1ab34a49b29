/**
 * A leg: a veth pair between pod and host without a subnet on it. Each end knows the other as a neighbour for good, so nothing is ever asked over it: the pod
 * sends to a link-local address that nobody needs to have, and the host to the pod's own.
 */

import { createHash } from 'node:crypto'

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { parseIp } from '#ip/address.ts'
import { localMac } from '#ip/mac.ts'
import { familyOf, formatCidr, hostCidr } from '#ip/prefix.ts'
import type { CidrText, IpText, MacText } from '#ip/text.ts'
import { isForwarding } from '#netlink/inet-conf.ts'
import { setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listNeighs, neighMessage } from '#netlink/neigh.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ensureForwarding, hostNetns, readSysctl, withoutDad, writeSysctls, type Sysctl } from './host-netns.ts'
import { sendAll } from './veth.ts'

/** The addresses that pods send to, by family. */
export type Gateways = Readonly<Record<4 | 6, IpText>>

export const hostRoute = (ip: IpText): CidrText => formatCidr(hostCidr(parseIp(ip)))

/**
 * The addresses of both ends, the same with every ADD. Each end is a permanent neighbour of the other, so they must never change: to a link whose address
 * the kernel drew, udev gives another one (MACAddressPolicy=persistent) when it has been there for a moment.
 */
export const legMacs = (network: string, { containerId, ifname }: Attachment): { host: MacText; pod: MacText } => {
  const bytes = createHash('sha256').update(`leg:${network}:${containerId}:${ifname}`).digest()
  return { host: localMac(bytes.subarray(0, 6)), pod: localMac(bytes.subarray(6, 12)) }
}

/** A source that does not belong to the pod is dropped (rp_filter, IPv4); the kernel does so for the stricter of this and `all`. */
const hostSysctls = (name: string): readonly Sysctl[] => [
  { path: ['ipv4', 'conf', name, 'rp_filter'], value: '1' },
  { path: ['ipv4', 'conf', name, 'send_redirects'], value: '0' },
  ...withoutDad(name),
]

/**
 * The host forwards packets of these families from now on, and its card goes on to listen to routers: a node that begins to forward IPv6 stops otherwise (accept_ra 1), and loses
 * its own default route when that runs out.
 */
export function forwardFor(host: PluginHost, card: string, families: ReadonlySet<4 | 6>): void {
  if (families.has(6) && !isForwarding(host.netlink, 6)) {
    const { fd } = hostNetns(host)
    const path = ['ipv6', 'conf', card, 'accept_ra']
    if (readSysctl(fd, path) === '1') writeSysctls(fd, [{ path, value: '2' }])
  }
  ensureForwarding(host, families)
}

/**
 * The host's end: up, with a route and a neighbour for each address of the pod. The route names the node's address as source, because without it the kernel takes any
 * that it finds, such as one on a loopback device, which the pod's answer may not lead back to.
 */
export function setUpHostEnd(
  host: PluginHost,
  { index, name }: Link,
  ips: readonly IpText[],
  podMac: MacText,
  node: ReadonlyMap<4 | 6, IpText>,
): void {
  writeSysctls(hostNetns(host).fd, hostSysctls(name))
  sendAll(host.netlink, [
    setLinkMessage(index, { up: true }),
    ...ips.flatMap((ip) => [
      neighMessage('replace', { index, ip, mac: podMac }),
      routeMessage('replace', { dst: hostRoute(ip), oif: index, prefSrc: node.get(familyOf(ip)) }),
    ]),
  ])
}

/** What the host's end lacks, in words. */
export function wrongHostEnd(host: PluginHost, link: Link, ips: readonly IpText[], podMac: string): string | undefined {
  const { index, name } = link
  if (!link.up) return `${name} is down`
  const routes = listRoutes(host.netlink, { oif: index })
  const neighs = listNeighs(host.netlink, { index })
  for (const ip of ips) {
    if (!routes.some(({ dst }) => dst === hostRoute(ip))) return `the host's route to ${ip} over ${name} is gone`
    if (!isPermanent(neighs, ip, podMac)) return `the host's neighbour ${ip} on ${name} is not the pod's ${podMac}`
  }
  const { fd } = hostNetns(host)
  const forwarding = {
    4: ['ipv4', 'ip_forward'],
    6: ['ipv6', 'conf', 'all', 'forwarding'],
  } as const
  for (const family of new Set(ips.map((ip) => familyOf(ip)))) {
    if (readSysctl(fd, forwarding[family]) !== '1') return `the host does not forward IPv${family}`
  }
  return undefined
}

/** The pod's way over the leg: the gateways as neighbours for good. */
export const gatewayNeighbours = (index: number, gateways: Gateways, families: ReadonlySet<4 | 6>, mac: MacText) =>
  [...families].map((family) => neighMessage('replace', { index, ip: gateways[family], mac }))

/** What the pod's end lacks, in words. */
export function wrongGateway(
  netlink: NetlinkSocket,
  { index, name }: Link,
  gateways: Gateways,
  families: ReadonlySet<4 | 6>,
  mac: string,
): string | undefined {
  const neighs = listNeighs(netlink, { index })
  const lost = [...families].find((family) => !isPermanent(neighs, gateways[family], mac))
  return lost === undefined ? undefined : `the neighbour ${gateways[lost]} on ${name} is not the host's end ${mac}`
}

const isPermanent = (neighs: ReturnType<typeof listNeighs>, ip: IpText, mac: string): boolean =>
  neighs.some((neigh) => neigh.ip === ip && neigh.mac === mac && neigh.state === 'permanent')
