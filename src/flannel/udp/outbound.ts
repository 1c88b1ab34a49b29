/** From the device to the peers: one turn reads what the node's kernel sends to other nodes' pods and hands it to the socket. */

import { ERRNO } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'
import { HEADER_SLOTS, PACKET_ROOM, READ_ROOM, zones, type Arena, type VNET_HEADER } from './arena.ts'
import { fold, sum } from './checksum.ts'
import type { Counters } from './counters.ts'
import { ICMP, type IcmpError } from './icmp.ts'
import { decrementTtl, IP, packetLength } from './ipv4.ts'
import type { PeerIndex } from './peers.ts'
import { cut, isLarge } from './segment.ts'
import type { Sender } from './sender.ts'
import { GSO, NEEDS_CHECKSUM, VNET } from './vnet.ts'

export interface OutboundOptions {
  readonly arena: Arena
  readonly sys: Pick<Sys, 'readMany'>
  readonly device: number
  /** Bytes of the device's header before each packet: 12, or 0 without offloads. */
  readonly header: 0 | typeof VNET_HEADER
  readonly peers: PeerIndex
  readonly sender: Sender
  readonly counters: Counters
  /** Tells the packet's source, which is behind the device. */
  readonly refuse: (error: IcmpError, ip: number, length: number) => void
}

/** Packets read at once. */
const MAX_PACKETS = 64

export class Outbound {
  readonly #options: OutboundOptions
  readonly #found = new Int32Array(MAX_PACKETS * 2)
  readonly #foundBytes = new Uint8Array(this.#found.buffer)
  readonly #room: Uint8Array
  /** Header slots in use. */
  #slots = 0

  constructor(options: OutboundOptions) {
    this.#options = options
    this.#room = options.arena.bytes.subarray(0, zones.read + READ_ROOM)
  }

  /** Returns how many packets were read, or -errno. */
  turn(): number {
    const { sys, device, sender } = this.#options
    const count = sys.readMany(device, this.#room, zones.read, PACKET_ROOM, this.#foundBytes, MAX_PACKETS)
    if (count <= 0) return count === -ERRNO.EAGAIN ? 0 : count
    for (let i = 0; i < count; i++) this.#packet(this.#found[i * 2] ?? 0, this.#found[i * 2 + 1] ?? 0)
    this.#flush(sender)
    return count
  }

  #flush(sender: Sender): void {
    sender.flush()
    this.#slots = 0
  }

  #packet(at: number, found: number): void {
    const { arena, header, peers, sender, counters, refuse } = this.#options
    const { view } = arena
    const ip = at + header
    const length = packetLength(view, ip, found - header)
    if (length <= 0) {
      counters.drops[length === 0 ? 'not-ipv4' : 'malformed']++
      return
    }
    const peer = peers.find(view.getInt32(ip + IP.DESTINATION))
    if (peer === undefined) {
      counters.drops['no-peer']++
      refuse(ICMP.NET_UNREACHABLE, ip, length)
      return
    }
    if (!decrementTtl(view, ip)) {
      counters.drops.ttl++
      refuse(ICMP.TTL_EXCEEDED, ip, length)
      return
    }
    const gso = header === 0 ? GSO.NONE : view.getUint8(at + VNET.GSO_TYPE) & ~GSO.ECN
    if (gso === GSO.NONE) {
      if (
        header !== 0 &&
        (view.getUint8(at + VNET.FLAGS) & NEEDS_CHECKSUM) !== 0 &&
        !completeChecksum(view, at, ip, length)
      )
        counters.drops.malformed++
      else sender.add(peer.ip, ip, length)
      return
    }
    const large = { ip, length, gso, size: view.getUint16(at + VNET.GSO_SIZE, true) }
    if (isLarge(view, large)) cut(arena, large, peer.ip, this.#nextSlot, sender)
    else counters.drops.malformed++
  }

  /** What lies in the slots before has to be sent when all are used: a large segment may be a thousand small packets. */
  readonly #nextSlot = (): number => {
    if (this.#slots === HEADER_SLOTS) this.#flush(this.#options.sender)
    return this.#slots++
  }
}

/** What the device left to us: the field holds the pseudo header's sum. False when it lies outside. */
function completeChecksum(view: DataView, at: number, ip: number, length: number): boolean {
  const start = view.getUint16(at + VNET.CSUM_START, true)
  const field = start + view.getUint16(at + VNET.CSUM_OFFSET, true)
  if (field + 2 > length) return false
  // 0 would mean to UDP that there is none; TCP takes 0xffff as well.
  view.setUint16(ip + field, ~fold(sum(view, ip + start, ip + length)) & 0xffff || 0xffff)
  return true
}
