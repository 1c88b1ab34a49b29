/** For tests: both directions of a tunnel without a kernel, and what a kernel would make of their packets. */

import assert from 'node:assert/strict'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { newArena, VNET_HEADER } from './arena.ts'
import { checksumOf, isIntact, sum } from './checksum.ts'
import { Coalescer } from './coalesce.ts'
import { newCounters, type Counters } from './counters.ts'
import { FakeWire } from './fake-wire.ts'
import { DESTINATION, packet, SOURCE } from './fixture.ts'
import { Inbound } from './inbound.ts'
import { decrementTtl, IP, pseudoHeader, TCP } from './ipv4.ts'
import { Outbound } from './outbound.ts'
import { PeerIndex } from './peers.ts'
import { Sender } from './sender.ts'

export const PEER = 0xc0a8_0002
export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

/** Both checksums of a TCP or UDP packet. */
export function isWhole(bytes: Uint8Array): boolean {
  const view = viewOf(bytes)
  const pseudo = pseudoHeader(view, 0, view.getUint8(IP.PROTOCOL), bytes.length - 20)
  return (
    view.getUint16(IP.LENGTH) === bytes.length &&
    isIntact(sum(view, 0, 20)) &&
    isIntact(pseudo + sum(view, 20, bytes.length))
  )
}

/** As the receiving end of a tunnel: one hop less. */
export function hop(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes)
  assert.ok(decrementTtl(viewOf(copy), 0))
  return copy
}

/** A node with 10.244.1.0/24 and two peers. */
export function bench(
  options: {
    readonly header?: 0 | 12
    readonly segment?: boolean
    readonly anySource?: boolean
    readonly udp?: boolean
  } = {},
) {
  const arena = newArena()
  const sys = new FakeWire()
  const counters: Counters = newCounters()
  const peers = new PeerIndex()
  peers.set(cidrText('10.244.2.0/24'), ipText('192.168.0.2'))
  peers.set(cidrText('10.244.3.0/24'), ipText('192.168.0.3'))
  const notes: number[] = []
  const refused: string[] = []
  const sender = new Sender({
    arena,
    sys,
    socket: 4,
    port: 8285,
    counters,
    segment: options.segment ?? true,
    onNoSegment: (errno) => notes.push(errno),
  })
  const header = options.header ?? VNET_HEADER
  const writer = new Coalescer({ arena, sys, device: 3, header, udp: options.udp ?? true, counters })
  const outbound = new Outbound({
    arena,
    sys,
    device: 3,
    header,
    peers,
    sender,
    counters,
    refuse: (error, ip) => refused.push(`${error.type} ${arena.view.getUint32(ip + IP.DESTINATION).toString(16)}`),
  })
  const inbound = new Inbound({
    arena,
    sys,
    socket: 4,
    peers,
    writer,
    counters,
    network: { first: 0x0af4_0000, hostBits: 16 },
    subnet: { first: 0x0af4_0100, hostBits: 8 },
    anySource: options.anySource ?? false,
    refuse: (error) => refused.push(`${error.type} back`),
    onUnknown: (from) => notes.push(from >>> 0),
  })
  return { arena, sys, counters, peers, notes, refused, sender, writer, outbound, inbound }
}

/** To a pod of the first node, with the checksums it needs. */
export function redirect(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const view = viewOf(copy)
  const isTcp = view.getUint8(IP.PROTOCOL) === 6
  const transport = isTcp ? 20 + TCP.CHECK : 26
  view.setUint32(IP.SOURCE, DESTINATION)
  view.setUint32(IP.DESTINATION, SOURCE)
  view.setUint16(IP.CHECK, 0)
  view.setUint16(IP.CHECK, checksumOf(sum(view, 0, 20)))
  view.setUint16(transport, 0)
  const total = pseudoHeader(view, 0, view.getUint8(IP.PROTOCOL), copy.length - 20) + sum(view, 20, copy.length)
  // Only to UDP does 0 mean that there is none.
  view.setUint16(transport, checksumOf(total) || (isTcp ? 0 : 0xffff))
  return copy
}

/** What the kernel makes of a piece that was written: the packets that it stands for. */
export function recut(written: Uint8Array): Uint8Array[] {
  const header = viewOf(written)
  const bytes = written.slice(VNET_HEADER)
  if (header.getUint8(1) === 0) {
    assert.equal(header.getUint8(0), 0, 'a plain packet says nothing about checksums')
    return [bytes]
  }
  const view = viewOf(bytes)
  const headers = header.getUint16(2, true)
  const size = header.getUint16(4, true)
  const isTcp = view.getUint8(IP.PROTOCOL) === 6
  const payload = bytes.subarray(headers)
  const count = Math.ceil(payload.length / size)
  return Array.from({ length: count }, (_, i) => {
    const some = payload.subarray(i * size, (i + 1) * size)
    const flags = view.getUint8(20 + TCP.FLAGS)
    return packet({
      source: view.getUint32(IP.SOURCE),
      destination: view.getUint32(IP.DESTINATION),
      protocol: isTcp ? 6 : 17,
      ports: [view.getUint16(20), view.getUint16(22)],
      id: (view.getUint16(IP.ID) + i) & 0xffff,
      fragment: view.getUint16(IP.FRAGMENT),
      ttl: view.getUint8(IP.TTL),
      ...(isTcp
        ? {
            sequence: (view.getUint32(20 + TCP.SEQUENCE) + i * size) >>> 0,
            ack: view.getUint32(20 + TCP.ACK),
            flags: i < count - 1 ? flags & ~8 : flags,
            options: bytes.slice(40, headers),
          }
        : {}),
      payload: Uint8Array.from(some),
    })
  })
}

/** A packet that must not be fragmented needs no number: a large piece counts up from the first one's. */
export function withoutId(bytes: Uint8Array): string {
  const copy = Uint8Array.from(bytes)
  const view = viewOf(copy)
  if ((view.getUint16(IP.FRAGMENT) & 0x4000) !== 0) {
    view.setUint16(IP.ID, 0)
    view.setUint16(IP.CHECK, 0)
  }
  return Buffer.from(copy).toString('hex')
}
