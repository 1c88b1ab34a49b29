/** Names and indexes of the devices there are: entries know names, the kernel wants indexes. */

import type { Link } from '#netlink/link-codec.ts'

export class Devices {
  readonly #byIndex = new Map<number, Link>()
  readonly #byName = new Map<string, number>()

  nameOf(index: number): string | undefined {
    return this.#byIndex.get(index)?.name
  }

  indexOf(name: string): number | undefined {
    return this.#byName.get(name)
  }

  get(name: string): Link | undefined {
    return this.#byIndex.get(this.#byName.get(name) ?? 0)
  }

  /** Notes a link as it is now; returns it as it was before, which may have had another name. */
  put(link: Link): Link | undefined {
    const before = this.delete(link.index)
    this.#byIndex.set(link.index, link)
    this.#byName.set(link.name, link.index)
    return before
  }

  delete(index: number): Link | undefined {
    const link = this.#byIndex.get(index)
    if (link === undefined) return undefined
    this.#byIndex.delete(index)
    // A name may already belong to a new link.
    if (this.#byName.get(link.name) === index) this.#byName.delete(link.name)
    return link
  }

  clear(): void {
    this.#byIndex.clear()
    this.#byName.clear()
  }
}
