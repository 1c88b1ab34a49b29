/** gRPC's frames: a byte that says whether the message is compressed, its length in four, the message. Source: grpc.io, PROTOCOL-HTTP2. */

import { EtcdError } from './errors.ts'

/** Larger messages are refused, whoever sends them (bytes). etcd's own limit for a request is 1.5 MiB. */
export const MAX_MESSAGE = 8 << 20

export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, 5)
  return framed
}

/** Puts messages together from the pieces in which they come. Holds one message at most. */
export class Deframer {
  readonly #limit: number
  #pieces: Buffer[] = []
  #held = 0

  constructor(limit = MAX_MESSAGE) {
    this.#limit = limit
  }

  /** The messages that are complete with this piece. Throws EtcdError `bad-answer` or `too-large`. */
  take(piece: Buffer): readonly Buffer[] {
    this.#pieces.push(piece)
    this.#held += piece.length
    const messages: Buffer[] = []
    for (;;) {
      const needed = this.#needed()
      if (needed === undefined || this.#held < needed) return messages
      const all =
        this.#pieces.length === 1 && this.#pieces[0] !== undefined ? this.#pieces[0] : Buffer.concat(this.#pieces)
      messages.push(all.subarray(5, needed))
      const rest = all.subarray(needed)
      this.#pieces = rest.length === 0 ? [] : [rest]
      this.#held = rest.length
    }
  }

  /** True between two messages. */
  get isEmpty(): boolean {
    return this.#held === 0
  }

  #needed(): number | undefined {
    if (this.#held < 5) return undefined
    const [first] = this.#pieces
    const head = first !== undefined && first.length >= 5 ? first : Buffer.concat(this.#pieces)
    if (head !== first) this.#pieces = [head]
    if (head[0] !== 0) throw new EtcdError('bad-answer', 'etcd', 'an answer is compressed, which nobody asked for')
    const length = head.readUInt32BE(1)
    if (length > this.#limit)
      throw new EtcdError('too-large', 'etcd', `an answer of ${length} bytes; the limit is ${this.#limit}`)
    return 5 + length
  }
}
