/**
 * Cuts a large segment of the kernel's into the packets that it stands for, as a device with segmentation offload would: each gets
 * a header of its own, the payload stays where it is.
 */

import { HEADER_SLOT, zones, type Arena } from './arena.ts'
import { checksumOf, fold, sum } from './checksum.ts'
import { headerLength, IP, PROTOCOL, pseudoHeader, TCP, TCP_FLAG, TCP_HEADER, UDP, UDP_HEADER } from './ipv4.ts'
import { GSO } from './vnet.ts'

/** Where the cut packets go; `Sender` is one. */
export interface SegmentSink {
  addParts(peer: number, header: number, headerLength: number, payload: number, payloadLength: number): void
}

export interface Large {
  /** Offset and length of the packet in the arena. */
  readonly ip: number
  readonly length: number
  /** GSO type and size from the device's header. */
  readonly gso: number
  readonly size: number
}

/** Whether it is what the device's header says, and so can be cut. */
export function isLarge(view: DataView, { ip, length, gso, size }: Large): boolean {
  const header = headerLength(view, ip)
  const protocol = view.getUint8(ip + IP.PROTOCOL)
  if (size === 0) return false
  if (gso === GSO.TCP4 && protocol === PROTOCOL.TCP && length >= header + TCP_HEADER) {
    const tcp = (view.getUint8(ip + header + TCP.OFFSET) >>> 4) * 4
    return tcp >= TCP_HEADER && header + tcp < length
  }
  return gso === GSO.UDP_L4 && protocol === PROTOCOL.UDP && length > header + UDP_HEADER
}

/**
 * Cuts a segment that `isLarge`, with each header in the slot that `nextSlot` gives. The TTL must be right already; the IP header's checksum need not be.
 */
export function cut(arena: Arena, large: Large, peer: number, nextSlot: () => number, sink: SegmentSink): void {
  const { bytes, view } = arena
  const { ip, length, size } = large
  const ipLength = headerLength(view, ip)
  const isTcp = view.getUint8(ip + IP.PROTOCOL) === PROTOCOL.TCP
  const transport = ip + ipLength
  const headers = ipLength + (isTcp ? (view.getUint8(transport + TCP.OFFSET) >>> 4) * 4 : UDP_HEADER)
  const first = ip + headers
  const end = ip + length
  const id = view.getUint16(ip + IP.ID)
  const sequence = isTcp ? view.getUint32(transport + TCP.SEQUENCE) : 0
  const flags = isTcp ? view.getUint8(transport + TCP.FLAGS) : 0

  // What all headers have in common is summed up once, with the fields that differ empty.
  view.setUint16(ip + IP.LENGTH, 0)
  view.setUint16(ip + IP.ID, 0)
  view.setUint16(ip + IP.CHECK, 0)
  if (isTcp) {
    view.setUint32(transport + TCP.SEQUENCE, 0)
    view.setUint8(transport + TCP.FLAGS, 0)
    view.setUint16(transport + TCP.CHECK, 0)
  } else {
    view.setUint16(transport + UDP.LENGTH, 0)
    view.setUint16(transport + UDP.CHECK, 0)
  }
  const ipSum = sum(view, ip, transport)
  const common =
    sum(view, transport, first) + pseudoHeader(view, ip, isTcp ? PROTOCOL.TCP : PROTOCOL.UDP, headers - ipLength)

  for (let payload = first, i = 0; payload < end; payload += size, i++) {
    const at = zones.headers + nextSlot() * HEADER_SLOT
    const some = Math.min(size, end - payload)
    bytes.copyWithin(at, ip, first)
    const total = headers + some
    const thisId = (id + i) & 0xffff
    view.setUint16(at + IP.LENGTH, total)
    view.setUint16(at + IP.ID, thisId)
    view.setUint16(at + IP.CHECK, checksumOf(ipSum + total + thisId))
    const body = at + ipLength
    let check = common + some + sum(view, payload, payload + some)
    if (isTcp) {
      const thisSequence = (sequence + (payload - first)) >>> 0
      let thisFlags = flags
      if (payload + some < end) thisFlags &= ~(TCP_FLAG.FIN | TCP_FLAG.PSH)
      // RFC 3168: the first of them tells that the window was reduced.
      if (i > 0) thisFlags &= ~TCP_FLAG.CWR
      view.setUint32(body + TCP.SEQUENCE, thisSequence)
      view.setUint8(body + TCP.FLAGS, thisFlags)
      check += thisSequence + thisFlags
      view.setUint16(body + TCP.CHECK, checksumOf(check))
    } else {
      const datagram = UDP_HEADER + some
      view.setUint16(body + UDP.LENGTH, datagram)
      // 0 would mean that there is no checksum (RFC 768).
      view.setUint16(body + UDP.CHECK, ~fold(check + datagram) & 0xffff || 0xffff)
    }
    sink.addParts(peer, at, headers, payload, some)
  }
}
