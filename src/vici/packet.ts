/** Packets on strongSwan's control socket: a length of four bytes, a type, for some a name, and a message. */

import { decodeMessage, encodeMessage, name, ViciFormatError, type ViciSection } from './message.ts'

const TYPES = {
  request: 0,
  response: 1,
  unknownCommand: 2,
  register: 3,
  unregister: 4,
  confirm: 5,
  unknownEvent: 6,
  event: 7,
} as const
export type PacketType = keyof typeof TYPES

const BY_NUMBER: ReadonlyMap<number, PacketType> = new Map(
  Object.entries(TYPES).flatMap(([type, number]) => (isType(type) ? [[number, type] as const] : [])),
)
const NAMED: ReadonlySet<PacketType> = new Set(['request', 'register', 'unregister', 'event'])

function isType(text: string): text is PacketType {
  return Object.hasOwn(TYPES, text)
}

/** charon takes and sends no longer ones. */
export const MAX_PACKET = 512 * 1024

export interface Packet {
  readonly type: PacketType
  /** Of a command or event; '' for packets that have none. */
  readonly name: string
  readonly message: ViciSection
}

/** With its length. Throws ViciFormatError. */
export function encodePacket(type: PacketType, called: string, message: ViciSection = new Map()): Buffer {
  const body = Buffer.concat([
    Buffer.of(TYPES[type]),
    NAMED.has(type) ? name(called) : Buffer.of(),
    encodeMessage(message),
  ])
  if (body.length > MAX_PACKET) throw new ViciFormatError('too-long', `${called}: a packet of ${body.length} bytes`)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

/** Without its length. Throws ViciFormatError `malformed`. */
export function decodePacket(body: Buffer): Packet {
  const type = BY_NUMBER.get(body[0] ?? -1)
  if (type === undefined) throw new ViciFormatError('malformed', `a packet of charon: type ${body[0]}`)
  const length = NAMED.has(type) ? body[1] : undefined
  if (NAMED.has(type) && (length === undefined || 2 + length > body.length))
    throw new ViciFormatError('malformed', 'a packet of charon: it ends too early')
  const at = length === undefined ? 1 : 2 + length
  return {
    type,
    name: length === undefined ? '' : body.toString('utf8', 2, at),
    message: decodeMessage(body.subarray(at)),
  }
}

/** Cuts a stream into packets. */
export class PacketStream {
  #held: Buffer = Buffer.alloc(0)

  /** What is complete now. Throws ViciFormatError `malformed`, after which the stream is of no use. */
  feed(chunk: Buffer): Packet[] {
    const packets: Packet[] = []
    this.#held = Buffer.concat([this.#held, chunk])
    while (this.#held.length >= 4) {
      const length = this.#held.readUInt32BE(0)
      if (length > MAX_PACKET) throw new ViciFormatError('malformed', `a packet of charon: ${length} bytes`)
      if (this.#held.length < 4 + length) break
      const body = this.#held.subarray(4, 4 + length)
      this.#held = this.#held.subarray(4 + length)
      packets.push(decodePacket(body))
    }
    return packets
  }
}
