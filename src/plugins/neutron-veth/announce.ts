/**
 * Tells the network that a pod's addresses are here now. Whoever talked to them on another node sends there until its cache forgets, half a minute. Three times:
 * where a port's filter opens seconds after the cloud's answer, the first one may not get through.
 */

import { messageOf } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { IpText } from '#ip/text.ts'
import { sockaddrLl } from '#ipam/dhcp/io/sockaddr.ts'
import { findLink } from '#netlink/link.ts'
import { listRoutes } from '#netlink/route.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { hostNetns } from '../link/host-netns.ts'
import { hostRoute } from '../link/leg.ts'
import { announcement } from './frames.ts'

/** After the first one (ms). */
const AGAIN_MS = [1_000, 3_000] as const
/** Of all pods together: in a storm of ADDs the first announcement must do. */
const MAX_PENDING = 4_096

let pending = 0

/** One frame for each address, out of the card. Throws SysError, or NetlinkError where there is no such card. */
export function announceOnce(host: Pick<PluginHost, 'netlink'>, card: string, ips: readonly IpText[]): void {
  const link = findLink(host.netlink, card)
  if (link?.mac === undefined) return
  const sys = nativeSys()
  const fd = inNetns(hostNetns(host).fd, () =>
    check(sys.socket(AF.PACKET, SOCK.DGRAM | SOCK.NONBLOCK, 0), 'socket', 'AF_PACKET'),
  )
  try {
    for (const ip of ips) {
      const { protocol, to, bytes } = announcement(ip, link.mac)
      check(sys.send(fd, bytes, 0, sockaddrLl(link.index, to, protocol)), 'send', card)
    }
  } finally {
    sys.close(fd)
  }
}

/**
 * Now, and twice more where the process lives on: the timers keep none alive, so a program that answers one call does not wait for them. A pod that is gone
 * by then, or whose address another link has, is not announced again. Nothing fails: the pod works for everybody who asks anew.
 */
export function announce(host: PluginHost, card: string, leg: string, ips: readonly IpText[]): void {
  const say = (): void => {
    try {
      announceOnce(
        host,
        card,
        ips.filter((ip) => isStillBehind(host, leg, ip)),
      )
    } catch (error) {
      host.log('debug', `addresses could not be announced on ${card}`, { error: messageOf(error) })
    }
  }
  say()
  for (const ms of AGAIN_MS) {
    if (pending >= MAX_PENDING) return
    pending++
    setTimeout(() => {
      pending--
      say()
    }, ms).unref()
  }
}

function isStillBehind(host: PluginHost, leg: string, ip: IpText): boolean {
  const link = findLink(host.netlink, leg)
  return link !== undefined && listRoutes(host.netlink, { oif: link.index }).some(({ dst }) => dst === hostRoute(ip))
}
