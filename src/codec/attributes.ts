/**
 * Netlink attributes: type-length-value, aligned to 4 bytes, in any order (struct nlattr, include/uapi/linux/netlink.h).
 *
 * One table names the attributes of one place. What it does not name is kept as bytes under `unknown`, so that a message
 * can be read, changed and written again (`Reader.keepUnknown`).
 */

import { CodecError, LITTLE, type Reader, type Writer } from './buffer.ts'
import type { Codec } from './codec.ts'

/** Set on attributes that hold attributes. */
export const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff
const HEADER = 4

export interface Attribute<T> {
  readonly type: number
  readonly codec: Codec<T>
  /** The attribute may come several times; its value is a list. */
  readonly many: boolean
  /** Flag bits of the type field when written. */
  readonly flags: number
}

/** An attribute that its table does not name. */
export interface RawAttribute {
  readonly type: number
  readonly bytes: Uint8Array
}

type Table = Readonly<Record<string, Attribute<unknown>>>
type ValueOf<A> = A extends Attribute<infer T> ? T : never

/** The value of an attribute table: everything is optional, as on the wire. */
export type AttributesValue<T extends Table> = { readonly [K in keyof T]?: ValueOf<T[K]> | undefined } & {
  readonly unknown?: readonly RawAttribute[] | undefined
}

export interface Attributes<T extends Table> extends Codec<AttributesValue<T>> {
  readonly table: T
}

/** One attribute with its number. */
export const attr = <T>(type: number, codec: Codec<T>): Attribute<T> => ({ type, codec, many: false, flags: 0 })

/** One attribute that holds others. */
export const nest = <T>(type: number, codec: Codec<T>): Attribute<T> => ({
  type,
  codec,
  many: false,
  flags: NLA_F_NESTED,
})

/** An attribute that may come several times. `flags`: NLA_F_NESTED for items that hold attributes, where the kernel asks for it. */
export const many = <T>(type: number, codec: Codec<T>, flags = 0): Attribute<readonly T[]> => ({
  type,
  // The engine below writes and reads the items one by one; the list itself never reaches this codec.
  codec: codec as unknown as Codec<readonly T[]>,
  many: true,
  flags,
})

/** `attributes('route', { dst: attr(1, ip), … })`: type, encoder and decoder in one. Written in the order of the value's keys. */
export function attributes<const T extends Table>(name: string, table: T): Attributes<T> {
  const byType: ([string, Attribute<unknown>] | undefined)[] = []
  for (const entry of Object.entries<Attribute<unknown>>(table)) byType[entry[1].type] = entry
  return {
    name: `${name} attributes`,
    table,
    write(writer, value) {
      const source = value as Readonly<Record<string, unknown>>
      for (const key in source) {
        const given = source[key]
        if (given !== undefined) writeNamed(writer, name, table, key, given)
      }
    },
    read(reader) {
      const value: Record<string, unknown> = {}
      const unknown: RawAttribute[] = []
      forEachAttribute(reader, (type, payload) => {
        const entry = byType[type]
        if (entry === undefined) {
          if (reader.keepUnknown) unknown.push({ type, bytes: payload.copy(payload.left) })
          return
        }
        const item = entry[1].codec.read(payload)
        if (entry[1].many) ((value[entry[0]] ??= []) as unknown[]).push(item)
        else value[entry[0]] = item
      })
      if (unknown.length > 0) value['unknown'] = unknown
      return value as AttributesValue<T>
    },
  }
}

/**
 * Writes one attribute by its declaration, if there is a value: `put(w, table.oif, 3)`. The way for messages that are
 * written by the thousand; it needs no object of values and no look-up by name.
 */
export function put<T>(writer: Writer, attribute: Attribute<T>, value: T | undefined): void {
  if (value !== undefined) writeOne(writer, attribute.type | attribute.flags, attribute.codec, value)
}

function writeNamed(writer: Writer, place: string, table: Table, key: string, given: unknown): void {
  if (key === 'unknown') {
    for (const raw of given as readonly RawAttribute[]) writeAttribute(writer, raw.type, (w) => w.append(raw.bytes))
    return
  }
  const attribute = Object.hasOwn(table, key) ? table[key] : undefined
  if (attribute === undefined) throw new CodecError('unknown-field', `${place} has no attribute ${key}`)
  const { codec, type, flags } = attribute
  if (attribute.many) {
    for (const item of given as readonly unknown[]) writeOne(writer, type | flags, codec, item)
  } else if (given !== false || codec.name !== 'flag') {
    writeOne(writer, type | flags, codec, given)
  }
}

function writeOne<T>(writer: Writer, type: number, codec: Codec<T>, value: T): void {
  const start = writer.reserve(HEADER)
  codec.write(writer, value)
  close(writer, start, type)
}

/** Writes one attribute whose payload `write` appends. */
export function writeAttribute(writer: Writer, type: number, write: (writer: Writer) => void): void {
  const start = writer.reserve(HEADER)
  write(writer)
  close(writer, start, type)
}

function close(writer: Writer, start: number, type: number): void {
  const length = writer.length - start
  if (length > 0xffff) throw new CodecError('bad-length', `an attribute of ${length} bytes: 65535 is the most`)
  writer.view.setUint16(start, length, LITTLE)
  writer.view.setUint16(start + 2, type, LITTLE)
  writer.align(4)
}

/** Visits every attribute up to `reader.end`. A visitor need not read everything; it cannot read past its attribute. */
export function forEachAttribute(reader: Reader, visit: (type: number, payload: Reader) => void): void {
  const end = reader.end
  while (end - reader.offset >= HEADER) {
    const start = reader.offset
    const length = reader.view.getUint16(start, LITTLE)
    const type = reader.view.getUint16(start + 2, LITTLE) & NLA_TYPE_MASK
    if (length < HEADER || start + length > end) {
      throw new CodecError(
        'bad-length',
        `attribute ${type} at offset ${start} claims ${length} of ${end - start} bytes`,
      )
    }
    reader.offset = start + HEADER
    reader.end = start + length
    try {
      visit(type, reader)
    } finally {
      reader.end = end
    }
    reader.offset = Math.min(end, start + ((length + 3) & ~3))
  }
  // Up to three bytes of padding may follow the last attribute.
  reader.offset = end
}
