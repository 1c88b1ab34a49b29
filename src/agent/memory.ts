/**
 * Gives memory back after a burst. V8 keeps what it once needed: after reading five thousand Nodes three times as much as they take.
 */

import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Heap (bytes) beyond what was alive after the last collection that is left alone. */
const SLACK = 16 << 20
/** A collection stops the agent for some tens of milliseconds: at most one in so many milliseconds. */
const PAUSE = 5_000

type Collect = () => void

/** Node.js hands its collector out only when asked so. Only the flavour `last-resort` also gives empty pages back to the kernel. */
function collector(): Collect | undefined {
  setFlagsFromString('--expose-gc')
  const found: unknown = runInNewContext('gc')
  return typeof found === 'function'
    ? () => void Reflect.apply(found, undefined, [{ type: 'major', execution: 'sync', flavor: 'last-resort' }])
    : undefined
}

export class MemoryTrim {
  readonly #collect: Collect | undefined
  readonly #heapSize: () => number
  readonly #now: () => number
  #alive = 0
  #last = -Infinity

  constructor(
    collect: Collect | undefined = collector(),
    heapSize: () => number = () => getHeapStatistics().total_heap_size,
    now: () => number = () => performance.now(),
  ) {
    this.#collect = collect
    this.#heapSize = heapSize
    this.#now = now
  }

  /** Collects if much could be won and the last time is long ago; cheap otherwise. Call it when nothing else is to be done. */
  maybe(): void {
    const now = this.#now()
    if (this.#collect === undefined || now - this.#last < PAUSE) return
    if (this.#alive === 0) this.#alive = 1 << 24
    if (this.#heapSize() < this.#alive + SLACK) return
    this.#collect()
    this.#last = now
    this.#alive = this.#heapSize()
  }
}
