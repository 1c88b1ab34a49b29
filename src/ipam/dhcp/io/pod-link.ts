/** The pod's interface while something is done with it. Nothing here stays open: what did would keep the namespace alive after its pod. */

import { setTimeout as sleep } from 'node:timers/promises'

import { formatIp, isLinkLocal, parseIp } from '#ip/address.ts'
import { contains, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import { addrMessage, IFA_F, listAddrs } from '#netlink/addr.ts'
import { findLink, setLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { routeMessage } from '#netlink/route.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { hasCode } from '#sys/errno.ts'
import { inNetns, NetnsError, netnsId, openNetns } from '#sys/netns.ts'
import { readSysctl, writeSysctl } from '#sys/sysctl.ts'

/** Where a lease belongs. */
export interface Place {
  /** Path of the namespace, and which one it was; the path may lead to another one later. */
  readonly netns: string
  readonly netnsId?: string | undefined
  readonly ifname: string
  /** Which interface it was. */
  readonly index?: number | undefined
}

/** The pod's namespace, or its interface, is not there, or another has taken its name. */
export class GoneError extends Error {
  override readonly name = 'GoneError'
  readonly code: 'netns-gone' | 'link-gone'

  constructor(code: GoneError['code'], message: string) {
    super(message)
    this.code = code
  }
}

export interface PodLink extends Disposable {
  readonly netns: number
  readonly netlink: NetlinkSocket
  readonly link: Link
}

/** Which namespace is at the path; undefined where there is none. */
export function netnsAt(path: string): string | undefined {
  try {
    return netnsId(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ESRCH')) return undefined
    throw error
  }
}

/** Throws `GoneError`. */
export function openPodLink(place: Place): PodLink {
  let netns: number
  try {
    netns = openNetns(place.netns)
  } catch (error) {
    throw new GoneError(
      'netns-gone',
      `the namespace ${place.netns} is gone: ${error instanceof Error ? error.message : ''}`,
    )
  }
  try {
    if (place.netnsId !== undefined && netnsId(netns) !== place.netnsId)
      throw new GoneError('netns-gone', `another namespace is at ${place.netns} now`)
    const netlink = openNetlink(netns, place.netns)
    try {
      const link = findLink(netlink, place.ifname)
      if (link === undefined || (place.index !== undefined && link.index !== place.index))
        throw new GoneError('link-gone', `interface ${place.ifname} of ${place.netns} is gone`)
      const dispose = (): void => {
        netlink[Symbol.dispose]()
        nativeSys().close(netns)
      }
      return { netns, netlink, link, [Symbol.dispose]: dispose }
    } catch (error) {
      netlink[Symbol.dispose]()
      throw error
    }
  } catch (error) {
    nativeSys().close(netns)
    throw error
  }
}

function openNetlink(netns: number, path: string): NetlinkSocket {
  try {
    return NetlinkSocket.open({ netns })
  } catch (error) {
    if (error instanceof NetnsError) throw new GoneError('netns-gone', `${path} is no network namespace`)
    throw error
  }
}

/** ms until frames pass; a link whose other end is down may have none for ever, and is tried nevertheless. */
const CARRIER_MS = 1500
/** Duplicate address detection of the link-local address: a second of probing, and a random one before. */
const LINK_LOCAL_MS = 6000

/** Sets the link up and waits a little for its carrier. */
export async function bringUp(place: Place): Promise<void> {
  await until(place, CARRIER_MS, ({ netlink, link }) => {
    if (!link.up) setLink(netlink, link.index, { up: true })
    return link.operState === 'up' || link.operState === 'unknown' ? link : undefined
  })
}

/** The link's own IPv6 address, once it may be used; IPv6 is switched on where it is off. Undefined when there is none after six seconds. */
export async function linkLocal(place: Place): Promise<IpText | undefined> {
  return until(place, LINK_LOCAL_MS, ({ netns, netlink, link }) => {
    enableIpv6(netns, place.ifname)
    const own = listAddrs(netlink, { index: link.index, family: 6 }).find(({ address }) =>
      isLinkLocal(parseIpNet(address).ip),
    )
    if (own === undefined || (own.flags & (IFA_F.TENTATIVE | IFA_F.DADFAILED)) !== 0) return undefined
    return textOf(own.address)
  })
}

const textOf = (address: IpNetText): IpText => formatIp(parseIpNet(address).ip)

function enableIpv6(netns: number, ifname: string): void {
  const key = `net/ipv6/conf/${ifname}/disable_ipv6`
  inNetns(netns, () => {
    if (readSysctl(key) !== '0') writeSysctl(key, '0')
  })
}

/** Asks every 20 ms with the link freshly opened, and gives up after `ms`. */
async function until<T>(place: Place, ms: number, look: (link: PodLink) => T | undefined): Promise<T | undefined> {
  const deadline = performance.now() + ms
  for (;;) {
    {
      using link = openPodLink(place)
      const found = look(link)
      if (found !== undefined) return found
    }
    if (performance.now() >= deadline) return undefined
    await sleep(20)
  }
}

/** What a lease puts on the link. */
export interface Configuration {
  readonly addresses: readonly IpNetText[]
  readonly routes: readonly {
    readonly dst: CidrText
    readonly gw?: IpText | undefined
    readonly priority?: number | undefined
  }[]
}

/** Takes addresses and their routes off the link. What is gone already is fine. Like `ip address delete`, `ip route delete`. */
export function unconfigure({ netlink, link }: PodLink, { addresses, routes }: Configuration): void {
  const messages = [
    ...routes.map(({ dst, gw, priority }) => routeMessage('delete', { dst, oif: link.index, gateway: gw, priority })),
    ...addresses.map((address) => addrMessage('delete', { index: link.index, address })),
  ]
  failUnless(netlink.batch(messages), 'ESRCH', 'EADDRNOTAVAIL', 'ENODEV')
}

/** Puts them on. What is there already is fine. Like `ip address add`, `ip link set up`, `ip route append`. */
export function configure({ netlink, link }: PodLink, { addresses, routes }: Configuration): void {
  if (!link.up) setLink(netlink, link.index, { up: true })
  const messages = [
    ...addresses.map((address) => addrMessage('add', { index: link.index, address })),
    ...routes.map(({ dst, gw, priority }) => routeMessage('append', { dst, oif: link.index, gateway: gw, priority })),
  ]
  failUnless(netlink.batch(messages), 'EEXIST')
}

function failUnless(results: ReturnType<NetlinkSocket['batch']>, ...fine: readonly string[]): void {
  const failed = results.find((result) => result !== undefined && !fine.includes(result.code))
  if (failed !== undefined) throw failed
}

/** The MAC address behind which `server` is, as the kernel knows it: its own on the link's network, else the router's. */
export function neighbourTo(
  { netlink, link }: PodLink,
  address: IpNetText,
  server: IpText,
  router: IpText | undefined,
): MacText | undefined {
  const isNear = contains(networkOf(parseIpNet(address)), parseIp(server))
  const hop = isNear ? server : (router ?? server)
  return listNeighs(netlink, { index: link.index, family: 4 }).find(({ ip, state }) => ip === hop && state !== 'failed')
    ?.mac
}
