/** Subnets that do not overlap, with their holders: ordered, so that a question costs log n. */

import { compareIp, type Ip } from '#ip/address.ts'
import { lastOf, type Cidr } from '#ip/prefix.ts'

interface Held {
  readonly first: Ip
  readonly last: Ip
  readonly holder: string
}

export class DisjointSubnets {
  readonly #held: Held[] = []

  get size(): number {
    return this.#held.length
  }

  /** Who holds a subnet that overlaps `cidr`; undefined when nobody does. */
  holderOf(cidr: Cidr): string | undefined {
    const next = this.#held[this.#at(cidr.ip)]
    return next !== undefined && compareIp(next.first, lastOf(cidr)) <= 0 ? next.holder : undefined
  }

  /** `cidr` must overlap nothing that is held. */
  add(cidr: Cidr, holder: string): void {
    this.#held.splice(this.#at(cidr.ip), 0, { first: cidr.ip, last: lastOf(cidr), holder })
  }

  delete(cidr: Cidr): void {
    const at = this.#at(cidr.ip)
    const held = this.#held[at]
    if (held !== undefined && compareIp(held.first, cidr.ip) === 0) this.#held.splice(at, 1)
  }

  /** Index of the first subnet that ends at or after `ip`. */
  #at(ip: Ip): number {
    let low = 0
    let high = this.#held.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const held = this.#held[middle]
      if (held !== undefined && compareIp(held.last, ip) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}
