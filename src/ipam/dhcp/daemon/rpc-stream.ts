/** One end of a gob stream over a socket: bytes in any pieces in, whole values out. */

import type { Socket } from 'node:net'

import { GobDecoder, gobMessageLength, type GobValue } from '../wire/gob.ts'

/** Collects bytes; what comes before the stream (HTTP's greeting) is taken first. */
export class RpcStream {
  readonly #decoder = new GobDecoder()
  #bytes: Buffer = Buffer.alloc(0)
  #chunks: Buffer[] = []
  #size = 0
  #needed = 0

  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#size += chunk.length
  }

  /** The next value, or undefined while it is not complete. Throws `GobError`. */
  next(): GobValue | undefined {
    for (;;) {
      if (this.#bytes.length + this.#size < this.#needed) return undefined
      this.#join()
      const frame = gobMessageLength(this.#bytes)
      if (frame === undefined) return undefined
      this.#needed = frame.end
      if (this.#bytes.length < frame.end) return undefined
      const message = this.#bytes.subarray(frame.start, frame.end)
      this.#bytes = this.#bytes.subarray(frame.end)
      this.#needed = 0
      const value = this.#decoder.decode(message)
      if (value !== undefined) return value
    }
  }

  /** HTTP's head, which ends with an empty line; undefined while that has not come. */
  head(): string | undefined {
    this.#join()
    const text = this.#bytes.toString('latin1', 0, Math.min(this.#bytes.length, MAX_HEAD))
    const end = /\r?\n\r?\n/.exec(text)
    if (end === null) {
      if (this.#bytes.length >= MAX_HEAD) throw new Error('no HTTP head')
      return undefined
    }
    this.#bytes = this.#bytes.subarray(end.index + end[0].length)
    return text.slice(0, end.index)
  }

  #join(): void {
    if (this.#chunks.length === 0) return
    this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks])
    this.#chunks = []
    this.#size = 0
  }
}

const MAX_HEAD = 4096

/** Writes without caring for a reader that has gone. */
export const write = (socket: Socket, bytes: Uint8Array | string): void => {
  if (!socket.destroyed && socket.writable) socket.write(bytes)
}
