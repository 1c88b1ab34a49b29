/** What can go wrong on the way or in a service, on demand. */
export type FaultAction =
  /** An error instead of the work; or after it, as when a proxy loses patience. */
  | {
      readonly kind: 'status'
      readonly status: number
      readonly body?: object | string
      readonly retryAfter?: string
      readonly afterWork?: boolean
    }
  /** Milliseconds before the work. */
  | { readonly kind: 'slow'; readonly ms: number }
  /** The connection breaks before the work, or after it and before the answer. */
  | { readonly kind: 'drop'; readonly afterWork?: boolean }
  /** An answer that is no JSON; one that is none of the service. */
  | { readonly kind: 'garbage' }
  | { readonly kind: 'answer'; readonly body: object }

/** What a request is, for choosing. */
export interface Seen {
  readonly method: string
  readonly path: string
}

/** A fault: what happens, to which requests (default: all), how many times (default: until removed). */
export interface Fault {
  readonly action: FaultAction
  readonly match?: (request: Seen) => boolean
  readonly times?: number
}

export class Faults {
  readonly #faults = new Map<Fault, number>()

  /** Answers what removes it again. */
  inject(fault: Fault): () => void {
    this.#faults.set(fault, fault.times ?? Number.POSITIVE_INFINITY)
    return () => void this.#faults.delete(fault)
  }

  clear(): void {
    this.#faults.clear()
  }

  /** The first fault that a request meets; it counts as used. */
  take(request: Seen): FaultAction | undefined {
    for (const [fault, left] of this.#faults) {
      if (fault.match?.(request) === false) continue
      if (left <= 1) this.#faults.delete(fault)
      else this.#faults.set(fault, left - 1)
      return fault.action
    }
    return undefined
  }
}
