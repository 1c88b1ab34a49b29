/** A set of entries by identity, with an index by device: what a node should hold, or what it was seen to hold. */

import { deviceOf, keyOf, normal, type Entry, type Key } from './entry.ts'

export class NodeState {
  readonly #entries = new Map<Key, Entry>()
  readonly #byDevice = new Map<string, Set<Key>>()

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

  /** Keys of what ends when `dev` ends. */
  onDevice(dev: string): Key[] {
    return [...(this.#byDevice.get(dev) ?? [])]
  }

  /** `key`: where the caller has it at hand. */
  put(entry: Entry, key: Key = keyOf(entry)): Key {
    const whole = normal(entry)
    const dev = deviceOf(whole)
    const before = this.#entries.get(key)
    if (before !== undefined && deviceOf(before) !== dev) this.delete(key)
    this.#entries.set(key, whole)
    if (dev !== undefined) this.#keysOn(dev).add(key)
    return key
  }

  delete(key: Key): Entry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    const dev = deviceOf(entry)
    const keys = dev === undefined ? undefined : this.#byDevice.get(dev)
    keys?.delete(key)
    if (dev !== undefined && keys?.size === 0) this.#byDevice.delete(dev)
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

  #keysOn(dev: string): Set<Key> {
    let keys = this.#byDevice.get(dev)
    if (keys === undefined) this.#byDevice.set(dev, (keys = new Set()))
    return keys
  }
}
