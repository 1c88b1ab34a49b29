/** DHCPv6 messages and the options of a client that asks for one address (IA_NA). Source: RFC 8415 §8, §21. */

import { formatIp, ipFromBytes, isLinkLocal, isMulticast, isUnspecified, parseIp, writeIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { DhcpWireError, malformed, truncated } from './error.ts'

/** RFC 8415 §7.3; relays' messages are not for clients. */
export const MESSAGE6 = {
  solicit: 1,
  advertise: 2,
  request: 3,
  confirm: 4,
  renew: 5,
  rebind: 6,
  reply: 7,
  release: 8,
  decline: 9,
  reconfigure: 10,
} as const

export type MessageType6 = keyof typeof MESSAGE6

export const OPTION6 = {
  clientId: 1,
  serverId: 2,
  iaNa: 3,
  iaAddress: 5,
  optionRequest: 6,
  preference: 7,
  elapsed: 8,
  serverUnicast: 12,
  status: 13,
  rapidCommit: 14,
  userClass: 15,
  vendorClass: 16,
  dns: 23,
  domainSearch: 24,
  solMaxRt: 82,
} as const

/** RFC 8415 §21.13. */
export const STATUS6 = {
  success: 0,
  unspecFail: 1,
  noAddrsAvail: 2,
  noBinding: 3,
  notOnLink: 4,
  useMulticast: 5,
} as const

/** An address with its lifetimes in seconds; 0xffffffff is for ever. */
export interface IaAddress {
  readonly address: IpText
  readonly preferred: number
  readonly valid: number
}

export interface Status6 {
  readonly code: number
  readonly message: string
}

export interface IaNa {
  readonly iaid: number
  /** Seconds; 0 leaves it to the client. */
  readonly t1: number
  readonly t2: number
  readonly addresses: readonly IaAddress[]
  readonly status?: Status6
}

export interface Message6 {
  readonly type: MessageType6
  /** 24 bits. */
  readonly xid: number
  readonly clientId?: Uint8Array
  readonly serverId?: Uint8Array
  /** IA_NA options; ours ask with one. */
  readonly ias: readonly IaNa[]
  readonly status?: Status6
  /** 0 to 255; 255 ends the collecting of advertisements. */
  readonly preference?: number
  readonly rapidCommit?: boolean
  /** Hundredths of a second since the first message of the exchange. */
  readonly elapsed?: number
  /** What we ask for. */
  readonly requested?: readonly number[]
  /** The longest time between two SOLICITs, in seconds. */
  readonly solMaxRt?: number
  /** Others, by code. */
  readonly options: ReadonlyMap<number, Uint8Array>
}

const MAX_SIZE = 65_507
const MAX_DUID = 130
const MAX_ADDRESSES = 16

const types = new Map<number, MessageType6>()
for (const type of Object.keys(MESSAGE6)) if (isType(type)) types.set(MESSAGE6[type], type)

function isType(text: string): text is MessageType6 {
  return Object.hasOwn(MESSAGE6, text)
}

function option(code: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((total, part) => total + part.length, 0)
  if (length > 0xffff) throw new DhcpWireError('too-long', `option ${code} of ${length} bytes`)
  const bytes = new Uint8Array(4 + length)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, code)
  view.setUint16(2, length)
  let at = 4
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

function numbers(size: 1 | 2 | 4, ...values: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(size * values.length)
  for (const [i, value] of values.entries()) bytes.writeUIntBE(value, i * size, size)
  return bytes
}

function iaBytes({ iaid, t1, t2, addresses }: IaNa): Uint8Array {
  const inner = addresses.map(({ address, preferred, valid }) => {
    const bytes = new Uint8Array(24)
    const view = new DataView(bytes.buffer)
    writeIp(parseIp(address), view, 0)
    view.setUint32(16, preferred)
    view.setUint32(20, valid)
    return option(OPTION6.iaAddress, bytes)
  })
  return option(OPTION6.iaNa, numbers(4, iaid, t1, t2), ...inner)
}

export function encodeMessage6(message: Message6): Uint8Array {
  const { clientId, serverId, elapsed, requested } = message
  return Buffer.concat([
    numbers(1, MESSAGE6[message.type], (message.xid >> 16) & 255, (message.xid >> 8) & 255, message.xid & 255),
    ...(clientId === undefined ? [] : [option(OPTION6.clientId, clientId)]),
    ...(serverId === undefined ? [] : [option(OPTION6.serverId, serverId)]),
    ...(elapsed === undefined ? [] : [option(OPTION6.elapsed, numbers(2, Math.min(0xffff, Math.round(elapsed))))]),
    ...(message.rapidCommit === true ? [option(OPTION6.rapidCommit)] : []),
    ...(message.preference === undefined ? [] : [option(OPTION6.preference, numbers(1, message.preference))]),
    ...message.ias.map(iaBytes),
    ...(requested === undefined || requested.length === 0
      ? []
      : [option(OPTION6.optionRequest, numbers(2, ...requested))]),
    ...Array.from(message.options, ([code, value]) => option(code, value)),
  ])
}

/** Calls back for each option. Throws `DhcpWireError` where one is cut short. */
function eachOption(bytes: Uint8Array, visit: (code: number, value: Uint8Array) => void): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at < bytes.length) {
    if (at + 4 > bytes.length) throw truncated('an option header')
    const code = view.getUint16(at)
    const end = at + 4 + view.getUint16(at + 2)
    if (end > bytes.length) throw truncated(`option ${code}`)
    visit(code, bytes.subarray(at + 4, end))
    at = end
  }
}

