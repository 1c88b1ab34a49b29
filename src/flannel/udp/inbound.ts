/**
 * From the peers to the device: one turn receives what other nodes sent, and hands the packets in it to the node's kernel.
 *
 * Nothing on this wire is authentic, so what arrives is held against what is known: the datagram comes from a peer's address, the packet from that
 * peer's pods to this node's. Flannel asks nothing of the kind.
 */

import { ERRNO } from '#sys/errno.ts'
import { MSG } from '#sys/constants.ts'
import type { Sys } from '#sys/sys.ts'
import { CONTROL_SLOT, NAME_SLOT, PACKET_ROOM, RECEIVE_SLOTS, zones, type Arena } from './arena.ts'
import type { Coalescer } from './coalesce.ts'
import type { Counters, Drop } from './counters.ts'
import { ICMP, isHost, type IcmpError } from './icmp.ts'
import { decrementTtl, IP, packetLength } from './ipv4.ts'
import type { PeerIndex } from './peers.ts'

/** First address and number of host bits. */
export interface Block {
  readonly first: number
  readonly hostBits: number
}

export interface InboundOptions {
  readonly arena: Arena
  readonly sys: Pick<Sys, 'recvMany'>
  readonly socket: number
  readonly peers: PeerIndex
  readonly writer: Coalescer
  readonly counters: Counters
  /** The pod network of the cluster, and this node's part of it. */
  readonly network: Block
  readonly subnet: Block
  /** Take datagrams from anywhere, as flannel does. */
  readonly anySource: boolean
  /** Tells the packet's source, which is behind the peer at `sender`. */
  readonly refuse: (error: IcmpError, ip: number, length: number, sender: number) => void
  readonly onUnknown: (sender: number) => void
}

const ROW = 9
const SOL_UDP = 17
const UDP_GRO = 104

export class Inbound {
  readonly #options: InboundOptions
  readonly #table = new Int32Array(RECEIVE_SLOTS * ROW)
  readonly #tableBytes = new Uint8Array(this.#table.buffer)

  constructor(options: InboundOptions) {
    this.#options = options
    for (let slot = 0; slot < RECEIVE_SLOTS; slot++) {
      const row = slot * ROW
      this.#table[row] = zones.receive + slot * PACKET_ROOM
      this.#table[row + 1] = PACKET_ROOM
      this.#table[row + 2] = zones.receiveNames + slot * NAME_SLOT
      this.#table[row + 3] = NAME_SLOT
      this.#table[row + 4] = zones.receiveControls + slot * CONTROL_SLOT
      this.#table[row + 5] = CONTROL_SLOT
    }
  }

  /** Returns how many datagrams (or trains of them) arrived, or -errno. */
  turn(): number {
    const { arena, sys, socket, writer } = this.#options
    const count = sys.recvMany(socket, arena.bytes, this.#tableBytes, RECEIVE_SLOTS, MSG.DONTWAIT)
    if (count <= 0) return count === -ERRNO.EAGAIN || count === -ERRNO.EINTR ? 0 : count
    for (let slot = 0; slot < count; slot++) this.#datagrams(slot)
    writer.flush()
    return count
  }

  #datagrams(slot: number): void {
    const { view } = this.#options.arena
    const row = slot * ROW
    const length = this.#table[row + 6] ?? 0
    const sender = view.getInt32(zones.receiveNames + slot * NAME_SLOT + 4)
    const size = this.#segmentSize(slot, this.#table[row + 7] ?? 0) ?? length
    const isWhole = ((this.#table[row + 8] ?? 0) & MSG.TRUNC) === 0
    const isPeer = this.#options.anySource || this.#options.peers.isPeer(sender)
    if (!isPeer) this.#options.onUnknown(sender)
    const start = zones.receive + slot * PACKET_ROOM
    for (let at = 0; at < length; at += size) {
      const why = !isPeer
        ? 'unknown-sender'
        : !isWhole
          ? 'malformed'
          : this.#packet(start + at, Math.min(size, length - at), sender)
      if (why !== undefined) this.#options.counters.drops[why]++
    }
    if (length === 0) this.#options.counters.drops.malformed++
  }

  /** What UDP_GRO says about a train: the length of all its datagrams but the last. */
  #segmentSize(slot: number, controlLength: number): number | undefined {
    const { view } = this.#options.arena
    const at = zones.receiveControls + slot * CONTROL_SLOT
    if (controlLength < 20 || view.getInt32(at + 8, true) !== SOL_UDP || view.getInt32(at + 12, true) !== UDP_GRO)
      return undefined
    const size = view.getInt32(at + 16, true)
    return size > 0 ? size : undefined
  }

  #packet(ip: number, found: number, sender: number): Drop | undefined {
    const { arena, writer, counters, subnet, refuse } = this.#options
    const { view } = arena
    const length = packetLength(view, ip, found)
    if (length <= 0) return length === 0 ? 'not-ipv4' : 'malformed'
    if (!isIn(subnet, view.getUint32(ip + IP.DESTINATION))) return 'wrong-destination'
    if (!this.#isSource(view.getUint32(ip + IP.SOURCE), sender)) return 'wrong-source'
    if (!decrementTtl(view, ip)) {
      refuse(ICMP.TTL_EXCEEDED, ip, length, sender)
      return 'ttl'
    }
    counters.receivedPackets++
    counters.receivedBytes += length
    writer.add(ip, length)
    return undefined
  }

  /** Pods come from their own node; what is no pod's may be a node's, or of outside where nothing is masqueraded. */
  #isSource(source: number, sender: number): boolean {
    const { network, subnet, anySource, peers } = this.#options
    if (!isHost(source) || isIn(subnet, source)) return false
    return anySource || !isIn(network, source) || peers.find(source)?.ip === sender
  }
}

const isIn = ({ first, hostBits }: Block, ip: number): boolean => hostBits === 32 || (ip ^ first) >>> hostBits === 0
