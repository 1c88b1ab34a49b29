import { KubeError } from './errors.ts'

/** An event of a watch is one line; etcd takes no object over 1.5 MiB, so a longer line is no event. */
export const LINE_LIMIT = 16 * 1024 * 1024

/** Cuts a stream of bytes into lines. Owns the piece of a line that has not ended yet. */
export class LineSplitter {
  readonly #limit: number
  #pieces: Buffer[] = []
  #size = 0

  constructor(limit: number = LINE_LIMIT) {
    this.#limit = limit
  }

  /**
   * The lines that this chunk completes, without their ends; empty ones are left out.
   * @throws KubeError `bad-response` where a line is longer than the limit.
   */
  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let start = 0
    for (;;) {
      const end = chunk.indexOf(0x0a, start)
      const piece = chunk.subarray(start, end < 0 ? chunk.length : end)
      this.#size += piece.length
      if (this.#size > this.#limit) {
        throw new KubeError('bad-response', `a line of the watch is longer than ${this.#limit} bytes`)
      }
      if (end < 0) {
        if (piece.length > 0) this.#pieces.push(piece)
        return lines
      }
      // Whole lines are decoded, never chunks: a character may lie across two of them.
      const line = this.#pieces.length === 0 ? piece : Buffer.concat([...this.#pieces, piece])
      this.#pieces = []
      this.#size = 0
      if (line.length > 0) lines.push(line.toString('utf8'))
      start = end + 1
    }
  }
}
