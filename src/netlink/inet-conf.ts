/** Settings of IP per link, by netlink: what /proc/sys/net/ipv4/conf holds, without a walk through /proc, which gets longer with every namespace of the machine. */

import { attr, attributes, forEachAttribute, nest } from '#codec/attributes.ts'
import { LITTLE, type Reader } from '#codec/buffer.ts'
import { cstring, i32, u32, u8, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { AF } from '#sys/constants.ts'
import { RTM } from './constants.ts'
import { ifinfomsg } from './link-peer.ts'
import { SKIP_STATS, type LinkRef } from './link.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'

/** IPV4_DEVCONF_* (linux/ip.h). */
const DEVCONF = { ACCEPT_REDIRECTS: 4, ARP_NOTIFY: 22, ROUTE_LOCALNET: 26 } as const
/** IN6_ADDR_GEN_MODE_NONE: a link makes no address of its own. */
const ADDR_GEN_NONE = 1

const inetConf = attributes('inet conf', {
  acceptRedirects: attr(DEVCONF.ACCEPT_REDIRECTS, u32),
  arpNotify: attr(DEVCONF.ARP_NOTIFY, u32),
})
const inetSpec = attributes('inet', { conf: nest(1, inetConf) })
const inet6Spec = attributes('inet6', { addrGenMode: attr(8, u8) })
const familySpecs = attributes('families', { inet: nest(AF.INET, inetSpec), inet6: nest(AF.INET6, inet6Spec) })
const request = attributes('link', {
  name: attr(3, cstring(16)),
  afSpec: nest(26, familySpecs),
  extMask: attr(29, u32),
})

type FamilySpecs = NonNullable<Parameters<typeof familySpecs.write>[1]>

/** What can be set. */
export interface InetSettings {
  readonly acceptRedirects?: boolean
  /** Tell the neighbours when the link comes up, or gets an address. */
  readonly arpNotify?: boolean
}

const flag = (value: boolean | undefined): number | undefined => (value === undefined ? undefined : Number(value))

/** Like `sysctl -w net.ipv4.conf.DEV.KEY=…`. */
export function setInetMessage(ref: LinkRef, { acceptRedirects, arpNotify }: InetSettings): Message {
  const conf = { acceptRedirects: flag(acceptRedirects), arpNotify: flag(arpNotify) }
  return familyMessage(`link set ${ref} inet`, ref, { inet: { conf } })
}

/** Like `ip link set DEV addrgenmode none`. EAFNOSUPPORT where the kernel has no IPv6. */
export const noLinkLocalMessage = (ref: LinkRef): Message =>
  familyMessage(`link set ${ref} addrgenmode none`, ref, { inet6: { addrGenMode: ADDR_GEN_NONE } })

function familyMessage(op: string, ref: LinkRef, afSpec: FamilySpecs): Message {
  return {
    op: () => op,
    type: RTM.SETLINK,
    flags: 0,
    write(w) {
      ifinfomsg.write(w, headerOf(ref))
      request.write(w, { ...nameOf(ref), afSpec })
    },
  }
}

const headerOf = (ref: LinkRef) => ({
  family: AF.UNSPEC,
  type: 0,
  index: typeof ref === 'number' ? ref : 0,
  flags: 0,
  change: 0,
})
const nameOf = (ref: LinkRef) => (typeof ref === 'string' ? { name: ref } : {})

/** A link's name, and whether addresses of 127.0.0.0/8 may leave through it. */
export interface Localnet {
  readonly name: string
  readonly routeLocalnet: boolean
}

/** Like `sysctl net.ipv4.conf.DEV.route_localnet`. Throws `NetlinkError` ENODEV. */
export const getLocalnet = (socket: NetlinkSocket, ref: LinkRef): Localnet =>
  socket.get(
    {
      op: () => `link show ${ref}`,
      type: RTM.GETLINK,
      flags: 0,
      write(w) {
        ifinfomsg.write(w, headerOf(ref))
        request.write(w, { ...nameOf(ref), extMask: SKIP_STATS })
      },
    },
    readLocalnet,
  )

/** The kernel tells all values of a family in one array, from 1 on. */
const devconf: Codec<boolean> = {
  name: 'devconf',
  write() {},
  read(r) {
    const at = (DEVCONF.ROUTE_LOCALNET - 1) * 4
    return r.left >= at + 4 && r.view.getUint32(r.offset + at, LITTLE) !== 0
  },
}
const seen = attributes('link', {
  name: attr(3, cstring(16)),
  afSpec: nest(26, attributes('families', { inet: nest(AF.INET, attributes('inet', { localnet: nest(1, devconf) })) })),
})

function readLocalnet(payload: Reader): Localnet {
  ifinfomsg.read(payload)
  const { name = '', afSpec } = seen.read(payload)
  return { name, routeLocalnet: afSpec?.inet?.localnet === true }
}

/** struct netconfmsg, in the four bytes that it takes before attributes. */
const netconfmsg = struct('netconfmsg', { family: u32 })
const NETCONF = { IFINDEX: 1, FORWARDING: 2, ALL: -1 } as const
const netconf = attributes('netconf', { index: attr(NETCONF.IFINDEX, i32) })

/** Like `sysctl net.ipv4.ip_forward`, or `net.ipv6.conf.all.forwarding`. Throws `NetlinkError` where the family is unknown. */
export const isForwarding = (socket: NetlinkSocket, family: 4 | 6): boolean =>
  socket.get(
    {
      op: () => `netconf show inet${family === 4 ? '' : '6'} dev all`,
      type: RTM.GETNETCONF,
      flags: 0,
      write(w) {
        netconfmsg.write(w, { family: LITTLE ? familyNumber(family) : familyNumber(family) << 24 })
        netconf.write(w, { index: NETCONF.ALL })
      },
    },
    (payload) => {
      netconfmsg.read(payload)
      let forwarding = false
      forEachAttribute(payload, (type, value) => {
        if (type === NETCONF.FORWARDING) forwarding = i32.read(value) !== 0
      })
      return forwarding
    },
  )

const familyNumber = (family: 4 | 6): number => (family === 4 ? AF.INET : AF.INET6)
