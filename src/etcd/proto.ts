/** As much of protobuf as etcd's messages need. Source: protobuf.dev, "Encoding"; etcd's api/etcdserverpb/rpc.proto. */

import { EtcdError } from './errors.ts'

/** A number or bigint is a varint (negative ones take ten bytes), text and bytes have a length, a list is a message of its own. */
export type Value = number | bigint | boolean | string | Uint8Array | readonly Field[]
export type Field = readonly [number: number, value: Value]

/** Fields in the given order. Values that are the default are written too, unless they are left out. */
export const encode = (fields: readonly Field[]): Buffer =>
  Buffer.concat(fields.map(([number, value]) => encodeField(number, value)))

function encodeField(number: number, value: Value): Buffer {
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint')
    return Buffer.concat([varint(BigInt(number) << 3n), varint(BigInt(value))])
  const bytes = typeof value === 'string' ? Buffer.from(value) : value instanceof Uint8Array ? value : encode(value)
  return Buffer.concat([varint((BigInt(number) << 3n) | 2n), varint(BigInt(bytes.length)), bytes])
}

function varint(value: bigint): Buffer {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Buffer.from([...bytes, Number(rest)])
}

const bad = (why: string): EtcdError => new EtcdError('bad-answer', 'etcd', `the answer is no protobuf message: ${why}`)

const NO_BYTES = Buffer.alloc(0)

/** A message that was read: each field's values in order. What is missing is its default. Throws EtcdError `bad-answer`. */
export class Message {
  readonly #numbers = new Map<number, bigint>()
  readonly #bytes = new Map<number, Buffer[]>()

  constructor(bytes: Buffer) {
    let at = 0
    const read = (): bigint => {
      let value = 0n
      for (let shift = 0n; shift < 70n; shift += 7n) {
        const byte = bytes[at++]
        if (byte === undefined) throw bad('a number does not end')
        value |= BigInt(byte & 127) << shift
        if (byte < 128) return BigInt.asUintN(64, value)
      }
      throw bad('a number is too long')
    }
    while (at < bytes.length) {
      const key = read()
      const number = Number(key >> 3n)
      if (number === 0) throw bad('field number 0')
      switch (key & 7n) {
        case 0n:
          this.#numbers.set(number, read())
          break
        case 1n:
          at += 8
          break
        case 2n: {
          const length = Number(read())
          if (at + length > bytes.length) throw bad(`field ${number} does not end`)
          const values = this.#bytes.get(number)
          const value = bytes.subarray(at, (at += length))
          if (values === undefined) this.#bytes.set(number, [value])
          else values.push(value)
          break
        }
        case 5n:
          at += 4
          break
        default:
          throw bad(`field ${number} has wire type ${key & 7n}`)
      }
    }
    if (at > bytes.length) throw bad('a field does not end')
  }

  bytes(number: number): Buffer {
    return this.#bytes.get(number)?.at(-1) ?? NO_BYTES
  }

  text(number: number): string {
    return this.bytes(number).toString()
  }

  /** int64. */
  long(number: number): bigint {
    return BigInt.asIntN(64, this.#numbers.get(number) ?? 0n)
  }

  /** An int64 that is small in honest answers. Throws where it is not. */
  number(number: number): number {
    const value = Number(this.long(number))
    if (!Number.isSafeInteger(value)) throw bad(`field ${number} is ${value}`)
    return value
  }

  flag(number: number): boolean {
    return this.long(number) !== 0n
  }

  message(number: number): Message {
    return new Message(this.bytes(number))
  }

  messages(number: number): readonly Message[] {
    return (this.#bytes.get(number) ?? []).map((bytes) => new Message(bytes))
  }
}
