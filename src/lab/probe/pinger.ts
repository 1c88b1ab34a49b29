/** `ping` without a process: echo requests from any namespace, many at once, each with a deadline. */

import { performance } from 'node:perf_hooks'
import type { Family, IpText } from '#ip/text.ts'
import { SOCK } from '#sys/constants.ts'
import { ERRNO, errnoName } from '#sys/errno.ts'
import { decodeAnswer, encodeEcho, minimalPacket } from './echo.ts'
import { encodeSockaddr } from './sockaddr.ts'
import { acceptIcmpTypes, DatagramSocket, dontFragment, IPPROTO } from './socket.ts'

export interface PingOptions {
  /** Length of the IP packet, headers included. Default 84 (IPv4) and 104 (IPv6), as `ping` sends. */
  readonly packetLength?: number
  /** In milliseconds, for all tries together. */
  readonly timeoutMs?: number
  /** An unanswered request is sent again after this many milliseconds: the first packet of a flow may wait for neighbour resolution. */
  readonly retryMs?: number
}

export type PingResult =
  | { readonly kind: 'reply'; readonly ms: number; readonly tries: number }
  /** Refused with EMSGSIZE by the own kernel (`mtu` undefined), or answered by ICMP naming the MTU. */
  | { readonly kind: 'too-big'; readonly mtu: number | undefined }
  | { readonly kind: 'unreachable'; readonly reason: string }
  | { readonly kind: 'timeout'; readonly tries: number }

interface Pending {
  readonly resolve: (result: PingResult) => void
  readonly send: () => void
  readonly deadline: number
  readonly retryMs: number
  firstSent: number
  retryAt: number
  tries: number
}

/** Requests in flight at most, so that answers fit into one socket's receive buffer. */
const WINDOW = 64
const TICK_MS = 25

/** One raw socket per namespace and family; needs CAP_NET_RAW there. */
export class Pinger implements Disposable {
  readonly #family: Family
  readonly #socket: DatagramSocket
  readonly #id = Math.floor(Math.random() * 0x1_0000)
  readonly #pending = new Map<number, Pending>()
  readonly #waiting: (() => void)[] = []
  #seq = 0
  #timer: NodeJS.Timeout | undefined

  /** With `df`, packets are never fragmented (like `ping -M do`). */
  constructor(netns: string, family: Family, { df = false }: { readonly df?: boolean } = {}) {
    this.#family = family
    const protocol = family === 4 ? IPPROTO.ICMP : IPPROTO.ICMPV6
    this.#socket = new DatagramSocket(netns, family, SOCK.RAW, protocol, (bytes) => this.#receive(bytes))
    acceptIcmpTypes(this.#socket, family, family === 4 ? [0, 3, 11] : [129, 1, 2, 3])
    if (df) dontFragment(this.#socket, family)
  }

  /** Never rejects: what happened is the result. */
  ping(to: IpText, options: PingOptions = {}): Promise<PingResult> {
    return new Promise((resolve) => {
      const start = (): void => this.#start(to, options, resolve)
      if (this.#pending.size < WINDOW) start()
      else this.#waiting.push(start)
    })
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#waiting.length = 0
    for (const pending of this.#pending.values()) pending.resolve({ kind: 'timeout', tries: pending.tries })
    this.#pending.clear()
    this.#socket[Symbol.dispose]()
  }

  #start(to: IpText, options: PingOptions, resolve: (result: PingResult) => void): void {
    const family = this.#family
    const seq = (this.#seq = (this.#seq + 1) & 0xffff)
    const packetLength = Math.max(options.packetLength ?? (family === 4 ? 84 : 104), minimalPacket(family))
    const bytes = encodeEcho({ family, id: this.#id, seq, packetLength })
    // A raw IPv6 socket takes the port for a protocol number, which must be zero or its own.
    const address = encodeSockaddr({ ip: to, port: 0 })
    const now = performance.now()
    const retryMs = options.retryMs ?? 200
    const pending: Pending = {
      resolve,
      send: () => this.#send(seq, bytes, address),
      deadline: now + (options.timeoutMs ?? 2000),
      retryMs,
      firstSent: now,
      retryAt: now + retryMs,
      tries: 0,
    }
    this.#pending.set(seq, pending)
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
    pending.send()
  }

  #send(seq: number, bytes: Uint8Array, address: Uint8Array): void {
    const pending = this.#pending.get(seq)
    if (pending === undefined) return
    pending.tries++
    pending.firstSent = performance.now()
    const rc = this.#socket.send(bytes, address)
    if (rc >= 0) {
      // Within one machine the answer is usually here; measured now, it is not late by what else this thread has to do.
      this.#socket.poll()
      return
    }
    if (rc === -ERRNO.EAGAIN || rc === -ERRNO.ENOBUFS) return
    this.#finish(
      seq,
      rc === -ERRNO.EMSGSIZE ? { kind: 'too-big', mtu: undefined } : { kind: 'unreachable', reason: errnoName(-rc) },
    )
  }

  #receive(bytes: Uint8Array): void {
    const answered = decodeAnswer(this.#family, bytes)
    if (answered === undefined || answered.id !== this.#id) return
    const pending = this.#pending.get(answered.seq)
    if (pending === undefined) return
    const { answer } = answered
    if (answer.kind === 'reply') {
      this.#finish(answered.seq, { kind: 'reply', ms: performance.now() - pending.firstSent, tries: pending.tries })
    } else if (answer.kind === 'too-big') {
      this.#finish(answered.seq, { kind: 'too-big', mtu: answer.mtu })
    } else {
      this.#finish(answered.seq, { kind: 'unreachable', reason: `ICMP type ${answer.type} code ${answer.code}` })
    }
  }

  #tick(): void {
    // On a busy machine this thread itself may be late: what has come is heard before anything is given up.
    this.#socket.poll()
    const now = performance.now()
    for (const [seq, pending] of this.#pending) {
      if (now >= pending.deadline) {
        this.#finish(seq, { kind: 'timeout', tries: pending.tries })
      } else if (now >= pending.retryAt) {
        pending.retryAt = now + pending.retryMs
        pending.send()
      }
    }
  }

  #finish(seq: number, result: PingResult): void {
    const pending = this.#pending.get(seq)
    if (pending === undefined) return
    this.#pending.delete(seq)
    pending.resolve(result)
    this.#waiting.shift()?.()
    if (this.#pending.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }
}
