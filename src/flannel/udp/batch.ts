/** Messages for `sendMany` and `writeMany`: the tables that say where in the arena each of them lies, filled one part after the other. */

export const MAX_MESSAGES = 64
export const MAX_PARTS = 1024

const ROW = 5

export class Batch {
  readonly #parts = new Int32Array(MAX_PARTS * 2)
  readonly #table = new Int32Array(MAX_MESSAGES * ROW)
  /** As the system calls want them. */
  readonly parts = new Uint8Array(this.#parts.buffer)
  readonly table = new Uint8Array(this.#table.buffer)
  #messages = 0
  #used = 0

  /** Messages that are complete, and the one that was begun. */
  get messages(): number {
    return this.#messages
  }

  hasRoomFor(messages: number, parts: number): boolean {
    return this.#messages + messages <= MAX_MESSAGES && this.#used + parts <= MAX_PARTS
  }

  /** The following parts are those of a new message; its number. */
  begin(): number {
    this.#table.fill(0, this.#messages * ROW, (this.#messages + 1) * ROW)
    return this.#messages++
  }

  add(offset: number, length: number): void {
    const at = this.#used++ * 2
    this.#parts[at] = offset
    this.#parts[at + 1] = length
    const row = (this.#messages - 1) * ROW
    this.#table[row] = (this.#table[row] ?? 0) + 1
  }

  setAddress(message: number, offset: number, length: number): void {
    this.#table[message * ROW + 1] = offset
    this.#table[message * ROW + 2] = length
  }

  setControl(message: number, offset: number, length: number): void {
    this.#table[message * ROW + 3] = offset
    this.#table[message * ROW + 4] = length
  }

  addressOf(message: number): number {
    return this.#table[message * ROW + 1] ?? 0
  }

  /** The parts of one message as offsets and lengths in turn. */
  partsOf(message: number): number[] {
    let first = 0
    for (let i = 0; i < message; i++) first += this.#table[i * ROW] ?? 0
    const count = this.#table[message * ROW] ?? 0
    return [...this.#parts.subarray(first * 2, (first + count) * 2)]
  }

  clear(): void {
    this.#messages = 0
    this.#used = 0
  }
}
