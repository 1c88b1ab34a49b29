/** A codec writes and reads one type; tables of codecs make up structures. The field types: integers, bytes, text. */

import { CodecError, LITTLE, Reader, Writer } from './buffer.ts'

/** How one value looks in binary. Methods, not function fields, so that tables of different codecs are assignable. */
export interface Codec<T> {
  /** For messages and documentation: `u32`, `struct rtmsg`. */
  readonly name: string
  write(writer: Writer, value: T): void
  /** Reads from `reader.offset` and never past `reader.end`; codecs of variable length read up to `reader.end`. */
  read(reader: Reader): T
}

/** The type that a codec stands for. */
export type Of<C> = C extends Codec<infer T> ? T : never

/** A value's bytes, in an array of their own. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array<ArrayBuffer> {
  const writer = new Writer()
  codec.write(writer, value)
  return writer.copy()
}

/** Reads a value that fills the bytes exactly. Throws `CodecError`. */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const reader = new Reader(bytes)
  const value = codec.read(reader)
  if (reader.left > 0) throw new CodecError('bad-length', `${reader.left} bytes after ${codec.name}`)
  return value
}

const outOfRange = (name: string, value: number | bigint): CodecError =>
  new CodecError('bad-value', `${value} does not fit ${name}`)

function inRange(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) throw outOfRange(name, value)
  return value
}

export const u8: Codec<number> = {
  name: 'u8',
  write(w, value) {
    const at = w.reserve(1)
    w.bytes[at] = inRange('u8', value, 0, 0xff)
  },
  read: (r) => r.view.getUint8(r.take(1)),
}

export const i8: Codec<number> = {
  name: 'i8',
  write(w, value) {
    const at = w.reserve(1)
    w.view.setInt8(at, inRange('i8', value, -0x80, 0x7f))
  },
  read: (r) => r.view.getInt8(r.take(1)),
}

/** 16 bits in host order. */
export const u16: Codec<number> = u16of('u16', LITTLE)
/** 16 bits in network order. */
export const be16: Codec<number> = u16of('be16', false)

function u16of(name: string, little: boolean): Codec<number> {
  return {
    name,
    write(w, value) {
      const at = w.reserve(2)
      w.view.setUint16(at, inRange(name, value, 0, 0xffff), little)
    },
    read: (r) => r.view.getUint16(r.take(2), little),
  }
}

/** 32 bits in host order. */
export const u32: Codec<number> = u32of('u32', LITTLE)
/** 32 bits in network order. */
export const be32: Codec<number> = u32of('be32', false)

function u32of(name: string, little: boolean): Codec<number> {
  return {
    name,
    write(w, value) {
      const at = w.reserve(4)
      w.view.setUint32(at, inRange(name, value, 0, 0xffff_ffff), little)
    },
    read: (r) => r.view.getUint32(r.take(4), little),
  }
}

/** 32 bits in host order, signed. */
export const i32: Codec<number> = {
  name: 'i32',
  write(w, value) {
    const at = w.reserve(4)
    w.view.setInt32(at, inRange('i32', value, -0x8000_0000, 0x7fff_ffff), LITTLE)
  },
  read: (r) => r.view.getInt32(r.take(4), LITTLE),
}

/** 64 bits in host order. */
export const u64: Codec<bigint> = u64of('u64', LITTLE)
/** 64 bits in network order. */
export const be64: Codec<bigint> = u64of('be64', false)

function u64of(name: string, little: boolean): Codec<bigint> {
  return {
    name,
    write(w, value) {
      if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw outOfRange(name, value)
      const at = w.reserve(8)
      w.view.setBigUint64(at, value, little)
    },
    read: (r) => r.view.getBigUint64(r.take(8), little),
  }
}

/** Everything that is left, as bytes. */
export const rest: Codec<Uint8Array> = {
  name: 'bytes',
  write: (w, value) => w.append(value),
  read: (r) => r.copy(r.left),
}

/** Exactly `size` bytes. */
export const bytes = (size: number): Codec<Uint8Array> => ({
  name: `bytes(${size})`,
  write(w, value) {
    if (value.length !== size) throw new CodecError('bad-length', `${value.length} bytes given for ${size}`)
    w.append(value)
  },
  read: (r) => r.copy(size),
})

/** `size` bytes that mean nothing: zero when written, ignored when read. Its key in a struct must start with `_`. */
export const pad = (size: number): Codec<undefined> => ({
  name: `pad(${size})`,
  write: (w) => void w.reserve(size),
  read: (r) => void r.take(size),
})

const utf8 = new TextDecoder()
const utf8Encoder = new TextEncoder()

/** Text that fills what is left up to its NUL. `max` bounds its bytes, the NUL included. */
export const cstring = (max: number): Codec<string> => ({
  name: `cstring(${max})`,
  write(w, value) {
    const encoded = utf8Encoder.encode(value)
    if (encoded.length + 1 > max || encoded.includes(0)) {
      throw new CodecError('bad-value', `${JSON.stringify(value.slice(0, 64))} is not text of at most ${max - 1} bytes`)
    }
    w.append(encoded)
    w.reserve(1)
  },
  read(r) {
    const start = r.take(r.left)
    const nul = r.bytes.indexOf(0, start)
    return asciiOrUtf8(r.bytes, start, nul < 0 || nul > r.end ? r.end : nul)
  },
})

/** Most kernel text is a short ASCII name, where the decoder's call costs more than the work. */
function asciiOrUtf8(source: Uint8Array, start: number, end: number): string {
  if (end - start > 32) return utf8.decode(source.subarray(start, end))
  let text = ''
  for (let i = start; i < end; i++) {
    const byte = source[i] ?? 0
    if (byte > 0x7f) return utf8.decode(source.subarray(start, end))
    text += String.fromCharCode(byte)
  }
  return text
}

/**
 * True by being there: an attribute without payload (NLA_FLAG); `attributes` leaves out a false one. Some flags the kernel
 * takes in this form and reports as a u8, so a payload is read as one.
 */
export const flag: Codec<boolean> = {
  name: 'flag',
  write: () => undefined,
  read: (r) => r.left === 0 || u8.read(r) !== 0,
}

/** A number written as another codec's integer, spoken of as a boolean: the kernel's u8 switches. */
export const bool8: Codec<boolean> = {
  name: 'bool8',
  write: (w, value) => u8.write(w, value ? 1 : 0),
  read: (r) => u8.read(r) !== 0,
}

/** Values of one codec one after the other, until the end. */
export const array = <T>(item: Codec<T>): Codec<readonly T[]> => ({
  name: `${item.name}[]`,
  write(w, values) {
    for (const value of values) item.write(w, value)
  },
  read(r) {
    const values: T[] = []
    while (r.left > 0) {
      const before = r.offset
      values.push(item.read(r))
      if (r.offset === before) throw new CodecError('bad-length', `${item.name} of no length in an array`)
    }
    return values
  },
})

/** A codec that is made when first used: for tables that refer to each other. */
export function lazy<T>(name: string, make: () => Codec<T>): Codec<T> {
  let made: Codec<T> | undefined
  return {
    name,
    write: (w, value) => (made ??= make()).write(w, value),
    read: (r) => (made ??= make()).read(r),
  }
}

/** A codec seen through a conversion. */
export const mapped = <T, U>(name: string, codec: Codec<T>, to: (value: T) => U, from: (value: U) => T): Codec<U> => ({
  name,
  write: (w, value) => codec.write(w, from(value)),
  read: (r) => to(codec.read(r)),
})
