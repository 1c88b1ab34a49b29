/**
 * Datagrams to peers: collects them, and gives the kernel whole trains of equal size to one peer as one message (UDP_SEGMENT,
 * linux/udp.h). Each datagram on the wire is one packet, as flannel wants it.
 */

import { AF } from '#sys/constants.ts'
import { ERRNO } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'
import { CONTROL_SLOT, NAME_SLOT, zones, type Arena } from './arena.ts'
import { Batch } from './batch.ts'
import type { Counters } from './counters.ts'

const SOL_UDP = 17
const UDP_SEGMENT = 103

/** UDP_MAX_SEGMENTS of older kernels, and the largest payload of a UDP datagram over IPv4. */
const MAX_SEGMENTS = 64
const MAX_BYTES = 65_507

export interface SenderOptions {
  readonly arena: Arena
  readonly sys: Pick<Sys, 'sendMany'>
  readonly socket: number
  /** UDP port of all peers. */
  readonly port: number
  readonly counters: Counters
  /** Give trains to the kernel whole. */
  readonly segment: boolean
  /** The kernel or the device does not cut trains: from now on each datagram is sent by itself. */
  readonly onNoSegment: (errno: number) => void
}

export class Sender {
  readonly #options: SenderOptions
  readonly #batch = new Batch()
  /** For datagrams of a train that the kernel refused. */
  readonly #single = new Batch()
  #segments: boolean
  /** The open train: peer, size of its datagrams, how many, bytes in all. */
  #peer = 0
  #size = 0
  #count = 0
  #bytes = 0
  #message = -1
  /** Parts of each open or closed message belong to datagrams of this many parts. */
  readonly #partsPerDatagram = new Uint8Array(64)

  constructor(options: SenderOptions) {
    this.#options = options
    this.#segments = options.segment
  }

  get segments(): boolean {
    return this.#segments
  }

  /** Adds a datagram that lies in one piece; `peer` is its IPv4 address as 32 bits. Flushes by itself when there is no room. */
  add(peer: number, offset: number, length: number): void {
    if (!this.#joins(peer, length, 1)) this.#begin(peer, length, 1)
    this.#batch.add(offset, length)
    this.#note(length)
  }

  /** Adds a datagram of a header and a payload that lie apart. */
  addParts(peer: number, header: number, headerLength: number, payload: number, payloadLength: number): void {
    const length = headerLength + payloadLength
    if (!this.#joins(peer, length, 2)) this.#begin(peer, length, 2)
    this.#batch.add(header, headerLength)
    this.#batch.add(payload, payloadLength)
    this.#note(length)
  }

  /** Sends all. What the kernel does not take is counted and gone. */
  flush(): void {
    this.#close()
    const { arena, sys, socket, counters } = this.#options
    const batch = this.#batch
    const total = batch.messages
    for (let first = 0; first < total;) {
      counters.sendCalls++
      const rc = sys.sendMany(socket, arena.bytes, batch.parts, batch.table, first, total - first, 0)
      if (rc > 0) {
        first += rc
        continue
      }
      if (rc === -ERRNO.EINTR) continue
      this.#failed(first++, -rc)
      // The kernel waited for room as long as it may; one wait is enough for all of them.
      if (rc === -ERRNO.EAGAIN) while (first < total) this.#failed(first++, ERRNO.EAGAIN)
    }
    batch.clear()
    this.#message = -1
  }

  #joins(peer: number, length: number, parts: number): boolean {
    return (
      this.#segments &&
      this.#message >= 0 &&
      this.#peer === peer &&
      length <= this.#size &&
      this.#count < MAX_SEGMENTS &&
      this.#bytes + length <= MAX_BYTES &&
      this.#partsPerDatagram[this.#message] === parts &&
      this.#batch.hasRoomFor(0, parts)
    )
  }

  #begin(peer: number, length: number, parts: number): void {
    this.#close()
    if (!this.#batch.hasRoomFor(1, parts)) this.flush()
    const { view } = this.#options.arena
    const message = this.#batch.begin()
    const name = zones.names + message * NAME_SLOT
    view.setUint16(name, AF.INET, true)
    view.setUint16(name + 2, this.#options.port)
    view.setUint32(name + 4, peer)
    this.#batch.setAddress(message, name, NAME_SLOT)
    this.#partsPerDatagram[message] = parts
    this.#message = message
    this.#peer = peer
    this.#size = length
    this.#count = 0
    this.#bytes = 0
  }

  #note(length: number): void {
    this.#count++
    this.#bytes += length
    const { counters } = this.#options
    counters.sentPackets++
    counters.sentBytes += length
    // A shorter one is a train's last.
    if (length < this.#size) this.#close()
  }

  #close(): void {
    if (this.#message >= 0 && this.#count > 1) this.#setSegment(this.#message, this.#size)
    this.#message = -1
  }

  /** struct cmsghdr and the size. */
  #setSegment(message: number, size: number): void {
    const { view } = this.#options.arena
    const at = zones.controls + message * CONTROL_SLOT
    view.setUint32(at, 18, true)
    view.setUint32(at + 4, 0)
    view.setInt32(at + 8, SOL_UDP, true)
    view.setInt32(at + 12, UDP_SEGMENT, true)
    view.setUint16(at + 16, size, true)
    this.#batch.setControl(message, at, 24)
  }

  #failed(message: number, errno: number): void {
    const datagrams = this.#datagramsOf(message)
    if (datagrams.length > 1 && (errno === ERRNO.EIO || errno === ERRNO.EINVAL || errno === ERRNO.EMSGSIZE)) {
      // EIO: the device cannot compute the checksums that cutting needs. The others: the way's MTU is less than a datagram, which may end.
      if (errno === ERRNO.EIO) {
        this.#segments = false
        this.#options.onNoSegment(errno)
      }
      this.#oneByOne(message, datagrams)
      return
    }
    this.#lost(datagrams, errno === ERRNO.EAGAIN || errno === ERRNO.ENOBUFS ? 'queue-full' : 'send-failed')
  }

  #datagramsOf(message: number): readonly (readonly number[])[] {
    const parts = this.#batch.partsOf(message)
    const each = (this.#partsPerDatagram[message] ?? 1) * 2
    const datagrams: number[][] = []
    for (let at = 0; at < parts.length; at += each) datagrams.push(parts.slice(at, at + each))
    return datagrams
  }

  #oneByOne(message: number, datagrams: readonly (readonly number[])[]): void {
    const { arena, sys, socket, counters } = this.#options
    const single = this.#single
    for (const datagram of datagrams) {
      single.clear()
      const number = single.begin()
      single.setAddress(number, this.#batch.addressOf(message), NAME_SLOT)
      for (let i = 0; i < datagram.length; i += 2) single.add(datagram[i] ?? 0, datagram[i + 1] ?? 0)
      counters.sendCalls++
      const rc = sys.sendMany(socket, arena.bytes, single.parts, single.table, 0, 1, 0)
      if (rc < 0) this.#lost([datagram], rc === -ERRNO.EAGAIN ? 'queue-full' : 'send-failed')
    }
  }

  #lost(datagrams: readonly (readonly number[])[], why: 'queue-full' | 'send-failed'): void {
    const { counters } = this.#options
    counters.drops[why] += datagrams.length
    counters.sentPackets -= datagrams.length
    for (const datagram of datagrams)
      for (let i = 1; i < datagram.length; i += 2) counters.sentBytes -= datagram[i] ?? 0
  }
}
