/** A running tunnel: device, socket, and the loop between them. Owns both descriptors. */

import { formatIp, ip4 } from '#ip/address.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { nativeSys } from '#sys/addon.ts'
import { ERRNO, errnoName } from '#sys/errno.ts'
import { PollWatcher } from '#sys/poll.ts'
import type { Sys } from '#sys/sys.ts'
import { attachTun, type TunDevice } from '#sys/tun.ts'
import { newArena, zones, type Arena } from './arena.ts'
import { Coalescer } from './coalesce.ts'
import type { Counters } from './counters.ts'
import { IcmpBudget, mayAnswer, writeError, type IcmpError } from './icmp.ts'
import { Inbound, type Block } from './inbound.ts'
import { Outbound } from './outbound.ts'
import { v4Subnet, type PeerIndex } from './peers.ts'
import { Sender } from './sender.ts'
import { openRelaySocket } from './socket.ts'

export interface TunnelConf {
  readonly device: string
  /** Where the socket is bound; the port is that of all peers too. */
  readonly address: IpText
  readonly port: number
  readonly network: CidrText
  readonly subnet: CidrText
  readonly anySource: boolean
}

/** Which help of the kernel's is in use. */
export interface Offloads {
  /** Large segments from and to the device, by protocol. */
  readonly tcp: boolean
  readonly udp: boolean
  /** Trains of datagrams to and from the socket. */
  readonly send: boolean
  readonly receive: boolean
}

export interface TunnelOptions {
  readonly conf: TunnelConf
  readonly peers: PeerIndex
  readonly counters: Counters
  /** Which offloads to ask for; all unless false. */
  readonly offload?: { readonly device?: boolean; readonly socket?: boolean }
  readonly sys?: Sys
  /** The device or the socket broke: nothing is carried any more. */
  readonly onLost: (why: string) => void
  readonly onNote: (note: string, fields: Readonly<Record<string, string | number>>) => void
}

/** Turns in one go; after them the event loop is asked for other things to do, and comes back at once. */
const MAX_TURNS = 64
/** Between two notes about strangers. */
const NOTE_MS = 10_000

export class Tunnel implements Disposable {
  readonly offloads: () => Offloads
  readonly #sys: Sys
  readonly #arena: Arena = newArena()
  readonly #options: TunnelOptions
  readonly #device: TunDevice
  readonly #socket: number
  readonly #outbound: Outbound
  readonly #inbound: Inbound
  readonly #writer: Coalescer
  readonly #sender: Sender
  readonly #watchers: readonly PollWatcher[]
  readonly #budget = new IcmpBudget(() => performance.now())
  /** The node's own first address: what errors come from. */
  readonly #self: number
  #noted = -NOTE_MS
  #isOpen = true

