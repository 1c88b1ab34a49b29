/**
 * Packets for the device, written in as few and large pieces as the kernel's own receive offload would make: consecutive segments of one
 * connection become one, with the first one's header. What differs in anything that matters, or is damaged, stays by itself.
 *
 * Rules as in the kernel's net/ipv4/tcp_offload.c and udp_offload.c: the same headers but for sequence, identification and length; the
 * same size each, the last may be smaller. Checksums are proved here, because the kernel trusts those of large pieces.
 */

import type { Sys } from '#sys/sys.ts'
import { ERRNO } from '#sys/errno.ts'
import { VNET_HEADER, VNET_SLOT, zones, type Arena } from './arena.ts'
import { Batch } from './batch.ts'
import { fold, isIntact, sum } from './checksum.ts'
import type { Counters } from './counters.ts'
import {
  FRAGMENT,
  IP,
  IP_HEADER,
  PROTOCOL,
  pseudoHeader,
  setHeaderCheck,
  TCP,
  TCP_FLAG,
  TCP_HEADER,
  UDP,
  UDP_HEADER,
} from './ipv4.ts'
import { GSO, writeVnet } from './vnet.ts'

export interface CoalescerOptions {
  readonly arena: Arena
  readonly sys: Pick<Sys, 'writeMany'>
  readonly device: number
  /** Bytes of the device's header before each packet; without it nothing is put together. */
  readonly header: 0 | typeof VNET_HEADER
  /** The kernel takes trains of UDP datagrams (Linux 6.2 and later). */
  readonly udp: boolean
  readonly counters: Counters
}

const MAX_PACKET = 65_535
const MAX_DATAGRAMS = 64

export class Coalescer {
  readonly #options: CoalescerOptions
  readonly #batch = new Batch()
  /** The piece that may still grow: its first packet, length of all headers, size and number of segments, payload so far; 0 segments means none. */
  #ip = 0
  #headers = 0
  #size = 0
  #count = 0
  #payload = 0
  #isProved = false
  #message = 0

  constructor(options: CoalescerOptions) {
    this.#options = options
  }

