/** Structures of fixed layout: fields in the order of their declaration, padding declared like any field. */

import type { Codec, Of } from './codec.ts'

type Shape = Readonly<Record<string, Codec<unknown>>>

/** The value of a struct: every field but padding (keys that start with `_`). */
export type StructValue<S extends Shape> = { readonly [K in keyof S as K extends `_${string}` ? never : K]: Of<S[K]> }

export interface Struct<S extends Shape> extends Codec<StructValue<S>> {
  readonly fields: S
}

/**
 * `struct('rtmsg', { family: u8, … })`: one declaration gives the type, the encoder and the decoder. There is no implicit
 * alignment; write `_pad: pad(2)` where C would have a hole.
 */
export function struct<const S extends Shape>(name: string, fields: S): Struct<S> {
  const entries = Object.entries(fields)
  return {
    name: `struct ${name}`,
    fields,
    write(writer, value) {
      const source = value as Readonly<Record<string, unknown>>
      for (const [key, codec] of entries) codec.write(writer, source[key])
    },
    read(reader) {
      const value: Record<string, unknown> = {}
      for (const [key, codec] of entries) {
        const field = codec.read(reader)
        if (!key.startsWith('_')) value[key] = field
      }
      return value as StructValue<S>
    },
  }
}
