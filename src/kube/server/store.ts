import type { ApiObject } from './object.ts'
import { objectKey } from './object.ts'
import { expired, tooLargeVersion } from './status.ts'

/** One change of one object. `version` is the resourceVersion that the change made. */
export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly version: number
  readonly key: string
  readonly object: ApiObject
  readonly previous: ApiObject | undefined
}

/** Everything a store holds, as plain data. */
export interface Snapshot {
  readonly format: 1
  readonly resourceVersion: number
  readonly shelves: { readonly [shelf: string]: readonly ApiObject[] }
}

interface Shelf {
  readonly objects: Map<string, ApiObject>
  readonly listeners: Set<(event: StoreEvent) => void>
  history: StoreEvent[]
  /** Changes up to this version are no longer in `history`. */
  floor: number
  sorted: readonly string[] | undefined
}

/**
 * A versioned object store with a bounded history per shelf (one shelf per stored kind). One counter numbers all
 * changes. Objects are immutable, so a past state is the present one with the changes since then undone.
 */
export class Store {
  readonly #shelves = new Map<string, Shelf>()
  readonly #historyLimit: number
  #version = 1

  /** @param historyLimit how many changes each shelf remembers for watches and paged lists. */
  constructor(historyLimit = 4096) {
    this.#historyLimit = historyLimit
  }

  /** The resourceVersion of the last change. */
  get version(): number {
    return this.#version
  }

  #shelf(name: string): Shelf {
    const found = this.#shelves.get(name)
    if (found !== undefined) return found
    // A new shelf has had no changes, so its history is complete from the beginning.
    const shelf: Shelf = { objects: new Map(), listeners: new Set(), history: [], floor: 0, sorted: undefined }
    this.#shelves.set(name, shelf)
    return shelf
  }

  #record(shelf: Shelf, event: StoreEvent): void {
    shelf.history.push(event)
    // Cut in halves, not one by one: dropping the head of an array costs its length.
    if (shelf.history.length > this.#historyLimit * 2) {
      const cut = shelf.history.length - this.#historyLimit
      shelf.floor = shelf.history[cut - 1]?.version ?? shelf.floor
      shelf.history = shelf.history.slice(cut)
    }
    for (const listener of shelf.listeners) listener(event)
  }

  /** The object under a key. */
  get(shelf: string, key: string): ApiObject | undefined {
    return this.#shelf(shelf).objects.get(key)
  }

  /** How many objects a shelf holds. */
  count(shelf: string): number {
    return this.#shelf(shelf).objects.size
  }

  /** Writes an object under a key and answers it with its new resourceVersion. */
  put(shelfName: string, key: string, object: ApiObject): ApiObject {
    const shelf = this.#shelf(shelfName)
    const previous = shelf.objects.get(key)
    const version = ++this.#version
    const stored: ApiObject = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } }
    shelf.objects.set(key, stored)
    if (previous === undefined) shelf.sorted = undefined
    this.#record(shelf, { type: previous === undefined ? 'ADDED' : 'MODIFIED', version, key, object: stored, previous })
    return stored
  }

  /** Removes an object and answers its last state, which carries the resourceVersion of the removal. */
  remove(shelfName: string, key: string): ApiObject | undefined {
    const shelf = this.#shelf(shelfName)
    const previous = shelf.objects.get(key)
    if (previous === undefined) return undefined
    const version = ++this.#version
    const last: ApiObject = { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } }
    shelf.objects.delete(key)
    shelf.sorted = undefined
    this.#record(shelf, { type: 'DELETED', version, key, object: last, previous })
    return last
  }

  /**
   * All objects of a shelf in key order, as they were at a version (default: now).
   * @throws ApiError 410 when that version is out of the history, 504 when it is in the future.
   */
  list(shelfName: string, version = this.#version): readonly { readonly key: string; readonly object: ApiObject }[] {
    const shelf = this.#shelf(shelfName)
    const undo = this.since(shelfName, version)
    if (undo.length === 0) {
      shelf.sorted ??= [...shelf.objects.keys()].toSorted()
      return shelf.sorted.flatMap((key) => {
        const object = shelf.objects.get(key)
        return object === undefined ? [] : [{ key, object }]
      })
    }
    const past = new Map(shelf.objects)
    for (const event of undo.toReversed()) {
      if (event.previous === undefined) past.delete(event.key)
      else past.set(event.key, event.previous)
    }
    return [...past].map(([key, object]) => ({ key, object })).toSorted((a, b) => (a.key < b.key ? -1 : 1))
  }

  /**
   * The changes after a version.
   * @throws ApiError 410 when they are no longer all known, 504 when the version is in the future.
   */
  since(shelfName: string, version: number): readonly StoreEvent[] {
    const shelf = this.#shelf(shelfName)
    if (version > this.#version) throw tooLargeVersion(version, this.#version)
    if (version < shelf.floor) throw expired(`too old resource version: ${version} (${shelf.floor})`)
    // Newest first: what is asked for is nearly always the last few.
    let start = shelf.history.length
    while (start > 0 && (shelf.history[start - 1]?.version ?? 0) > version) start -= 1
    return shelf.history.slice(start)
  }

  /** Calls the listener on every later change of a shelf. Answers the function that ends it. */
  subscribe(shelfName: string, listener: (event: StoreEvent) => void): () => void {
    const shelf = this.#shelf(shelfName)
    shelf.listeners.add(listener)
    return () => {
      shelf.listeners.delete(listener)
    }
  }

  /** Forgets the history, as etcd's compaction does: watches and continue tokens from before get 410. */
  compact(): void {
    // One version nobody was given, so that even an observer of the last change has to list again.
    this.#version += 1
    for (const shelf of this.#shelves.values()) {
      shelf.history = []
      shelf.floor = this.#version
    }
  }

  /** The content as plain data. */
  snapshot(): Snapshot {
    const shelves = [...this.#shelves].map(([name, shelf]) => [name, [...shelf.objects.values()]] as const)
    return { format: 1, resourceVersion: this.#version, shelves: Object.fromEntries(shelves) }
  }

  /**
   * Replaces the content. Versions go on from the higher of both counters; watchers are not told, and everyone has to
   * list again.
   */
  restore(snapshot: Snapshot): void {
    this.#version = Math.max(this.#version, snapshot.resourceVersion)
    for (const shelf of this.#shelves.values()) {
      shelf.objects.clear()
      shelf.sorted = undefined
    }
    for (const [name, objects] of Object.entries(snapshot.shelves)) {
      const shelf = this.#shelf(name)
      for (const object of objects)
        shelf.objects.set(objectKey(object.metadata.namespace, object.metadata.name), object)
    }
    for (const shelf of this.#shelves.values()) {
      shelf.history = []
      shelf.floor = this.#version
    }
  }
}