  /** Takes a packet that stays where it is until `flush`. */
  add(ip: number, length: number): void {
    const headers = this.#options.header === 0 ? 0 : this.#headersOf(ip, length)
    if (headers > 0 && this.#count > 0 && this.#follows(ip, length, headers)) {
      this.#append(ip, length, headers)
      return
    }
    this.#close()
    if (!this.#batch.hasRoomFor(1, 2)) this.flush()
    this.#begin(ip, length)
    if (headers === 0) return
    this.#ip = ip
    this.#headers = headers
    this.#size = length - headers
    this.#count = 1
    this.#payload = this.#size
    this.#isProved = false
    if (isLast(this.#options.arena.view, ip)) this.#close()
  }

  /** Writes all. What the kernel does not take is counted and gone. */
  flush(): void {
    this.#close()
    const { arena, sys, device, counters } = this.#options
    const { parts, table, messages } = this.#batch
    for (let first = 0; first < messages;) {
      counters.writeCalls++
      const rc = sys.writeMany(device, arena.bytes, parts, table, first, messages - first)
      if (rc > 0) first += rc
      else if (rc !== -ERRNO.EINTR) {
        counters.drops['write-failed']++
        first++
      }
    }
    this.#batch.clear()
  }

  #begin(ip: number, length: number): void {
    const { arena, header } = this.#options
    this.#message = this.#batch.begin()
    if (header !== 0) {
      const slot = zones.vnet + this.#message * VNET_SLOT
      arena.bytes.fill(0, slot, slot + VNET_HEADER)
      this.#batch.add(slot, VNET_HEADER)
    }
    this.#batch.add(ip, length)
  }

  /** Length of the headers of a packet that may be part of a larger one; 0 for one that may not. */
  #headersOf(ip: number, length: number): number {
    const { view } = this.#options.arena
    if (view.getUint8(ip) !== 0x45 || (view.getUint16(ip + IP.FRAGMENT) & ~FRAGMENT.DONT) !== 0) return 0
    const protocol = view.getUint8(ip + IP.PROTOCOL)
    const transport = ip + IP_HEADER
    if (protocol === PROTOCOL.TCP && length > IP_HEADER + TCP_HEADER) {
      const headers = IP_HEADER + (view.getUint8(transport + TCP.OFFSET) >>> 4) * 4
      const flags = view.getUint8(transport + TCP.FLAGS) & ~TCP_FLAG.PSH
      return headers >= IP_HEADER + TCP_HEADER && length > headers && flags === TCP_FLAG.ACK ? headers : 0
    }
    if (protocol === PROTOCOL.UDP && this.#options.udp && length > IP_HEADER + UDP_HEADER) {
      const isWhole = view.getUint16(transport + UDP.LENGTH) === length - IP_HEADER
      return isWhole && view.getUint16(transport + UDP.CHECK) !== 0 ? IP_HEADER + UDP_HEADER : 0
    }
    return 0
  }

  #follows(ip: number, length: number, headers: number): boolean {
    const { view } = this.#options.arena
    const open = this.#ip
    const more = length - headers
    if (headers !== this.#headers || more > this.#size || this.#headers + this.#payload + more > MAX_PACKET)
      return false
    if (!this.#batch.hasRoomFor(0, 1)) return false
    if (
      view.getUint32(ip + IP.SOURCE) !== view.getUint32(open + IP.SOURCE) ||
      view.getUint32(ip + IP.DESTINATION) !== view.getUint32(open + IP.DESTINATION) ||
      // Source and destination port.
      view.getUint32(ip + IP_HEADER) !== view.getUint32(open + IP_HEADER) ||
      view.getUint16(ip) !== view.getUint16(open) ||
      view.getUint16(ip + IP.FRAGMENT) !== view.getUint16(open + IP.FRAGMENT) ||
      // TTL and protocol.
      view.getUint16(ip + IP.TTL) !== view.getUint16(open + IP.TTL)
    )
      return false
    // The kernel numbers the packets it cuts one after the other; who forbids fragments does not care.
    const isNumbered = (view.getUint16(ip + IP.FRAGMENT) & FRAGMENT.DONT) === 0
    const id = (view.getUint16(open + IP.ID) + this.#count) & 0xffff
    if (isNumbered && view.getUint16(ip + IP.ID) !== id) return false
    const isTcp = view.getUint8(ip + IP.PROTOCOL) === PROTOCOL.TCP
    if (isTcp ? !this.#tcpFollows(view, ip + IP_HEADER, open + IP_HEADER) : this.#count >= MAX_DATAGRAMS) return false
    if (!this.#isProved && !isUndamaged(view, open, this.#headers + this.#size)) return false
    this.#isProved = true
    return isUndamaged(view, ip, length)
  }

  #tcpFollows(view: DataView, tcp: number, open: number): boolean {
    const sequence = (view.getUint32(open + TCP.SEQUENCE) + this.#payload) >>> 0
    if (view.getUint32(tcp + TCP.SEQUENCE) !== sequence) return false
    if (view.getUint32(tcp + TCP.ACK) !== view.getUint32(open + TCP.ACK)) return false
    if (view.getUint16(tcp + TCP.WINDOW) !== view.getUint16(open + TCP.WINDOW)) return false
    for (let at = TCP_HEADER; at < this.#headers - IP_HEADER; at += 4)
      if (view.getUint32(tcp + at) !== view.getUint32(open + at)) return false
    return true
  }

  #append(ip: number, length: number, headers: number): void {
    const more = length - headers
    this.#batch.add(ip + headers, more)
    this.#count++
    this.#payload += more
    const { view } = this.#options.arena
    const isPushed = isLast(view, ip)
    if (isPushed) {
      const flags = this.#ip + IP_HEADER + TCP.FLAGS
      view.setUint8(flags, view.getUint8(flags) | TCP_FLAG.PSH)
    }
    if (isPushed || more < this.#size) this.#close()
  }

  /** Makes the header of the open piece fit all of it. */
  #close(): void {
    const count = this.#count
    this.#count = 0
    if (count < 2) return
    const { view } = this.#options.arena
    const ip = this.#ip
    const total = this.#headers + this.#payload
    const transport = ip + IP_HEADER
    const protocol = view.getUint8(ip + IP.PROTOCOL)
    const isTcp = protocol === PROTOCOL.TCP
    view.setUint16(ip + IP.LENGTH, total)
    setHeaderCheck(view, ip)
    if (!isTcp) view.setUint16(transport + UDP.LENGTH, total - IP_HEADER)
    const checksumOffset = isTcp ? TCP.CHECK : UDP.CHECK
    view.setUint16(transport + checksumOffset, fold(pseudoHeader(view, ip, protocol, total - IP_HEADER)))
    writeVnet(view, zones.vnet + this.#message * VNET_SLOT, {
      gso: isTcp ? GSO.TCP4 : GSO.UDP_L4,
      headerLength: this.#headers,
      size: this.#size,
      checksumStart: IP_HEADER,
      checksumOffset,
    })
  }
}

/** PSH: what follows belongs to another piece. */
const isLast = (view: DataView, ip: number): boolean =>
  view.getUint8(ip + IP.PROTOCOL) === PROTOCOL.TCP && (view.getUint8(ip + IP_HEADER + TCP.FLAGS) & TCP_FLAG.PSH) !== 0

/** Both checksums of a TCP or UDP packet without IP options. */
function isUndamaged(view: DataView, ip: number, length: number): boolean {
  const transport = ip + IP_HEADER
  const pseudo = pseudoHeader(view, ip, view.getUint8(ip + IP.PROTOCOL), length - IP_HEADER)
  return isIntact(sum(view, ip, transport)) && isIntact(pseudo + sum(view, transport, ip + length))
}
