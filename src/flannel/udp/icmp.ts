/** ICMP errors (RFC 792, RFC 1812 §4.3) that the relay answers with: about packets that it cannot carry on. */

import type { Arena } from './arena.ts'
import { checksumOf, sum } from './checksum.ts'
import { FRAGMENT, headerLength, IP, IP_HEADER, PROTOCOL, setHeaderCheck } from './ipv4.ts'

export const ICMP = { NET_UNREACHABLE: { type: 3, code: 0 }, TTL_EXCEEDED: { type: 11, code: 0 } } as const
export type IcmpError = (typeof ICMP)[keyof typeof ICMP]

const ICMP_HEADER = 8
/** RFC 1812 §4.3.2.3: as much of the packet as fits into 576 bytes. */
const MAX_LENGTH = 576

/** True for a packet that an ICMP error may be sent about: no error itself, no later fragment, to and from one host (RFC 1812 §4.3.2.7). */
export function mayAnswer(view: DataView, ip: number, length: number): boolean {
  if ((view.getUint16(ip + IP.FRAGMENT) & FRAGMENT.OFFSET) !== 0) return false
  const source = view.getUint32(ip + IP.SOURCE)
  const destination = view.getUint32(ip + IP.DESTINATION)
  if (!isHost(source) || destination >>> 28 >= 0xe) return false
  const header = headerLength(view, ip)
  if (view.getUint8(ip + IP.PROTOCOL) !== PROTOCOL.ICMP) return true
  const type = length > header ? view.getUint8(ip + header) : 3
  return type !== 3 && type !== 4 && type !== 5 && type !== 11 && type !== 12
}

/** False for 0.0.0.0/8, 127.0.0.0/8, multicast, reserved and broadcast addresses. */
export const isHost = (ip: number): boolean => {
  const first = ip >>> 24
  return first !== 0 && first !== 127 && first < 224
}

/** Writes an error about the packet at `ip` to `at`, from `source` (32 bits). Returns its length. */
export function writeError(
  { bytes, view }: Arena,
  at: number,
  error: IcmpError,
  source: number,
  ip: number,
  length: number,
): number {
  const quoted = Math.min(length, MAX_LENGTH - IP_HEADER - ICMP_HEADER)
  const total = IP_HEADER + ICMP_HEADER + quoted
  bytes.fill(0, at, at + IP_HEADER + ICMP_HEADER)
  view.setUint8(at, 0x45)
  // Internetwork control (RFC 1812 §4.3.2.5).
  view.setUint8(at + IP.TOS, 0xc0)
  view.setUint16(at + IP.LENGTH, total)
  view.setUint8(at + IP.TTL, 64)
  view.setUint8(at + IP.PROTOCOL, PROTOCOL.ICMP)
  view.setUint32(at + IP.SOURCE, source)
  view.setUint32(at + IP.DESTINATION, view.getUint32(ip + IP.SOURCE))
  setHeaderCheck(view, at)
  const icmp = at + IP_HEADER
  view.setUint8(icmp, error.type)
  view.setUint8(icmp + 1, error.code)
  bytes.copyWithin(icmp + ICMP_HEADER, ip, ip + quoted)
  view.setUint16(icmp + 2, checksumOf(sum(view, icmp, at + total)))
  return total
}

/** So many a second, as the kernel's icmp_msgs_per_sec; with a burst, because a traceroute asks for several at once. */
const PER_SECOND = 1000
const BURST = 50

/** Keeps answers from becoming an attack. */
export class IcmpBudget {
  readonly #now: () => number
  #left = BURST
  #at: number

  /** `now` in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
    this.#at = now()
  }

  take(): boolean {
    const now = this.#now()
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) * PER_SECOND) / 1000)
    this.#at = now
    if (this.#left < 1) return false
    this.#left--
    return true
  }
}