const uint = (value: Uint8Array, at: number, size: number): number => Buffer.from(value).readUIntBE(at, size)

function statusOf(value: Uint8Array): Status6 {
  if (value.length < 2) throw truncated('a status code')
  const message = Buffer.from(value.subarray(2, 258)).toString('utf8')
  // eslint-disable-next-line no-control-regex -- it goes to logs
  return { code: uint(value, 0, 2), message: message.replaceAll(/[\0-\x1f\x7f]/g, ' ') }
}

function addressOf(value: Uint8Array): IaAddress | undefined {
  if (value.length < 24) throw truncated('an address option')
  let code: number = STATUS6.success
  eachOption(value.subarray(24), (inner, content) => {
    if (inner === OPTION6.status) ({ code } = statusOf(content))
  })
  const ip = ipFromBytes(value.subarray(0, 16))
  const preferred = uint(value, 16, 4)
  const valid = uint(value, 20, 4)
  // RFC 8415 §21.6: such an address is to be ignored.
  if (code !== STATUS6.success || preferred > valid || isMulticast(ip) || isUnspecified(ip) || isLinkLocal(ip))
    return undefined
  return { address: formatIp(ip), preferred, valid }
}

function iaOf(value: Uint8Array): IaNa {
  if (value.length < 12) throw truncated('IA_NA')
  const addresses: IaAddress[] = []
  let status: Status6 | undefined
  eachOption(value.subarray(12), (code, content) => {
    if (code === OPTION6.status) status = statusOf(content)
    if (code !== OPTION6.iaAddress || addresses.length >= MAX_ADDRESSES) return
    const address = addressOf(content)
    if (address !== undefined) addresses.push(address)
  })
  const [t1, t2] = [uint(value, 4, 4), uint(value, 8, 4)]
  // RFC 8415 §21.4: both 0 leave it to the client; one after the other the wrong way round makes the whole option invalid.
  if (t1 > t2 && t2 > 0) throw malformed(`IA_NA with T1 ${t1} after T2 ${t2}`)
  return { iaid: uint(value, 0, 4), t1, t2, addresses, ...(status === undefined ? {} : { status }) }
}

/** Reads a message. Throws `DhcpWireError`. */
export function decodeMessage6(bytes: Uint8Array): Message6 {
  if (bytes.length < 4) throw truncated('a DHCPv6 message')
  if (bytes.length > MAX_SIZE) throw new DhcpWireError('too-long', `a DHCPv6 message of ${bytes.length} bytes`)
  const type = types.get(bytes[0] ?? 0)
  if (type === undefined) throw malformed(`message type ${bytes[0]}`)
  const ias: IaNa[] = []
  const known: { -readonly [K in 'clientId' | 'serverId' | 'status' | 'preference' | 'elapsed']?: Message6[K] } = {}
  let rapidCommit = false
  let solMaxRt: number | undefined
  const requested: number[] = []
  const options = new Map<number, Uint8Array>()
  eachOption(bytes.subarray(4), (code, value) => {
    switch (code) {
      case OPTION6.clientId:
      case OPTION6.serverId:
        if (value.length < 3 || value.length > MAX_DUID) throw malformed(`a DUID of ${value.length} bytes`)
        known[code === OPTION6.clientId ? 'clientId' : 'serverId'] = new Uint8Array(value)
        return
      case OPTION6.iaNa:
        if (ias.length < MAX_ADDRESSES) ias.push(iaOf(value))
        return
      case OPTION6.status:
        known.status = statusOf(value)
        return
      case OPTION6.preference:
        if (value.length === 1) known.preference = uint(value, 0, 1)
        return
      case OPTION6.elapsed:
        if (value.length === 2) known.elapsed = uint(value, 0, 2)
        return
      case OPTION6.rapidCommit:
        rapidCommit = true
        return
      case OPTION6.solMaxRt:
        if (value.length === 4) solMaxRt = uint(value, 0, 4)
        return
      case OPTION6.optionRequest:
        for (let at = 0; at + 2 <= value.length; at += 2) requested.push(uint(value, at, 2))
        return
      default:
        options.set(code, new Uint8Array(value))
    }
  })
  return {
    type,
    xid: uint(bytes, 1, 3),
    ...known,
    ias,
    ...(rapidCommit ? { rapidCommit } : {}),
    ...(requested.length === 0 ? {} : { requested }),
    ...(solMaxRt === undefined ? {} : { solMaxRt }),
    options,
  }
}

/** Addresses of an option that lists them (DNS servers); a list of another length is none. */
export function addresses6Of(value: Uint8Array | undefined): readonly IpText[] {
  if (value === undefined || value.length % 16 !== 0) return []
  return Array.from({ length: value.length / 16 }, (_, i) => formatIp(ipFromBytes(value.subarray(16 * i, 16 * i + 16))))
}
