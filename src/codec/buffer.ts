/** Where binary values are written to and read from: one growing array, one bounded view. Nothing here trusts its input. */

import { endianness } from 'node:os'

/** Host byte order, as DataView's `littleEndian` flag. */
export const LITTLE = endianness() === 'LE'

/** Bytes are not what their table says, or a value does not fit its field. */
export class CodecError extends Error {
  override readonly name = 'CodecError'
  readonly code: 'truncated' | 'bad-length' | 'bad-value' | 'unknown-field'

  constructor(code: CodecError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** Appends to a buffer that grows. `reserve` first, then write at the offset it returns. */
export class Writer {
  bytes: Uint8Array<ArrayBuffer>
  view: DataView
  length = 0

  constructor(size = 512) {
    this.bytes = new Uint8Array(size)
    this.view = new DataView(this.bytes.buffer)
  }

  /** Room for `size` zero bytes; returns where they start. */
  reserve(size: number): number {
    const offset = this.length
    const end = offset + size
    if (end > this.bytes.length) this.#grow(end)
    this.length = end
    return offset
  }

  /** Zero bytes up to a multiple of `alignment` (a power of two). */
  align(alignment: number): void {
    const past = this.length & (alignment - 1)
    if (past !== 0) this.reserve(alignment - past)
  }

  append(bytes: Uint8Array): void {
    const offset = this.reserve(bytes.length)
    this.bytes.set(bytes, offset)
  }

  /** Takes back what was written after `length`. */
  truncate(length: number): void {
    this.bytes.fill(0, length, this.length)
    this.length = length
  }

  /** A view of what was written; valid until the next write. */
  written(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length)
  }

  /** A copy of what was written. */
  copy(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length)
  }

  #grow(needed: number): void {
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2))
    larger.set(this.bytes)
    this.bytes = larger
    this.view = new DataView(larger.buffer)
  }
}

/** Reads forward through part of an array; every step is checked against `end`. */
export class Reader {
  readonly bytes: Uint8Array
  readonly view: DataView
  offset: number
  end: number
  /** Whether attributes that their table does not name are kept: for what shall be written again, not for what is only read. */
  keepUnknown = true

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.offset = offset
    this.end = Math.min(end, bytes.length)
  }

  get left(): number {
    return this.end - this.offset
  }

  /** Steps over `size` bytes and returns where they start. */
  take(size: number): number {
    const offset = this.offset
    if (size > this.end - offset) {
      throw new CodecError('truncated', `${size} bytes expected at offset ${offset}, ${this.end - offset} are left`)
    }
    this.offset = offset + size
    return offset
  }

  /** A copy of the next `size` bytes. */
  copy(size: number): Uint8Array {
    const offset = this.take(size)
    // Not `slice`: a Buffer's slice is a view.
    return new Uint8Array(this.bytes.subarray(offset, offset + size))
  }
}
