/** Subnets of one family that do not overlap, with their holders: ordered, so that a question costs log n. */

import type { Ip } from '#ip/address.ts'
import { lastOf, type Cidr } from '#ip/prefix.ts'

export class DisjointSubnets {
  /**
   * First and last address and holder of each, in order. Numbers lie side by side in such an array, where a list of objects
   * would send every step of a search to another corner of memory.
   */
  readonly #firsts: Ip['value'][] = []
  readonly #lasts: Ip['value'][] = []
  readonly #holders: string[] = []

  get size(): number {
    return this.#holders.length
  }

  /** Who holds a subnet that overlaps `cidr`; undefined when nobody does. */
  holderOf(cidr: Cidr): string | undefined {
    const at = this.#at(cidr.ip)
    const first = this.#firsts[at]
    return first !== undefined && first <= lastOf(cidr).value ? this.#holders[at] : undefined
  }

  /** `cidr` must overlap nothing that is held, and be of the same family. */
  add(cidr: Cidr, holder: string): void {
    const at = this.#at(cidr.ip)
    this.#firsts.splice(at, 0, cidr.ip.value)
    this.#lasts.splice(at, 0, lastOf(cidr).value)
    this.#holders.splice(at, 0, holder)
  }

  delete(cidr: Cidr): void {
    const at = this.#at(cidr.ip)
    if (this.#firsts[at] !== cidr.ip.value) return
    this.#firsts.splice(at, 1)
    this.#lasts.splice(at, 1)
    this.#holders.splice(at, 1)
  }

  /** Index of the first subnet that ends at or after `ip`. */
  #at(ip: Ip): number {
    let low = 0
    let high = this.#lasts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const last = this.#lasts[middle]
      if (last !== undefined && last < ip.value) low = middle + 1
      else high = middle
    }
    return low
  }
}
