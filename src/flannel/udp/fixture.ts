/** For tests: packets as pods send them. */

import { VNET_HEADER, type Arena } from './arena.ts'
import { checksumOf, fold, sum } from './checksum.ts'
import { IP, IP_HEADER, PROTOCOL, pseudoHeader, setHeaderCheck, TCP, UDP_HEADER } from './ipv4.ts'

export interface PacketShape {
  readonly source?: number
  readonly destination?: number
  readonly ports?: readonly [number, number]
  readonly protocol?: 6 | 17
  readonly id?: number
  readonly ttl?: number
  readonly fragment?: number
  readonly sequence?: number
  readonly ack?: number
  readonly flags?: number
  /** TCP options, a multiple of four bytes. */
  readonly options?: Uint8Array
  readonly payload: Uint8Array
}

export const SOURCE = 0x0af4_0102
export const DESTINATION = 0x0af4_0202

/** A packet with checksums that are right. */
export function packet(shape: PacketShape): Uint8Array {
  const { options = new Uint8Array(0), payload, protocol = PROTOCOL.TCP, ports = [40_000, 80] } = shape
  const transport = protocol === PROTOCOL.TCP ? 20 + options.length : UDP_HEADER
  const bytes = new Uint8Array(IP_HEADER + transport + payload.length)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, 0x45)
  view.setUint16(IP.LENGTH, bytes.length)
  view.setUint16(IP.ID, shape.id ?? 7)
  view.setUint16(IP.FRAGMENT, shape.fragment ?? 0x4000)
  view.setUint8(IP.TTL, shape.ttl ?? 64)
  view.setUint8(IP.PROTOCOL, protocol)
  view.setUint32(IP.SOURCE, shape.source ?? SOURCE)
  view.setUint32(IP.DESTINATION, shape.destination ?? DESTINATION)
  setHeaderCheck(view, 0)
  view.setUint16(20, ports[0])
  view.setUint16(22, ports[1])
  bytes.set(payload, IP_HEADER + transport)
  const length = transport + payload.length
  if (protocol === PROTOCOL.TCP) {
    view.setUint32(20 + TCP.SEQUENCE, shape.sequence ?? 1000)
    view.setUint32(20 + TCP.ACK, shape.ack ?? 2000)
    view.setUint8(20 + TCP.OFFSET, (transport / 4) << 4)
    view.setUint8(20 + TCP.FLAGS, shape.flags ?? 0x10)
    view.setUint16(20 + TCP.WINDOW, 512)
    bytes.set(options, 40)
    view.setUint16(20 + TCP.CHECK, checksumOf(pseudoHeader(view, 0, protocol, length) + sum(view, 20, bytes.length)))
  } else {
    view.setUint16(24, length)
    view.setUint16(26, ~fold(pseudoHeader(view, 0, protocol, length) + sum(view, 20, bytes.length)) & 0xffff || 0xffff)
  }
  return bytes
}

/** Payload that tells where it is from. */
export const payloadOf = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251)

/** A packet as a device with offloads hands it over: the checksum begun only, the rest in the header before it. */
export function largePacket(shape: PacketShape, size: number): Uint8Array {
  const bytes = packet(shape)
  const view = new DataView(bytes.buffer)
  const isTcp = (shape.protocol ?? PROTOCOL.TCP) === PROTOCOL.TCP
  const field = isTcp ? TCP.CHECK : 6
  view.setUint16(20 + field, fold(pseudoHeader(view, 0, shape.protocol ?? PROTOCOL.TCP, bytes.length - 20)))
  const whole = new Uint8Array(VNET_HEADER + bytes.length)
  whole.set(bytes, VNET_HEADER)
  const header = new DataView(whole.buffer)
  header.setUint8(0, 1)
  header.setUint8(1, size === 0 ? 0 : isTcp ? 1 : 5)
  header.setUint16(4, size, true)
  header.setUint16(6, 20, true)
  header.setUint16(8, field, true)
  return whole
}

/** What came into the arena at `at`. */
export function place(arena: Arena, at: number, bytes: Uint8Array): number {
  arena.bytes.set(bytes, at)
  return at
}
