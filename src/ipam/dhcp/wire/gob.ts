/**
 * Go's gob encoding, as far as the remote calls between the reference's dhcp plugin and its daemon need it: integers, booleans, text, bytes, slices and
 * structs. Source: the documentation of the package encoding/gob.
 *
 * A stream is a sequence of messages, each with its length; a message defines a type (negative number) or holds a value of one (positive).
 */

import { Writer } from '#codec/buffer.ts'

export class GobError extends Error {
  override readonly name = 'GobError'
  readonly code: 'truncated' | 'too-long' | 'malformed' | 'unsupported'

  constructor(code: GobError['code'], message: string) {
    super(`gob: ${message}`)
    this.code = code
  }
}

/** A type that we write. A struct's fields are written in this order; absent or zero ones not at all, as Go does. */
export type GobType =
  | 'bool'
  | 'int'
  | 'uint'
  | 'bytes'
  | 'string'
  | { readonly slice: GobType }
  | { readonly struct: string; readonly fields: Readonly<Record<string, GobType>> }

/** Structs are maps by field name; a field that was zero is absent. */
export type GobValue = boolean | number | string | Uint8Array | readonly GobValue[] | GobStruct
export type GobStruct = ReadonlyMap<string, GobValue>

const BUILT_IN = { bool: 1, int: 2, uint: 3, bytes: 5, string: 6 } as const
/** The first number that a stream may give to a type of its own. */
const FIRST_ID = 65
const WIRE = { array: 0, slice: 1, struct: 2 } as const

/** The largest message, a CNI configuration of 10 MiB included. */
export const MAX_GOB_BYTES = 11 * 1024 * 1024
const MAX_TYPES = 256
const MAX_DEPTH = 32

function writeUint(w: Writer, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new GobError('unsupported', `${value} is no unsigned integer`)
  if (value < 128) {
    w.append(Uint8Array.of(value))
    return
  }
  const bytes: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  w.append(Uint8Array.of(256 - bytes.length, ...bytes))
}

/** Zigzag: the sign is the lowest bit. */
const writeInt = (w: Writer, value: number): void => writeUint(w, value < 0 ? -2 * value - 1 : 2 * value)

function writeText(w: Writer, text: string): void {
  const bytes = Buffer.from(text)
  writeUint(w, bytes.length)
  w.append(bytes)
}

const isZero = (value: GobValue): boolean =>
  value === 0 ||
  value === false ||
  value === '' ||
  ((value instanceof Uint8Array || Array.isArray(value)) && value.length === 0)

/** The writing end of a stream: tells each type once. */
export class GobEncoder {
  readonly #ids = new Map<string, number>()

  /** The bytes of one value, with the types that the reader does not know yet before it. */
  encode(type: GobType, value: GobValue): Buffer {
    const out: Buffer[] = []
    const id = this.#define(type, out)
    const w = new Writer()
    writeInt(w, id)
    if (typeof type === 'string' || 'slice' in type) writeUint(w, 0)
    this.#value(w, type, value)
    out.push(framed(w))
    return Buffer.concat(out)
  }

  #define(type: GobType, out: Buffer[]): number {
    if (typeof type === 'string') return BUILT_IN[type]
    const key = JSON.stringify(type)
    const known = this.#ids.get(key)
    if (known !== undefined) return known
    const id = FIRST_ID + this.#ids.size
    this.#ids.set(key, id)
    const w = new Writer()
    writeInt(w, -id)
    if ('slice' in type) {
      const element = this.#define(type.slice, out)
      writeUint(w, WIRE.slice + 1)
      writeCommon(w, '', id)
      writeUint(w, 1)
      writeInt(w, element)
    } else {
      const fields = Object.entries(type.fields).map(([name, field]) => ({ name, id: this.#define(field, out) }))
      writeUint(w, WIRE.struct + 1)
      writeCommon(w, type.struct, id)
      if (fields.length > 0) {
        writeUint(w, 1)
        writeUint(w, fields.length)
        for (const field of fields) {
          writeUint(w, 1)
          writeText(w, field.name)
          writeUint(w, 1)
          writeInt(w, field.id)
          writeUint(w, 0)
        }
      }
    }
    writeUint(w, 0)
    writeUint(w, 0)
    out.push(framed(w))
    return id
  }

  #value(w: Writer, type: GobType, value: GobValue): void {
    if (typeof type === 'object' && 'struct' in type) {
      if (!(value instanceof Map)) throw new GobError('unsupported', `${type.struct} is no struct`)
      let last = -1
      for (const [index, [name, field]] of Object.entries(type.fields).entries()) {
        const part: GobValue | undefined = value.get(name)
        if (part === undefined || isZero(part)) continue
        writeUint(w, index - last)
        last = index
        this.#value(w, field, part)
      }
      writeUint(w, 0)
    } else if (typeof type === 'object') {
      if (!Array.isArray(value)) throw new GobError('unsupported', 'no slice')
      writeUint(w, value.length)
      for (const item of value) this.#value(w, type.slice, item)
    } else if (type === 'bytes' && value instanceof Uint8Array) {
      writeUint(w, value.length)
      w.append(value)
    } else if (type === 'string' && typeof value === 'string') writeText(w, value)
    else if (type === 'int' && typeof value === 'number') writeInt(w, value)
    else if (type === 'uint' && typeof value === 'number') writeUint(w, value)
    else if (type === 'bool' && typeof value === 'boolean') writeUint(w, value ? 1 : 0)
    else throw new GobError('unsupported', `a ${typeof value} is no ${type}`)
  }
}

function writeCommon(w: Writer, name: string, id: number): void {
  writeUint(w, 1)
  if (name !== '') {
    writeUint(w, 1)
    writeText(w, name)
  }
  writeUint(w, name === '' ? 2 : 1)
  writeInt(w, id)
  writeUint(w, 0)
}

function framed(w: Writer): Buffer {
  const head = new Writer(16)
  writeUint(head, w.length)
  return Buffer.concat([head.written(), w.written()])
}

/** Reads numbers and texts from a bounded piece. */
class Cursor {
  readonly bytes: Uint8Array
  at = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  uint(): number {
    const first = this.bytes[this.at]
    if (first === undefined) throw new GobError('truncated', 'a number is cut short')
    this.at++
    if (first < 128) return first
    const size = 256 - first
    if (size > 8) throw new GobError('malformed', `a number of ${size} bytes`)
    let value = 0
    for (const byte of this.take(size)) value = value * 256 + byte
    if (!Number.isSafeInteger(value)) throw new GobError('unsupported', 'a number beyond 2^53')
    return value
  }

