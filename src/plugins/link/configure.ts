/** Giving the pod's interface its addresses and routes, and checking that it has them. */

import { setTimeout as sleep } from 'node:timers/promises'

import { invalidConfig, tryAgain } from '#cni/errors.ts'
import type { IpConfig, Result, RouteConfig } from '#cni/result.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { familyOf, parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { addrMessage, IFA_F, listAddrs } from '#netlink/addr.ts'
import { setInetMessage } from '#netlink/inet-conf.ts'
import { getLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import { hasCode } from '#sys/errno.ts'
import { writeSysctls, type Sysctl } from './host-netns.ts'
import type { Pod } from './pod.ts'

export interface ConfigureOptions {
  /** Detect duplicate IPv6 addresses (and wait for it) instead of using addresses at once. */
  readonly enableDad: boolean
  /** Ends when frames of the interface get through; awaited before addresses are tested for duplicates. */
  readonly carrier?: () => Promise<unknown>
  /** The interface as it was made a moment ago by this very call, which saves asking for it before and after. */
  readonly fresh?: Link
  /** Make no routes for the subnets of the addresses: the caller brings its own. */
  readonly noPrefixRoute?: boolean
  /** Routes that come before those of the result. */
  readonly firstRoutes?: readonly RouteConfig[]
}

/** The addresses of a result that belong to the interface with this index; throws CniError 7 for an index out of range. */
export function addressesOf(result: Result, index: number): readonly IpConfig[] {
  for (const { address, interface: at } of result.ips) {
    if (at !== undefined && (at < 0 || at >= result.interfaces.length)) {
      throw invalidConfig(
        `address ${address} belongs to interface ${at}, and the result has ${result.interfaces.length}`,
      )
    }
  }
  return result.ips.filter((config) => config.interface === index)
}

/** Sysctls of the pod's interface before it comes up, which netlink does not set. */
function sysctlsOf(ifname: string, hasIpv6: boolean, enableDad: boolean): readonly Sysctl[] {
  if (!hasIpv6) return []
  const set = (name: string, key: string, value: string): Sysctl => ({ path: ['ipv6', 'conf', name, key], value })
  return [
    set('lo', 'disable_ipv6', '0'),
    set(ifname, 'disable_ipv6', '0'),
    { ...set(ifname, 'keep_addr_on_down', '1'), optional: true },
    { ...set(ifname, 'ndisc_notify', '1'), optional: true },
    ...(enableDad ? [{ ...set(ifname, 'enhanced_dad', '1'), optional: true }] : []),
    set(ifname, 'accept_dad', enableDad ? '1' : '0'),
  ]
}

/** Addresses, up, routes, in one request to the kernel where no address has to wait. Like `ip address add`, `ip link set up`, `ip route append`. Throws `NetlinkError`. */
export async function configureInterface(
  pod: Pod,
  ifname: string,
  ips: readonly IpConfig[],
  routes: readonly RouteConfig[],
  options: ConfigureOptions,
): Promise<Link> {
  const hasIpv6 = ips.some(({ address }) => familyOf(address) === 6)
  const { fresh } = options
  writeSysctls(pod.fd, sysctlsOf(ifname, hasIpv6, options.enableDad))
  const { index } = fresh ?? getLink(pod.netlink, ifname)
  const notify = setInetMessage(index, { arpNotify: true })
  const isAwaited = hasIpv6 && options.enableDad
  if (isAwaited) {
    send(pod.netlink, [notify, setLinkMessage(index, { up: true })])
    await options.carrier?.()
  }
  const addressed = [
    notify,
    ...ips.map(({ address }) =>
      addrMessage('add', {
        index,
        address,
        nodad: familyOf(address) === 6 && !options.enableDad,
        noPrefixRoute: options.noPrefixRoute === true,
      }),
    ),
    setLinkMessage(index, { up: true }),
  ]
  const gateways = defaultGateways(ips)
  const routed = [
    ...(options.firstRoutes ?? []).map((route) => routeFor(route, index, undefined)),
    ...routes.map((route) => routeFor(route, index, gateways.get(familyOf(route.dst)))),
  ]
  if (isAwaited) {
    send(pod.netlink, addressed)
    await dadSettled(pod.netlink, index)
    send(pod.netlink, routed)
  } else send(pod.netlink, [...addressed, ...routed])
  return fresh ?? getLink(pod.netlink, index)
}

/** A route that exists already is as good. */
function send(netlink: NetlinkSocket, messages: readonly Message[]): void {
  const failed = netlink.batch(messages).find((result) => result !== undefined && result.code !== 'EEXIST')
  if (failed !== undefined) throw failed
}

/** The first gateway of each family: where routes without one lead. */
export function defaultGateways(ips: readonly IpConfig[]): ReadonlyMap<4 | 6, IpText> {
  const gateways = new Map<4 | 6, IpText>()
  for (const { gateway } of ips) {
    if (gateway !== undefined && !gateways.has(familyOf(gateway))) gateways.set(familyOf(gateway), gateway)
  }
  return gateways
}

function routeFor(route: RouteConfig, oif: number, fallback: IpText | undefined): Message {
  const { dst, mtu, advmss, priority, table, scope } = route
  const gateway = route.gw ?? (scope === undefined || scope === 0 ? fallback : undefined)
  const metrics = mtu === undefined && advmss === undefined ? undefined : { mtu, advmss }
  return routeMessage('append', { dst, oif, gateway, priority, table, scope, metrics })
}

const DAD_DEADLINE_MS = 5000

/** Waits until no address is tentative. Throws CniError 11 for a duplicate, or when it takes longer than five seconds. */
async function dadSettled(netlink: NetlinkSocket, index: number): Promise<void> {
  const deadline = performance.now() + DAD_DEADLINE_MS
  for (;;) {
    const addrs = listAddrs(netlink, { index, family: 6 })
    const failed = addrs.find((addr) => (addr.flags & IFA_F.DADFAILED) !== 0)
    if (failed !== undefined)
      throw tryAgain(`another machine on this network has the address ${failed.address} already`)
    if (!addrs.some((addr) => (addr.flags & IFA_F.TENTATIVE) !== 0)) return
    if (performance.now() > deadline) throw tryAgain(`duplicate address detection did not end in ${DAD_DEADLINE_MS} ms`)
    await sleep(20)
  }
}

/** CHECK: the interface is there and up, as the result says, with its addresses and routes. More of them are fine. Throws CniError 100. */
export function checkInterface(pod: Pod, result: Result, ifname: string, isUp = true): Link {
  const link = linkOf(pod, ifname)
  const index = result.interfaces.findIndex(
    ({ name, sandbox }) => name === ifname && sandbox !== undefined && sandbox !== '',
  )
  const described = result.interfaces[index]
  if (described === undefined) throw checkFailed(`the result of ADD has no interface ${ifname} of the container`)
  if (described.mac !== undefined && described.mac !== link.mac) {
    throw checkFailed(`${ifname} in ${pod.path} has MAC address ${link.mac}, and ADD gave it ${described.mac}`)
  }
  if (isUp && !link.up)
    throw checkFailed(`${ifname} in ${pod.path} is down`, `ip -n ... link set ${ifname} up, or run DEL and ADD`)
  const seen = new Set(listAddrs(pod.netlink, { index: link.index }).map((addr) => addr.address))
  const ips = result.ips.filter((config) => config.interface === undefined || config.interface === index)
  for (const { address } of ips) {
    if (!seen.has(address)) throw checkFailed(`${ifname} in ${pod.path} has lost its address ${address}`)
  }
  checkRoutes(pod, link, result.routes, defaultGateways(ips))
  return link
}

function linkOf(pod: Pod, ifname: string): Link {
  try {
    return getLink(pod.netlink, ifname)
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error
    throw checkFailed(`there is no interface ${ifname} in ${pod.path}`)
  }
}

function checkRoutes(pod: Pod, link: Link, routes: readonly RouteConfig[], gateways: ReadonlyMap<4 | 6, IpText>): void {
  if (routes.length === 0) return
  const seen = listRoutes(pod.netlink)
  for (const { dst, gw, table } of routes) {
    const candidates = seen.filter((route) => route.dst === dst && isIn(route, table, link))
    const wanted = gw ?? gateways.get(familyOf(dst))
    const found = candidates.some(
      (route) =>
        (gw === undefined ||
          route.gateway === wanted ||
          route.nexthops?.some((hop) => hop.gateway === wanted) === true) &&
        (route.oif === undefined || route.oif === link.index || gw === undefined),
    )
    if (!found)
      throw checkFailed(`the route to ${dst}${wanted === undefined ? '' : ` via ${wanted}`} is gone from ${pod.path}`)
  }
}

/** Without a table in the result, a later plugin of the list (sbr, vrf) may have given the link's routes one of their own. */
const isIn = (route: SeenRoute, table: number | undefined, { index }: Link): boolean =>
  table === undefined
    ? route.table === RT_TABLE.MAIN || (route.oif === index && route.table !== RT_TABLE.LOCAL)
    : route.table === table

/** `10.1.0.5/24` → `10.1.0.5`. */
export const ipOf = (address: IpConfig['address']): IpText => formatIp(parseIpNet(address).ip)
