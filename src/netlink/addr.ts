/** Addresses on links. */

import { ipAddress } from '#codec/address.ts'
import { attr, attributes } from '#codec/attributes.ts'
import type { Reader } from '#codec/buffer.ts'
import { cstring, u32, u8 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import type { IpNetText, IpText } from '#ip/text.ts'
import { familyOf, parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import { AF } from '#sys/constants.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import { scopes, type Scope } from './route-names.ts'
import type { NetlinkSocket } from './socket.ts'

const ifaddrmsg = struct('ifaddrmsg', { family: u8, prefixLength: u8, flags: u8, scope: u8, index: u32 })

/** IFA_*. */
const addrAttributes = attributes('address', {
  address: attr(1, ipAddress),
  local: attr(2, ipAddress),
  label: attr(3, cstring(16)),
  broadcast: attr(4, ipAddress),
  cacheInfo: attr(6, struct('ifa_cacheinfo', { preferred: u32, valid: u32, created: u32, updated: u32 })),
  flags: attr(8, u32),
  routePriority: attr(9, u32),
  protocol: attr(11, u8),
})

/** IFA_F_*. */
export const IFA_F = {
  SECONDARY: 1,
  NODAD: 2,
  OPTIMISTIC: 4,
  DADFAILED: 8,
  HOMEADDRESS: 0x10,
  DEPRECATED: 0x20,
  TENTATIVE: 0x40,
  PERMANENT: 0x80,
  MANAGETEMPADDR: 0x100,
  NOPREFIXROUTE: 0x200,
  MCAUTOJOIN: 0x400,
} as const

const FOREVER = 0xffff_ffff

/** An address on a link. */
export interface Addr {
  readonly index: number
  /** Address and prefix length; host bits kept. */
  readonly address: IpNetText
  /** The other end of a point-to-point link. */
  readonly peer?: IpText | undefined
  readonly broadcast?: IpText | undefined
  readonly scope?: Scope | undefined
  readonly label?: string | undefined
  /** Skip duplicate address detection (IPv6), so that the address can be used at once. */
  readonly nodad?: boolean | undefined
  /** Make no route for the prefix. */
  readonly noPrefixRoute?: boolean | undefined
  /** Other IFA_F_* bits. */
  readonly flags?: number | undefined
  /** Metric of the prefix route. */
  readonly metric?: number | undefined
  /** Who made it (IFA_PROTO): 0 unspecified, 1 loopback, 2 router advertisement, 3 link-local; others are free. */
  readonly protocol?: number | undefined
  /** Seconds; absent means for ever. */
  readonly validLifetime?: number | undefined
  readonly preferredLifetime?: number | undefined
}

/** An address as the kernel reports it: `flags` are all of IFA_F_*. */
export interface SeenAddr extends Addr {
  readonly flags: number
  readonly scope: Scope
}

/** Like `ip address add`, `ip address replace`, `ip address delete`. */
export function addrMessage(verb: 'add' | 'replace' | 'delete', addr: Addr): Message {
  return {
    op: () => `address ${verb} ${addr.address} dev ${addr.index}`,
    type: verb === 'delete' ? RTM.DELADDR : RTM.NEWADDR,
    flags: verb === 'add' ? NLM_F.CREATE | NLM_F.EXCL : verb === 'replace' ? NLM_F.CREATE | NLM_F.REPLACE : 0,
    write(w) {
      const net = parseIpNet(addr.address)
      const local = formatIp(net.ip)
      const flags =
        (addr.flags ?? 0) |
        (addr.nodad === true ? IFA_F.NODAD : 0) |
        (addr.noPrefixRoute === true ? IFA_F.NOPREFIXROUTE : 0)
      ifaddrmsg.write(w, {
        family: net.ip.family === 4 ? AF.INET : AF.INET6,
        prefixLength: net.length,
        flags: flags & 0xff,
        scope: scopes.valueOf(addr.scope ?? 'global'),
        index: addr.index,
      })
      const limited = addr.validLifetime !== undefined || addr.preferredLifetime !== undefined
      const lifetimes = {
        preferred: addr.preferredLifetime ?? addr.validLifetime ?? FOREVER,
        valid: addr.validLifetime ?? FOREVER,
        created: 0,
        updated: 0,
      }
      addrAttributes.write(w, {
        local,
        address: addr.peer ?? local,
        broadcast: addr.broadcast,
        label: addr.label,
        flags: flags === 0 ? undefined : flags,
        routePriority: addr.metric,
        protocol: addr.protocol,
        cacheInfo: limited ? lifetimes : undefined,
      })
    },
  }
}

/** Reads RTM_NEWADDR or RTM_DELADDR. */
export function readAddr(payload: Reader): SeenAddr {
  const header = ifaddrmsg.read(payload)
  const a = addrAttributes.read(payload)
  const local = a.local ?? a.address
  const flags = a.flags ?? header.flags
  const address = `${local}/${header.prefixLength}` as IpNetText
  const cache = a.cacheInfo
  return {
    index: header.index,
    address,
    scope: scopes.nameOf(header.scope),
    flags,
    ...(a.address !== undefined && a.address !== local ? { peer: a.address } : {}),
    ...(a.broadcast === undefined ? {} : { broadcast: a.broadcast }),
    ...(a.label === undefined ? {} : { label: a.label }),
    ...((flags & IFA_F.NODAD) === 0 ? {} : { nodad: true }),
    ...((flags & IFA_F.NOPREFIXROUTE) === 0 ? {} : { noPrefixRoute: true }),
    ...(a.routePriority === undefined ? {} : { metric: a.routePriority }),
    ...(a.protocol === undefined ? {} : { protocol: a.protocol }),
    ...(cache === undefined || cache.valid === FOREVER ? {} : { validLifetime: cache.valid }),
    ...(cache === undefined || cache.preferred === FOREVER ? {} : { preferredLifetime: cache.preferred }),
  }
}

export interface AddrFilter {
  readonly index?: number | undefined
  readonly family?: 4 | 6 | undefined
}

/** Like `ip address show [dev D]`; the kernel filters. */
export function listAddrs(socket: NetlinkSocket, filter: AddrFilter = {}): SeenAddr[] {
  const header = {
    family: filter.family === undefined ? AF.UNSPEC : filter.family === 4 ? AF.INET : AF.INET6,
    prefixLength: 0,
    flags: 0,
    scope: 0,
    index: filter.index ?? 0,
  }
  const message: Message = {
    op: () => 'address show',
    type: RTM.GETADDR,
    flags: 0,
    write: (w) => ifaddrmsg.write(w, header),
  }
  return socket
    .dump(message, readAddr)
    .filter(
      (addr) =>
        (filter.index === undefined || addr.index === filter.index) &&
        (filter.family === undefined || familyOf(addr.address) === filter.family),
    )
}

/** Like `ip address add`. Throws `NetlinkError` EEXIST when it is there. */
export const addAddr = (socket: NetlinkSocket, addr: Addr): void => socket.request(addrMessage('add', addr))

/** Like `ip address replace`. */
export const replaceAddr = (socket: NetlinkSocket, addr: Addr): void => socket.request(addrMessage('replace', addr))

/** Like `ip address delete`. Throws `NetlinkError` EADDRNOTAVAIL when it is not there. */
export const deleteAddr = (socket: NetlinkSocket, addr: Addr): void => socket.request(addrMessage('delete', addr))