  /** Throws `SysError` for the port, the address or the device, `TunError` on a machine without TUN devices. */
  constructor(options: TunnelOptions) {
    const { conf, peers, counters, offload = {}, sys = nativeSys() } = options
    this.#sys = sys
    this.#options = options
    this.#self = v4Subnet(conf.subnet).first
    const arena = this.#arena
    const { fd: socket, segment, receiveTrains } = openRelaySocket(conf.address, conf.port, offload.socket ?? true, sys)
    this.#socket = socket
    try {
      this.#device = attachTun(conf.device, offload.device ?? true, sys)
    } catch (error) {
      sys.close(socket)
      throw error
    }
    const { fd: device, header, udp, tcp } = this.#device
    this.#sender = new Sender({
      arena,
      sys,
      socket,
      port: conf.port,
      counters,
      segment,
      onNoSegment: (errno) =>
        options.onNote('the device cannot cut trains of datagrams; sending them one by one', {
          errno: errnoName(errno),
        }),
    })
    this.#writer = new Coalescer({ arena, sys, device, header, udp, counters })
    this.#outbound = new Outbound({
      arena,
      sys,
      device,
      header,
      peers,
      sender: this.#sender,
      counters,
      refuse: (error, ip, length) => this.#answerHere(error, ip, length),
    })
    this.#inbound = new Inbound({
      arena,
      sys,
      socket,
      peers,
      writer: this.#writer,
      counters,
      network: blockOf(conf.network),
      subnet: blockOf(conf.subnet),
      anySource: conf.anySource,
      refuse: (error, ip, length, sender) => this.#answerThere(error, ip, length, sender),
      onUnknown: (sender) => this.#stranger(sender),
    })
    this.offloads = () => ({ tcp, udp, send: this.#sender.segments, receive: receiveTrains })
    this.#watchers = [device, socket].map((fd) => new PollWatcher(fd, (status) => this.#run(status), sys))
    for (const watcher of this.#watchers) watcher.start()
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    for (const watcher of this.#watchers) watcher[Symbol.dispose]()
    this.#sys.close(this.#device.fd)
    this.#sys.close(this.#socket)
  }

  /** Carries until both sides are empty, or others have waited long enough. */
  #run(status: number): void {
    if (!this.#isOpen) return
    if (status < 0) this.#drainError()
    for (let turn = 0; turn < MAX_TURNS && this.#isOpen; turn++) {
      const out = this.#outbound.turn()
      if (out < 0 && !isPassing(-out)) return this.#lost(`reading ${this.#options.conf.device}: ${errnoName(-out)}`)
      const into = this.#inbound.turn()
      if (into < 0 && !isPassing(-into)) return this.#lost(`receiving: ${errnoName(-into)}`)
      if (out <= 0 && into <= 0) break
    }
    if (status >= 0 || !this.#isOpen) return
    // libuv stops a watcher that saw an error.
    for (const watcher of this.#watchers) watcher.start()
  }

  /** An error that waits at a socket is taken away by asking for it. */
  #drainError(): void {
    const SOL_SOCKET = 1
    const SO_ERROR = 4
    this.#sys.getsockopt(this.#socket, SOL_SOCKET, SO_ERROR, new Uint8Array(4))
  }

  #lost(why: string): void {
    this[Symbol.dispose]()
    this.#options.onLost(why)
  }

  #answerHere(error: IcmpError, ip: number, length: number): void {
    const { view } = this.#arena
    if (!mayAnswer(view, ip, length) || !this.#budget.take()) return
    this.#options.counters.icmpErrors++
    const total = writeError(this.#arena, zones.scratch, error, this.#self, ip, length)
    this.#writer.add(zones.scratch, total)
    this.#writer.flush()
  }

  #answerThere(error: IcmpError, ip: number, length: number, sender: number): void {
    const { view } = this.#arena
    if (!mayAnswer(view, ip, length) || !this.#budget.take()) return
    this.#options.counters.icmpErrors++
    const total = writeError(this.#arena, zones.scratch, error, this.#self, ip, length)
    this.#sender.add(sender, zones.scratch, total)
    this.#sender.flush()
  }

  #stranger(sender: number): void {
    const now = performance.now()
    if (now - this.#noted < NOTE_MS) return
    this.#noted = now
    this.#options.onNote(
      'dropped a datagram from an address that no peer publishes; set "AnySource" in the Backend of net-conf.json if a peer is behind address translation',
      { sender: formatIp(ip4(sender >>> 0)) },
    )
  }
}

/** Trouble of the moment: nothing there, interrupted, device down, no memory. */
const isPassing = (errno: number): boolean =>
  errno === ERRNO.EAGAIN ||
  errno === ERRNO.EINTR ||
  errno === ERRNO.EIO ||
  errno === ERRNO.ENOBUFS ||
  errno === ERRNO.ENOMEM

function blockOf(cidr: CidrText): Block {
  const { first, length } = v4Subnet(cidr)
  return { first: first | 0, hostBits: 32 - length }
}
