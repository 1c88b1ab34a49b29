/** DHCPv4 messages. Sources: RFC 2131 §2, RFC 2132, RFC 3396 (an option in several pieces). */

import { formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import { macFromBytes, macToBytes } from '#ip/mac.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { DhcpWireError, malformed, truncated } from './error.ts'

/** RFC 2132 §9.6. */
export const MESSAGE4 = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const

export type MessageType4 = keyof typeof MESSAGE4

/** Options by code, each once and whole. */
export type Options4 = ReadonlyMap<number, Uint8Array>

export interface Message4 {
  /** 1 from a client, 2 from a server. */
  readonly op: 1 | 2
  readonly type: MessageType4
  readonly xid: number
  /** Seconds since the client began. */
  readonly secs: number
  /** The client cannot receive unicast before it has its address. */
  readonly broadcast: boolean
  /** The client's address while it may use it. */
  readonly ciaddr: IpText
  /** The address given. */
  readonly yiaddr: IpText
  /** The relay; a server's answers to us need not have it. */
  readonly giaddr: IpText
  readonly mac: MacText
  /** Without the message type, pad and end. */
  readonly options: Options4
}

export const ANY4 = formatIp({ family: 4, value: 0 })
export const BROADCAST4 = formatIp({ family: 4, value: 0xffff_ffff })

const HEADER = 236
const COOKIE = 0x6382_5363
const MESSAGE_TYPE = 53
const OVERLOAD = 52
/** What every server and relay takes; BOOTP's smallest, which old ones insist on. */
const MIN_SIZE = 300
/** A message from outside longer than this is none of DHCP's. */
const MAX_SIZE = 9216
const MAX_OPTION = 4096

const types = new Map<number, MessageType4>()
for (const type of Object.keys(MESSAGE4)) if (isType(type)) types.set(MESSAGE4[type], type)

function isType(text: string): text is MessageType4 {
  return Object.hasOwn(MESSAGE4, text)
}

/** The message, padded to 300 bytes. An option longer than 255 bytes is split (RFC 3396). */
export function encodeMessage4(message: Message4): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(MESSAGE_TYPE, 1, MESSAGE4[message.type])]
  for (const [code, value] of message.options) {
    if (code < 1 || code > 254) throw malformed(`option ${code} cannot be sent`)
    for (let at = 0; at === 0 || at < value.length; at += 255) {
      const piece = value.subarray(at, at + 255)
      parts.push(Uint8Array.of(code, piece.length), piece)
    }
  }
  const size = parts.reduce((total, part) => total + part.length, HEADER + 4 + 1)
  const bytes = new Uint8Array(Math.max(MIN_SIZE, size))
  const view = new DataView(bytes.buffer)
  bytes.set([message.op, 1, 6, 0])
  view.setUint32(4, message.xid)
  view.setUint16(8, Math.min(0xffff, message.secs))
  view.setUint16(10, message.broadcast ? 0x8000 : 0)
  writeIp(parseIp(message.ciaddr), view, 12)
  writeIp(parseIp(message.yiaddr), view, 16)
  writeIp(parseIp(message.giaddr), view, 24)
  bytes.set(macToBytes(message.mac), 28)
  view.setUint32(HEADER, COOKIE)
  let at = HEADER + 4
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  bytes[at] = 255
  return bytes
}

/** Reads a message. Throws `DhcpWireError`: BOOTP without a message type, other hardware than Ethernet and damaged options are none of ours. */
export function decodeMessage4(bytes: Uint8Array): Message4 {
  if (bytes.length < HEADER + 4) throw truncated('a DHCP message')
  if (bytes.length > MAX_SIZE) throw new DhcpWireError('too-long', `a DHCP message of ${bytes.length} bytes`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const op = view.getUint8(0)
  if (op !== 1 && op !== 2) throw malformed(`op ${op}`)
  if (view.getUint8(1) !== 1 || view.getUint8(2) !== 6) throw new DhcpWireError('not-for-us', 'not Ethernet')
  if (view.getUint32(HEADER) !== COOKIE) throw malformed('no DHCP message: the cookie is missing')
  const options = new Map<number, Uint8Array>()
  readOptions(bytes.subarray(HEADER + 4), options, true)
  const overload = options.get(OVERLOAD)?.[0] ?? 0
  if ((overload & 1) !== 0) readOptions(bytes.subarray(108, 236), options, false)
  if ((overload & 2) !== 0) readOptions(bytes.subarray(44, 108), options, false)
  const type = types.get(options.get(MESSAGE_TYPE)?.[0] ?? 0)
  if (type === undefined || options.get(MESSAGE_TYPE)?.length !== 1) throw malformed('no DHCP message type')
  options.delete(MESSAGE_TYPE)
  options.delete(OVERLOAD)
  const address = (at: number): IpText => formatIp(ipFromBytes(bytes.subarray(at, at + 4)))
  return {
    op,
    type,
    xid: view.getUint32(4),
    secs: view.getUint16(8),
    broadcast: (view.getUint16(10) & 0x8000) !== 0,
    ciaddr: address(12),
    yiaddr: address(16),
    giaddr: address(24),
    mac: macFromBytes(bytes.subarray(28, 34)),
    options,
  }
}

/** Pieces of one option are joined in their order (RFC 3396 §5). */
function readOptions(bytes: Uint8Array, into: Map<number, Uint8Array>, isMain: boolean): void {
  let at = 0
  while (at < bytes.length) {
    const code = bytes[at++] ?? 255
    if (code === 255) return
    if (code === 0) continue
    const length = bytes[at++]
    if (length === undefined || at + length > bytes.length) throw truncated(`option ${code}`)
    const before = into.get(code)
    const piece = bytes.subarray(at, at + length)
    at += length
    if (code === OVERLOAD && !isMain) continue
    if (before === undefined) into.set(code, new Uint8Array(piece))
    else if (before.length + length > MAX_OPTION) throw new DhcpWireError('too-long', `option ${code}`)
    else into.set(code, concat(before, piece))
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length)
  joined.set(a)
  joined.set(b, a.length)
  return joined
}
