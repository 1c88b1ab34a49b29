/** What changes in a namespace, as it changes. */

import { CodecError, LITTLE, type Reader } from '#codec/buffer.ts'
import { nativeSys } from '#sys/addon.ts'
import { AF, MSG, SO, SOCK, SOL } from '#sys/constants.ts'
import { check, ERRNO, SysError } from '#sys/errno.ts'
import { inNetns, type Netns } from '#sys/netns.ts'
import { PollWatcher, READABLE } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'
import { readAddr, type SeenAddr } from './addr.ts'
import { NETLINK, NETLINK_OPTION, RTM, RTNLGRP } from './constants.ts'
import { readFdb, type SeenFdb } from './fdb.ts'
import { readLink, type Link } from './link-codec.ts'
import { forEachMessage, type Header } from './message.ts'
import { readNeigh, type SeenNeigh } from './neigh.ts'
import { portOf } from './port.ts'
import { readRoute, type SeenRoute } from './route-codec.ts'
import { readRule, type SeenRule } from './rule.ts'
import type { NetlinkSocket } from './socket.ts'
import { int32, setBuffers } from './options.ts'

export type Change = 'new' | 'delete'

/** Something changed; or `overrun`: events were lost, list everything again. */
export type NetlinkEvent =
  | { readonly kind: 'link'; readonly change: Change; readonly link: Link }
  | { readonly kind: 'addr'; readonly change: Change; readonly addr: SeenAddr }
  | { readonly kind: 'route'; readonly change: Change; readonly route: SeenRoute }
  | { readonly kind: 'rule'; readonly change: Change; readonly rule: SeenRule }
  | { readonly kind: 'neigh'; readonly change: Change; readonly neigh: SeenNeigh }
  | { readonly kind: 'fdb'; readonly change: Change; readonly fdb: SeenFdb }
  | { readonly kind: 'overrun' }

const GROUPS = {
  link: [RTNLGRP.LINK],
  addr: [RTNLGRP.IPV4_IFADDR, RTNLGRP.IPV6_IFADDR],
  route: [RTNLGRP.IPV4_ROUTE, RTNLGRP.IPV6_ROUTE],
  rule: [RTNLGRP.IPV4_RULE, RTNLGRP.IPV6_RULE],
  neigh: [RTNLGRP.NEIGH],
} as const

/** `neigh` brings forwarding entries too. */
export type EventGroup = keyof typeof GROUPS

export interface MonitorOptions {
  readonly groups: readonly EventGroup[]
  readonly onEvent: (event: NetlinkEvent) => void
  /** Changes made through this socket are not told, as far as the kernel says who made them (not for forwarding entries of tunnels). */
  readonly except?: NetlinkSocket | undefined
  /** The socket broke: no more events will come. */
  readonly onError: (error: Error) => void
  readonly netns?: Netns | undefined
  /** Bytes of events that the kernel keeps for us. Default 4 MB. */
  readonly bufferSize?: number | undefined
  readonly sys?: Sys | undefined
}

/** Datagrams handled in one turn of the event loop, so that a storm of events does not starve everything else. */
const TURN = 256
const RECEIVE_SIZE = 64 * 1024

/**
 * Subscribes to changes. A subscription sees what happens after it: open it first and list afterwards. It keeps the
 * process alive until disposed or unreferenced. Like `ip monitor`.
 */
export class NetlinkMonitor implements Disposable {
  readonly #sys: Sys
  readonly #options: MonitorOptions
  readonly #buffer = new Uint8Array(RECEIVE_SIZE)
  readonly #watcher: PollWatcher
  #fd: number
  #overrun = false

