/** A key that must not be seen: it is compared and handed to the kernel, and shows itself in no log, message or JSON. */

import { timingSafeEqual } from 'node:crypto'
import { inspect } from 'node:util'

const SHOWN = '(secret)'

export class Secret {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = Uint8Array.from(bytes)
  }

  /** A copy of the bytes, for the one place that needs them. */
  reveal(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }

  equals(other: Secret): boolean {
    return this.#bytes.length === other.#bytes.length && timingSafeEqual(this.#bytes, other.#bytes)
  }

  toString(): string {
    return SHOWN
  }

  toJSON(): string {
    return SHOWN
  }

  [inspect.custom](): string {
    return SHOWN
  }
}