  int(): number {
    const value = this.uint()
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2
  }

  take(size: number): Uint8Array {
    if (size > this.bytes.length - this.at) throw new GobError('truncated', `${size} bytes are not there`)
    this.at += size
    return this.bytes.subarray(this.at - size, this.at)
  }

  text(): string {
    return Buffer.from(this.take(this.uint())).toString('utf8')
  }
}

type Known =
  | { readonly kind: 'array' | 'slice'; readonly element: number }
  | { readonly kind: 'struct'; readonly fields: readonly { readonly name: string; readonly id: number }[] }

/** Length of the message that starts with these bytes, its length included; undefined while too few have come. Throws `GobError`. */
export function gobMessageLength(bytes: Uint8Array): { readonly start: number; readonly end: number } | undefined {
  const first = bytes[0]
  if (first === undefined || (first >= 128 && bytes.length < 257 - first)) return undefined
  const cursor = new Cursor(bytes)
  const length = cursor.uint()
  if (length > MAX_GOB_BYTES) throw new GobError('too-long', `a message of ${length} bytes`)
  return { start: cursor.at, end: cursor.at + length }
}

/** The reading end of a stream: learns types, gives values. */
export class GobDecoder {
  readonly #types = new Map<number, Known>()

  /** One message without its length: a value, or undefined when it defined a type. Throws `GobError`; the stream is then of no more use. */
  decode(message: Uint8Array): GobValue | undefined {
    const cursor = new Cursor(message)
    const id = cursor.int()
    if (id < 0) {
      if (this.#types.size >= MAX_TYPES) throw new GobError('too-long', `more than ${MAX_TYPES} types`)
      this.#types.set(-id, readType(cursor))
      return undefined
    }
    if (this.#types.get(id)?.kind !== 'struct') cursor.uint()
    return this.#value(cursor, id, 0)
  }

  #value(cursor: Cursor, id: number, depth: number): GobValue {
    if (depth > MAX_DEPTH) throw new GobError('too-long', 'nested too deep')
    if (id === BUILT_IN.bool) return cursor.uint() !== 0
    if (id === BUILT_IN.int) return cursor.int()
    if (id === BUILT_IN.uint) return cursor.uint()
    if (id === BUILT_IN.string) return cursor.text()
    if (id === BUILT_IN.bytes) return new Uint8Array(cursor.take(cursor.uint()))
    const type = this.#types.get(id)
    if (type === undefined) throw new GobError('unsupported', `type ${id}`)
    if (type.kind !== 'struct') {
      const count = cursor.uint()
      if (count > cursor.bytes.length - cursor.at) throw new GobError('truncated', `${count} elements are not there`)
      return Array.from({ length: count }, () => this.#value(cursor, type.element, depth + 1))
    }
    const found = new Map<string, GobValue>()
    for (let index = -1; ;) {
      const delta = cursor.uint()
      if (delta === 0) return found
      index += delta
      const field = type.fields[index]
      if (field === undefined) throw new GobError('malformed', `field ${index} of ${type.fields.length}`)
      found.set(field.name, this.#value(cursor, field.id, depth + 1))
    }
  }
}

/** A wireType: one field says which kind it is. */
function readType(cursor: Cursor): Known {
  const kind = cursor.uint() - 1
  const known = readKind(cursor, kind)
  // The ends of the kind and of the wireType itself.
  if (cursor.uint() !== 0) throw new GobError('malformed', 'a type of two kinds')
  return known
}

function readKind(cursor: Cursor, kind: number): Known {
  const numbers: number[] = []
  const fields: { name: string; id: number }[] = []
  for (let index = -1; ;) {
    const delta = cursor.uint()
    if (delta === 0) break
    index += delta
    if (index === 0) readCommon(cursor)
    else if (kind === WIRE.struct && index === 1) {
      const count = cursor.uint()
      if (count > cursor.bytes.length - cursor.at) throw new GobError('truncated', `${count} fields are not there`)
      for (let i = 0; i < count; i++) fields.push(readCommon(cursor))
    } else numbers.push(cursor.int())
  }
  if (kind === WIRE.struct) return { kind: 'struct', fields }
  const [element] = numbers
  if ((kind !== WIRE.array && kind !== WIRE.slice) || element === undefined)
    throw new GobError('unsupported', `a type of kind ${kind}`)
  return { kind: kind === WIRE.slice ? 'slice' : 'array', element }
}

/** A struct of a name and a number: CommonType, and a field of a struct. */
function readCommon(cursor: Cursor): { name: string; id: number } {
  let name = ''
  let id = 0
  for (let index = -1; ;) {
    const delta = cursor.uint()
    if (delta === 0) return { name, id }
    index += delta
    if (index === 0) name = cursor.text()
    else if (index === 1) id = cursor.int()
    else throw new GobError('malformed', 'a type with more than name and number')
  }
}
