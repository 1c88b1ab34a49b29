/** Sockets in another namespace, opened by an excursion and used from here. */

import type { Family } from '#ip/text.ts'
import { nativeSys } from '#sys/addon.ts'
import { SOCK } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'
import { PollWatcher } from '#sys/poll.ts'
import { decodeSockaddr, domainOf, encodeSockaddr, type Endpoint } from './sockaddr.ts'

/** Protocol numbers and socket options (linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h). */
export const IPPROTO = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const
const SOL_IP = 0
const SOL_IPV6 = 41
const SOL_RAW = 255
const IP_MTU_DISCOVER = 10
const IPV6_MTU_DISCOVER = 23
const IPV6_V6ONLY = 26
const IPV6_DONTFRAG = 62
const PMTUDISC_DO = 2
const ICMP_FILTER = 1
const ICMPV6_FILTER = 1

/** A datagram socket (raw or UDP) that lives in a namespace; datagrams come to `onDatagram`. */
export class DatagramSocket implements Disposable {
  readonly fd: number
  readonly #watcher: PollWatcher
  readonly #sys = nativeSys()
  readonly #buffer = new Uint8Array(65_536)
  readonly #drain: () => void

  constructor(
    netns: string,
    family: Family,
    type: number,
    protocol: number,
    onDatagram: (bytes: Uint8Array, from: Endpoint | undefined) => void,
  ) {
    const sys = this.#sys
    this.fd = inNetns(netns, () => check(sys.socket(domainOf(family), type | SOCK.NONBLOCK, protocol), 'socket', netns))
    try {
      this.#drain = () => this.#readAll(onDatagram)
      this.#watcher = new PollWatcher(this.fd, this.#drain)
      this.#watcher.start()
    } catch (error) {
      sys.close(this.fd)
      throw error
    }
  }

  /** The call's result: bytes sent or a negative errno. */
  send(bytes: Uint8Array, to: Uint8Array | null): number {
    return this.#sys.send(this.fd, bytes, 0, to)
  }

  /** Delivers what has come already, without waiting for the event loop: the kernel often has the answer before `send` returns. */
  poll(): void {
    this.#drain()
  }

  bind(endpoint: Endpoint): void {
    check(this.#sys.bind(this.fd, encodeSockaddr(endpoint)), 'bind', `${endpoint.ip} port ${endpoint.port}`)
  }

  connect(endpoint: Endpoint): number {
    return this.#sys.connect(this.fd, encodeSockaddr(endpoint))
  }

  setInt(level: number, name: number, value: number): void {
    check(this.#sys.setsockopt(this.fd, level, name, new Uint8Array(Int32Array.of(value).buffer)), 'setsockopt')
  }

  getInt(level: number, name: number): number {
    const out = new Int32Array(1)
    check(this.#sys.getsockopt(this.fd, level, name, new Uint8Array(out.buffer)), 'getsockopt')
    return out[0] ?? 0
  }

  setOption(level: number, name: number, value: Uint8Array): void {
    check(this.#sys.setsockopt(this.fd, level, name, value), 'setsockopt')
  }

  [Symbol.dispose](): void {
    this.#watcher[Symbol.dispose]()
    this.#sys.close(this.fd)
  }

  #readAll(onDatagram: (bytes: Uint8Array, from: Endpoint | undefined) => void): void {
    // Bounded, so that a flood cannot starve the event loop; the watcher calls again.
    for (let i = 0; i < 256; i++) {
      const address = new Uint8Array(28)
      const lengths = new Int32Array(3)
      const n = this.#sys.recvmsg(this.fd, this.#buffer, address, null, 0, new Uint8Array(lengths.buffer))
      if (n === -ERRNO.EAGAIN) break
      // A pending error (an ICMP answer to an earlier datagram) is reported once and then cleared.
      if (n < 0) continue
      onDatagram(this.#buffer.slice(0, n), decodeSockaddr(address.subarray(0, lengths[0])))
    }
    this.#watcher.start()
  }
}

/** Packets of this socket are never fragmented: what is too long is refused with EMSGSIZE, or answered by ICMP on the way. */
export function dontFragment(socket: DatagramSocket, family: Family): void {
  if (family === 4) {
    socket.setInt(SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    return
  }
  socket.setInt(SOL_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
  socket.setInt(SOL_IPV6, IPV6_DONTFRAG, 1)
}

/** The path MTU that a connected socket has learned. */
export const pathMtu = (socket: DatagramSocket, family: Family): number =>
  family === 4 ? socket.getInt(SOL_IP, 14) : socket.getInt(SOL_IPV6, 24)

export const onlyIpv6 = (socket: DatagramSocket): void => socket.setInt(SOL_IPV6, IPV6_V6ONLY, 1)

/** The kernel delivers only these ICMP types. */
export function acceptIcmpTypes(socket: DatagramSocket, family: Family, types: readonly number[]): void {
  if (family === 4) {
    const blocked = types.reduce((mask, type) => mask & ~(1 << type), 0xffff_ffff)
    socket.setOption(SOL_RAW, ICMP_FILTER, new Uint8Array(Int32Array.of(blocked).buffer))
    return
  }
  const blocked = new Int32Array(8).fill(-1)
  for (const type of types) blocked[type >> 5] = (blocked[type >> 5] ?? -1) & ~(1 << (type & 31))
  socket.setOption(IPPROTO.ICMPV6, ICMPV6_FILTER, new Uint8Array(blocked.buffer))
}
