/** As much of protobuf as the CRI's messages need. Source: protobuf.dev, "Encoding". */

export type Field = readonly [number: number, value: Value]
/** A number is a varint, text and bytes have a length, a list is a message of its own. */
export type Value = number | boolean | string | Uint8Array | readonly Field[]

export function encode(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.map(([number, value]) => encodeField(number, value)))
}

/** The entries of a map<string, string>. */
export const mapFields = (number: number, map: Readonly<Record<string, string>>): readonly Field[] =>
  Object.entries(map).map(([key, value]): Field => [
    number,
    [
      [1, key],
      [2, value],
    ],
  ])

function encodeField(number: number, value: Value): Buffer {
  if (typeof value === 'number' || typeof value === 'boolean')
    return Buffer.concat([varint(number << 3), varint(Number(value))])
  const bytes = typeof value === 'string' ? Buffer.from(value) : value instanceof Uint8Array ? value : encode(value)
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}

/** A message read: every field's values in order; those of length are bytes. */
export class Message {
  readonly #fields = new Map<number, (number | Buffer)[]>()

  constructor(bytes: Buffer) {
    let at = 0
    const read = (): number => {
      let value = 0
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++]
        if (byte === undefined || scale > 2 ** 70) throw new Error('a varint does not end')
        value += (byte & 127) * scale
        if (byte < 128) return value
      }
    }
    while (at < bytes.length) {
      const key = read()
      const [number, type] = [key >> 3, key & 7]
      const values = this.#fields.get(number) ?? []
      this.#fields.set(number, values)
      if (type === 0) values.push(read())
      else if (type === 2) {
        const length = read()
        if (at + length > bytes.length) throw new Error(`field ${number} does not end`)
        values.push(bytes.subarray(at, (at += length)))
      } else throw new Error(`field ${number} has wire type ${type}`)
    }
  }

  texts(number: number): readonly string[] {
    return (this.#fields.get(number) ?? []).map((value) => (typeof value === 'number' ? `${value}` : value.toString()))
  }

  text(number: number): string {
    return this.texts(number).at(-1) ?? ''
  }

  number(number: number): number {
    const value = this.#fields.get(number)?.at(-1)
    return typeof value === 'number' ? value : 0
  }

  messages(number: number): readonly Message[] {
    return (this.#fields.get(number) ?? [])
      .filter((value) => typeof value !== 'number')
      .map((value) => new Message(value))
  }

  message(number: number): Message {
    return this.messages(number).at(-1) ?? new Message(Buffer.alloc(0))
  }

  /** A map<string, string>. */
  map(number: number): ReadonlyMap<string, string> {
    return new Map(this.messages(number).map((entry) => [entry.text(1), entry.text(2)]))
  }
}
