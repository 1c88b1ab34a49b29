import type { RequestInfo } from './request.ts'

/**
 * What can go wrong with an answer:
 * `delay` it, answer with an error `status`, `drop` the connection, go `silent` (accept, and never send a byte more:
 * a half-open connection), answer lists with an `empty-list`, answer with `garbage` instead of JSON, send watch events
 * in `duplicate`.
 */
export type FaultAction =
  | { readonly kind: 'delay'; readonly ms: number }
  | {
      readonly kind: 'status'
      readonly code: number
      readonly reason?: string
      readonly message?: string
      readonly retryAfter?: number
    }
  | { readonly kind: 'drop' | 'silent' | 'empty-list' | 'garbage' | 'duplicate' }

/** A fault: what happens, to which requests (default: all), how many times (default: until removed). */
export interface Fault {
  readonly action: FaultAction
  readonly match?: (request: RequestInfo) => boolean
  readonly times?: number
}

/** The faults that a server is told to have. Watches that run feel `silent` and `duplicate` at once. */
export class Faults {
  readonly #faults = new Map<Fault, number>()

  /** Adds a fault. Answers the function that removes it. */
  inject(fault: Fault): () => void {
    this.#faults.set(fault, fault.times ?? Number.POSITIVE_INFINITY)
    return () => {
      this.#faults.delete(fault)
    }
  }

  /** Removes all faults. */
  clear(): void {
    this.#faults.clear()
  }

  /** The faults that a new request meets; each counts as used. */
  take(request: RequestInfo): readonly FaultAction[] {
    return [...this.#faults].flatMap(([fault, left]) => {
      if (fault.match !== undefined && !fault.match(request)) return []
      if (left <= 1) this.#faults.delete(fault)
      else this.#faults.set(fault, left - 1)
      return [fault.action]
    })
  }

  /** True while a fault of this kind applies to a request that is under way. */
  active(kind: FaultAction['kind'], request: RequestInfo): boolean {
    for (const fault of this.#faults.keys()) {
      if (fault.action.kind === kind && (fault.match === undefined || fault.match(request))) return true
    }
    return false
  }
}
