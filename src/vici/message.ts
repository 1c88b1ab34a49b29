/**
 * Messages of strongSwan's control socket: named values, lists and sections, in order. Lengths are big-endian. Source: strongSwan's
 * src/libcharon/plugins/vici/README.md.
 */

/** Text, a list of texts, or a section. Maps, so that no name from the socket can be a property of a prototype. */
export type ViciValue = string | readonly string[] | ViciSection
export type ViciSection = ReadonlyMap<string, ViciValue>

const SECTION_START = 1
const SECTION_END = 2
const KEY_VALUE = 3
const LIST_START = 4
const LIST_ITEM = 5
const LIST_END = 6

const MAX_DEPTH = 16

/** `too-long`: a name over 255 or a value over 65535 bytes; `malformed`: bytes that are no message. Holds no value. */
export class ViciFormatError extends Error {
  override readonly name = 'ViciFormatError'
  readonly code: 'too-long' | 'malformed'

  constructor(code: ViciFormatError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** Throws ViciFormatError `too-long`. */
export function encodeMessage(section: ViciSection): Buffer {
  const parts: Buffer[] = []
  encodeInto(parts, section)
  return Buffer.concat(parts)
}

function encodeInto(parts: Buffer[], section: ViciSection): void {
  for (const [key, value] of section) {
    if (typeof value === 'string') parts.push(Buffer.of(KEY_VALUE), name(key), text(key, value))
    else if (isList(value)) {
      parts.push(Buffer.of(LIST_START), name(key))
      for (const item of value) parts.push(Buffer.of(LIST_ITEM), text(key, item))
      parts.push(Buffer.of(LIST_END))
    } else {
      parts.push(Buffer.of(SECTION_START), name(key))
      encodeInto(parts, value)
      parts.push(Buffer.of(SECTION_END))
    }
  }
}

export const isList = (value: ViciValue): value is readonly string[] => Array.isArray(value)

/** One byte of length, and text. */
export function name(key: string): Buffer {
  const bytes = Buffer.from(key)
  if (bytes.length === 0 || bytes.length > 255) throw new ViciFormatError('too-long', `a name of ${bytes.length} bytes`)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

function text(key: string, value: string): Buffer {
  const bytes = Buffer.from(value)
  if (bytes.length > 0xffff) throw new ViciFormatError('too-long', `${key}: a value of ${bytes.length} bytes`)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** Of two values with one name the later counts. Throws ViciFormatError `malformed`. */
export function decodeMessage(bytes: Uint8Array): ViciSection {
  const reader = new Reader(bytes)
  const section = reader.section(0)
  return section
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** To the end of the message, or of the section at a depth. */
  section(depth: number): ViciSection {
    if (depth > MAX_DEPTH) throw malformed(`sections more than ${MAX_DEPTH} deep`)
    const section = new Map<string, ViciValue>()
    while (this.#at < this.#bytes.length) {
      const type = this.#length(1)
      if (type === SECTION_END && depth > 0) return section
      if (type !== KEY_VALUE && type !== LIST_START && type !== SECTION_START) throw malformed(`element ${type}`)
      const key = this.#take(this.#length(1))
      if (type === KEY_VALUE) section.set(key, this.#take(this.#length(2)))
      else section.set(key, type === LIST_START ? this.#list() : this.section(depth + 1))
    }
    if (depth > 0) throw malformed('a section without an end')
    return section
  }

  #list(): string[] {
    const items: string[] = []
    for (;;) {
      const type = this.#length(1)
      if (type === LIST_END) return items
      if (type !== LIST_ITEM) throw malformed(`element ${type} in a list`)
      items.push(this.#take(this.#length(2)))
    }
  }

  #length(bytes: 1 | 2): number {
    if (this.#at + bytes > this.#bytes.length) throw malformed('it ends too early')
    const value = this.#bytes.readUIntBE(this.#at, bytes)
    this.#at += bytes
    return value
  }

  #take(length: number): string {
    if (this.#at + length > this.#bytes.length) throw malformed('it ends too early')
    this.#at += length
    return this.#bytes.toString('utf8', this.#at - length, this.#at)
  }
}

const malformed = (why: string): ViciFormatError => new ViciFormatError('malformed', `a message of charon: ${why}`)
