/** Which peer has which subnet. A question costs one look into a hash for each length of subnet in use, which is nearly always one. */

import { parseIp } from '#ip/address.ts'
import { parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'

export interface Peer {
  readonly subnet: CidrText
  readonly address: IpText
  /** The address as 32 bits, signed: small enough to be kept without a box. */
  readonly ip: number
}

interface Level {
  readonly length: number
  readonly shift: number
  readonly peers: Map<number, Peer>
}

export class PeerIndex {
  /** The longest first. */
  #levels: Level[] = []
  /** How many subnets each address has. */
  readonly #addresses = new Map<number, number>()
  #size = 0
  #lastIp = 0
  #last: Peer | undefined

  get size(): number {
    return this.#size
  }

  *peers(): Generator<Peer> {
    for (const { peers } of this.#levels) yield* peers.values()
  }

  /** Adds a subnet, or gives it to another address. Throws for what is not IPv4. */
  set(subnet: CidrText, address: IpText): void {
    const { first, length } = v4Subnet(subnet)
    const peer: Peer = { subnet, address, ip: v4Number(address) }
    this.delete(subnet)
    let level = this.#levels.find((one) => one.length === length)
    if (level === undefined) {
      level = { length, shift: 32 - length, peers: new Map() }
      this.#levels = [...this.#levels, level].toSorted((a, b) => b.length - a.length)
    }
    level.peers.set(prefixOf(first, level.shift), peer)
    this.#addresses.set(peer.ip, (this.#addresses.get(peer.ip) ?? 0) + 1)
    this.#size++
  }

  /** False when there was none. */
  delete(subnet: CidrText): boolean {
    const { first, length } = v4Subnet(subnet)
    const level = this.#levels.find((one) => one.length === length)
    const key = prefixOf(first, 32 - length)
    const peer = level?.peers.get(key)
    this.#last = undefined
    if (level === undefined || peer === undefined) return false
    level.peers.delete(key)
    if (level.peers.size === 0) this.#levels = this.#levels.filter((one) => one !== level)
    const left = (this.#addresses.get(peer.ip) ?? 1) - 1
    if (left === 0) this.#addresses.delete(peer.ip)
    else this.#addresses.set(peer.ip, left)
    this.#size--
    return true
  }

  clear(): void {
    this.#levels = []
    this.#addresses.clear()
    this.#last = undefined
    this.#size = 0
  }

  /** The peer whose subnet holds this address (32 bits, signed or not). */
  find(ip: number): Peer | undefined {
    // Packets come in trains.
    if (this.#last !== undefined && this.#lastIp === (ip | 0)) return this.#last
    for (const { shift, peers } of this.#levels) {
      const peer = peers.get(prefixOf(ip, shift))
      if (peer === undefined) continue
      this.#lastIp = ip | 0
      this.#last = peer
      return peer
    }
    return undefined
  }

  /** True for the address of some peer (32 bits, signed or not). */
  isPeer(ip: number): boolean {
    return this.#addresses.has(ip | 0)
  }
}

/** Shifting by 32 is shifting by nothing. */
const prefixOf = (ip: number, shift: number): number => (shift === 32 ? 0 : ip >>> shift)

/** First address and length. Throws RangeError for IPv6. */
export function v4Subnet(text: CidrText): { readonly first: number; readonly length: number } {
  const { ip, length } = parseCidr(text)
  if (ip.family !== 4) throw new RangeError(`${text} is no IPv4 subnet`)
  return { first: ip.value, length }
}

/** An address as 32 bits, signed. Throws RangeError for IPv6. */
export function v4Number(text: IpText): number {
  const ip = parseIp(text)
  if (ip.family !== 4) throw new RangeError(`${text} is no IPv4 address`)
  return ip.value | 0
}