  constructor(options: MonitorOptions) {
    const sys = options.sys ?? nativeSys()
    const make = (): number => sys.socket(AF.NETLINK, SOCK.RAW | SOCK.NONBLOCK, NETLINK.ROUTE)
    this.#sys = sys
    this.#options = options
    this.#fd = check(options.netns === undefined ? make() : inNetns(options.netns, make, sys), 'socket', 'netlink')
    try {
      setBuffers(this.#fd, options.bufferSize ?? 4 * 1024 * 1024, sys)
      // Without a port id of its own a socket is taken for the kernel itself, which no notification goes to.
      check(sys.bind(this.#fd, sockaddrNetlink()), 'bind', 'netlink')
      if (options.except !== undefined) {
        check(sys.attachFilter(this.#fd, exceptFrom(portOf(options.except))), 'setsockopt', 'SO_ATTACH_FILTER')
      }
      for (const group of options.groups.flatMap((name) => GROUPS[name])) {
        const rc = sys.setsockopt(this.#fd, SOL.NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, int32(group))
        check(rc, 'setsockopt', `NETLINK_ADD_MEMBERSHIP ${group}`)
      }
      this.#watcher = new PollWatcher(this.#fd, (status) => this.#ready(status), sys)
      this.#watcher.start(READABLE)
    } catch (error) {
      sys.close(this.#fd)
      throw error
    }
  }

  unref(): this {
    this.#watcher.unref()
    return this
  }

  /** Delivers what has already happened now, without waiting for the event loop. At most `TURN` datagrams; the rest follow by themselves. */
  drain(): void {
    if (this.#fd >= 0) this.#ready(0)
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return
    this.#watcher[Symbol.dispose]()
    this.#sys.close(this.#fd)
    this.#fd = -1
  }

  #ready(status: number): void {
    if (status < 0) {
      // libuv reports a socket error (ENOBUFS) as an event of its own and stops watching.
      this.#sys.getsockopt(this.#fd, SOL.SOCKET, SO.ERROR, new Uint8Array(4))
      this.#overrun = true
      this.#watcher.start(READABLE)
    }
    for (let i = 0; i < TURN && this.#fd >= 0; i++) {
      const length = this.#sys.recv(this.#fd, this.#buffer, MSG.TRUNC)
      if (length === -ERRNO.EAGAIN) {
        this.#reportOverrun()
        return
      }
      if (length === -ERRNO.EINTR) continue
      if (length === -ERRNO.ENOBUFS || length > this.#buffer.length) {
        this.#overrun = true
      } else if (length < 0) {
        this.#watcher.stop()
        this.#options.onError(new SysError(-length, 'recv', 'netlink monitor'))
        return
      } else {
        this.#deliver(length)
      }
    }
  }

  /**
   * Only when the queue is empty: until then the kernel drops further events without saying so again, and whoever lists
   * too early would miss them for good.
   */
  #reportOverrun(): void {
    if (!this.#overrun) return
    this.#overrun = false
    this.#options.onEvent({ kind: 'overrun' })
  }

  #deliver(length: number): void {
    const events: NetlinkEvent[] = []
    try {
      forEachMessage(this.#buffer, length, (header, payload) => {
        const event = readEvent(header, payload)
        if (event !== undefined) events.push(event)
        return false
      })
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
      // A message that we cannot read tells of a change that we did not see.
      this.#overrun = true
    }
    for (const event of events) this.#options.onEvent(event)
  }
}

/** struct sockaddr_nl: any port id, no groups. */
function sockaddrNetlink(): Uint8Array {
  const address = new Uint16Array(6)
  address[0] = AF.NETLINK
  return new Uint8Array(address.buffer)
}

/**
 * Drops in the kernel what bears a port id (nlmsg_pid): thousands of own changes are then neither queued nor read. Loads are
 * in network order whatever the machine's is, so the number is swapped where they differ. Source: linux/filter.h.
 */
function exceptFrom(port: number): Uint8Array {
  const PID_OFFSET = 12
  const program = new DataView(new ArrayBuffer(4 * 8))
  const instruction = (index: number, code: number, jumpTrue: number, jumpFalse: number, value: number): void => {
    program.setUint16(8 * index, code, LITTLE)
    program.setUint8(8 * index + 2, jumpTrue)
    program.setUint8(8 * index + 3, jumpFalse)
    program.setUint32(8 * index + 4, value, LITTLE)
  }
  const swapped = new DataView(new ArrayBuffer(4))
  swapped.setUint32(0, port, LITTLE)
  instruction(0, 0x20, 0, 0, PID_OFFSET) // ld [12]
  instruction(1, 0x15, 0, 1, swapped.getUint32(0)) // jeq port
  instruction(2, 0x06, 0, 0, 0) // ret 0: drop
  instruction(3, 0x06, 0, 0, 0xffff_ffff) // ret all
  return new Uint8Array(program.buffer)
}

/** One notification; undefined for what is not ours to know (other families, bridge port messages). */
export function readEvent(header: Header, payload: Reader): NetlinkEvent | undefined {
  const family = payload.left > 0 ? payload.view.getUint8(payload.offset) : 0
  switch (header.type) {
    case RTM.NEWLINK:
    case RTM.DELLINK:
      // Bridges send messages of their own family about ports; a port that leaves its bridge is not a link that is gone.
      if (family !== AF.UNSPEC) return undefined
      return { kind: 'link', change: header.type === RTM.NEWLINK ? 'new' : 'delete', link: readLink(payload) }
    case RTM.NEWADDR:
    case RTM.DELADDR:
      return { kind: 'addr', change: header.type === RTM.NEWADDR ? 'new' : 'delete', addr: readAddr(payload) }
    case RTM.NEWROUTE:
    case RTM.DELROUTE: {
      const route = readRoute(payload)
      return route && { kind: 'route', change: header.type === RTM.NEWROUTE ? 'new' : 'delete', route }
    }
    case RTM.NEWRULE:
    case RTM.DELRULE: {
      const rule = readRule(payload)
      return rule && { kind: 'rule', change: header.type === RTM.NEWRULE ? 'new' : 'delete', rule }
    }
    case RTM.NEWNEIGH:
    case RTM.DELNEIGH: {
      const change = header.type === RTM.NEWNEIGH ? 'new' : 'delete'
      if (family === AF.BRIDGE) {
        const fdb = readFdb(payload)
        return fdb && { kind: 'fdb', change, fdb }
      }
      const neigh = readNeigh(payload)
      return neigh && { kind: 'neigh', change, neigh }
    }
    default:
      return undefined
  }
}
