/**
 * Messages of D-Bus, as far as calling methods needs them: arguments that are strings, answers of simple types. Little-endian is written, both orders are read.
 * Source: D-Bus Specification, "Message Protocol" and "Marshaling".
 */

/** A method call. All arguments are strings (signature `s…`). */
export interface Call {
  readonly destination: string
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly args: readonly string[]
}

export type Value = string | number | boolean | readonly string[]

export interface Reply {
  readonly type: 'return' | 'error'
  /** The call's serial. */
  readonly to: number
  /** `org.freedesktop.DBus.Error.…`; '' for a return. */
  readonly error: string
  readonly body: readonly Value[]
}

export class DbusFormatError extends Error {
  override readonly name = 'DbusFormatError'
}

const TYPE = { call: 1, return: 2, error: 3 } as const
const FIELD = { path: 1, interface: 2, member: 3, error: 4, replyTo: 5, destination: 6, signature: 8 } as const
/** The specification's own bound is 128 MiB. */
export const MAX_MESSAGE = 1 << 20
const HEADER = 16

const padded = (length: number, to: number): number => Math.ceil(length / to) * to

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8')
  const out = Buffer.alloc(4 + bytes.length + 1)
  out.writeUInt32LE(bytes.length)
  bytes.copy(out, 4)
  return out
}

function signature(value: string): Buffer {
  return Buffer.from([value.length, ...Buffer.from(value, 'latin1'), 0])
}

/** Parts one after the other, each at a multiple of its alignment. */
function joined(parts: readonly (readonly [alignment: number, bytes: Buffer])[]): Buffer {
  let out = Buffer.alloc(0)
  for (const [alignment, bytes] of parts)
    out = Buffer.concat([out, Buffer.alloc(padded(out.length, alignment) - out.length), bytes])
  return out
}

/** One message with this serial, which is not 0. */
export function writeCall(serial: number, call: Call): Buffer {
  const field = (code: number, type: string, value: Buffer): readonly [number, Buffer] => [
    8,
    // Every type here is aligned to at most 4, and code with signature takes 4.
    Buffer.concat([Buffer.from([code]), signature(type), value]),
  ]
  const fields = joined([
    field(FIELD.path, 'o', text(call.path)),
    field(FIELD.destination, 's', text(call.destination)),
    field(FIELD.interface, 's', text(call.interface)),
    field(FIELD.member, 's', text(call.member)),
    ...(call.args.length === 0 ? [] : [field(FIELD.signature, 'g', signature('s'.repeat(call.args.length)))]),
  ])
  const body = joined(call.args.map((arg) => [4, text(arg)] as const))
  const head = Buffer.alloc(HEADER)
  head.write('l')
  head.set([TYPE.call, 0, 1], 1)
  head.writeUInt32LE(body.length, 4)
  head.writeUInt32LE(serial, 8)
  head.writeUInt32LE(fields.length, 12)
  return joined([
    [1, head],
    [1, fields],
    [8, body],
  ])
}

/** How long the message at the beginning of these bytes is; undefined while they do not tell. Throws DbusFormatError. */
export function messageLength(bytes: Buffer): number | undefined {
  if (bytes.length < HEADER) return undefined
  const reader = readerOf(bytes)
  const body = reader.u32(4)
  const fields = reader.u32(12)
  const length = padded(HEADER + fields, 8) + body
  if (length > MAX_MESSAGE) throw new DbusFormatError(`a message of ${length} bytes is too long`)
  return length
}

/** A whole message, when it is an answer; undefined for signals and calls. Throws DbusFormatError. */
export function readReply(bytes: Buffer): Reply | undefined {
  const kind = bytes[1]
  if (kind !== TYPE.return && kind !== TYPE.error) return undefined
  const reader = readerOf(bytes)
  const end = HEADER + reader.u32(12)
  let to = 0
  let error = ''
  let types = ''
  for (let at = HEADER; at < end;) {
    at = padded(at, 8)
    const code = reader.byte(at)
    const [type, next] = reader.signature(at + 1)
    const [value, after] = reader.value(type, next)
    if (code === FIELD.replyTo && typeof value === 'number') to = value
    if (code === FIELD.error && typeof value === 'string') error = value
    if (code === FIELD.signature && typeof value === 'string') types = value
    at = after
  }
  return { type: kind === TYPE.return ? 'return' : 'error', to, error, body: readBody(reader, types, padded(end, 8)) }
}

/** Up to the first value of a type that is not read here. */
function readBody(reader: ReturnType<typeof readerOf>, types: string, start: number): readonly Value[] {
  const body: Value[] = []
  let at = start
  for (const type of types.match(/a?./g) ?? []) {
    if (!READ.has(type)) break
    const [value, after] = reader.value(type, at)
    body.push(value)
    at = after
  }
  return body
}

const READ: ReadonlySet<string> = new Set(['s', 'o', 'g', 'u', 'i', 'b', 'as'])

function readerOf(bytes: Buffer) {
  const big = bytes[0] === 0x42
  const need = (at: number, length: number): void => {
    if (at + length > bytes.length)
      throw new DbusFormatError(`a message ends at ${bytes.length}, in the middle of a value`)
  }
  const byte = (at: number): number => {
    need(at, 1)
    return bytes.readUInt8(at)
  }
  const u32 = (at: number): number => {
    need(at, 4)
    return big ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)
  }
  const string = (at: number): readonly [string, number] => {
    const start = padded(at, 4)
    const length = u32(start)
    need(start + 4, length + 1)
    return [bytes.toString('utf8', start + 4, start + 4 + length), start + 4 + length + 1]
  }
  const shortString = (at: number): readonly [string, number] => {
    const length = byte(at)
    need(at + 1, length + 1)
    return [bytes.toString('latin1', at + 1, at + 1 + length), at + length + 2]
  }
  const strings = (at: number): readonly [readonly string[], number] => {
    const start = padded(at, 4)
    const end = start + 4 + u32(start)
    need(start, end - start)
    const list: string[] = []
    for (let next = start + 4; next < end;) {
      const [value, after] = string(next)
      list.push(value)
      next = after
    }
    return [list, end]
  }
  const value = (type: string, at: number): readonly [Value, number] => {
    if (type === 's' || type === 'o') return string(at)
    if (type === 'g') return shortString(at)
    if (type === 'as') return strings(at)
    const start = padded(at, 4)
    if (type === 'u') return [u32(start), start + 4]
    if (type === 'i') return [u32(start) | 0, start + 4]
    if (type === 'b') return [u32(start) !== 0, start + 4]
    throw new DbusFormatError(`a value of the type ${JSON.stringify(type)} was not expected`)
  }
  return { byte, u32, signature: shortString, value }
}
