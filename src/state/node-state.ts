/** A set of entries by identity: what a node should hold, or what it was seen to hold. */

import { deviceOf, keyOf, normal, type Entry, type Key } from './entry.ts'

export class NodeState {
  readonly #entries = new Map<Key, Entry>()
  /**
   * How many entries each device has. Not which: devices seldom end, and thousands of peers share one, so that an index would double what each of them costs, in memory and in places
   * of it to be visited.
   */
  readonly #onDevice = new Map<string, number>()

  static of(entries: Iterable<Entry>): NodeState {
    const state = new NodeState()
    for (const entry of entries) state.put(entry)
    return state
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: Key): Entry | undefined {
    return this.#entries.get(key)
  }

  keys(): MapIterator<Key> {
    return this.#entries.keys()
  }

  entries(): MapIterator<Entry> {
    return this.#entries.values()
  }

  /** Keys of what ends when `dev` ends. Costs a look at everything, except where there is nothing. */
  onDevice(dev: string): Key[] {
    const found: Key[] = []
    let left = this.#onDevice.get(dev) ?? 0
    for (const [key, entry] of this.#entries) {
      if (left === 0) break
      if (deviceOf(entry) !== dev) continue
      found.push(key)
      left--
    }
    return found
  }

  /** `key`: where the caller has it at hand. */
  put(entry: Entry, key: Key = keyOf(entry)): Key {
    const whole = normal(entry)
    const dev = deviceOf(whole)
    const before = this.#entries.get(key)
    const formerly = before === undefined ? undefined : deviceOf(before)
    this.#entries.set(key, whole)
    if (formerly !== dev) {
      this.#count(formerly, -1)
      this.#count(dev, 1)
    }
    return key
  }

  delete(key: Key): Entry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    this.#count(deviceOf(entry), -1)
    return entry
  }

  /** Deletes a device and, as the kernel does, everything that ends with it. Returns the keys that went. */
  deleteDevice(name: string): Key[] {
    const gone: Key[] = []
    for (const key of this.onDevice(name)) {
      const entry = this.delete(key)
      if (entry !== undefined) gone.push(key)
      if (entry?.kind === 'link') gone.push(...this.deleteDevice(entry.name))
    }
    const key: Key = `link ${name}`
    if (this.delete(key) !== undefined) gone.push(key)
    return gone
  }

  #count(dev: string | undefined, by: 1 | -1): void {
    if (dev === undefined) return
    const now = (this.#onDevice.get(dev) ?? 0) + by
    if (now === 0) this.#onDevice.delete(dev)
    else this.#onDevice.set(dev, now)
  }
}
