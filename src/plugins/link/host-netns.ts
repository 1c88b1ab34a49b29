/** What plugins need of the host's network namespace besides rtnetlink: its descriptor, sysctls, and a socket to nf_tables. */

import type { PluginHost } from '#cni/plugin.ts'
import { isForwarding } from '#netlink/inet-conf.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { openNft } from '#nft/transaction.ts'
import { nativeSys } from '#sys/addon.ts'
import { SIOCGSKNS } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import * as sysctl from '#sys/sysctl.ts'

export interface HostNetns {
  /** Open for as long as the process lives. */
  readonly fd: number
  readonly nft: NetlinkSocket
}

const known = new WeakMap<NetlinkSocket, HostNetns>()

/** The namespace that the host's rtnetlink socket lives in, which need not be the process's. */
export function hostNetns(host: Pick<PluginHost, 'netlink'>): HostNetns {
  const seen = known.get(host.netlink)
  if (seen !== undefined) return seen
  const fd = check(nativeSys().ioctl(host.netlink.fd, SIOCGSKNS), 'ioctl SIOCGSKNS')
  const made = { fd, nft: openNft({ netns: fd }) }
  known.set(host.netlink, made)
  return made
}

/** One setting: the path below /proc/sys/net, in parts, because interface names may hold dots. */
export interface Sysctl {
  readonly path: readonly string[]
  readonly value: string
  /** Nothing is wrong when the kernel has no such setting (IPv6 switched off at boot, an older kernel). */
  readonly optional?: boolean
}

const keyOf = (path: readonly string[]): string => `net/${path.join('/')}`

/**
 * Like `sysctl -w`, all in one excursion. Writes only what differs: some writes make the kernel walk all interfaces. `isFresh`: of an interface made a moment
 * ago, which has the defaults, so that looking first is not worth it. Throws `SysctlError`.
 */
export function writeSysctls(netns: number, sysctls: readonly Sysctl[], isFresh = false): void {
  if (sysctls.length === 0) return
  inNetns(netns, () => {
    for (const { path, value, optional } of sysctls) {
      const key = keyOf(path)
      try {
        if (isFresh || sysctl.readSysctl(key) !== value) sysctl.writeSysctl(key, value)
      } catch (error) {
        if (optional !== true) throw error
      }
    }
  })
}

/** Undefined where there is no such setting. */
export function readSysctl(netns: number, path: readonly string[]): string | undefined {
  return inNetns(netns, () => {
    try {
      return sysctl.readSysctl(keyOf(path))
    } catch {
      return undefined
    }
  })
}

/** The host forwards packets of these families from now on. */
export function enableForwarding(netns: number, families: ReadonlySet<4 | 6>): void {
  writeSysctls(netns, forwardingOf([...families]))
}

const forwardingOf = (families: readonly (4 | 6)[]): readonly Sysctl[] =>
  families.map((family) => ({
    path: family === 4 ? ['ipv4', 'ip_forward'] : ['ipv6', 'conf', 'all', 'forwarding'],
    value: '1',
  }))

/** The same, which asks the kernel by netlink first: for every pod, and nearly always there is nothing to do. */
export function ensureForwarding(host: Pick<PluginHost, 'netlink'>, families: ReadonlySet<4 | 6>): void {
  const missing = [...families].filter((family) => !isForwarding(host.netlink, family))
  writeSysctls(hostNetns(host).fd, forwardingOf(missing))
}

/**
 * A link of the host that pods can send to believes no router advertisement and no redirect (CVE-2020-10749). To be written before the link comes up,
 * because the first advertisement may come with the first packet.
 */
export const distrustful = (name: string): readonly Sysctl[] => [
  ...distrustful6(name),
  { path: ['ipv4', 'conf', name, 'accept_redirects'], value: '0', optional: true },
]

/** Its part of IPv6, which netlink does not set. */
export const distrustful6 = (name: string): readonly Sysctl[] => [
  { path: ['ipv6', 'conf', name, 'accept_ra'], value: '0', optional: true },
  { path: ['ipv6', 'conf', name, 'accept_redirects'], value: '0', optional: true },
]

/**
 * The link-local address of a link that only pods are behind is good at once. Until duplicate address detection ends, a second or two, the kernel has no source for
 * the solicitations that it sends for forwarded packets, and drops those.
 */
export const withoutDad = (name: string): readonly Sysctl[] => [
  { path: ['ipv6', 'conf', name, 'accept_dad'], value: '0', optional: true },
]

/** A port of a bridge needs no link-local address: the bridge has one. To be written before the link comes up. */
export const withoutLinkLocal = (name: string): readonly Sysctl[] => [
  { path: ['ipv6', 'conf', name, 'addr_gen_mode'], value: '1', optional: true },
]
