/**
 * The data types of set keys and map data: their names, their numbers, and their bytes.
 *
 * The kernel compares bytes; the numbers only tell `nft list` how to print them, so they must be the ones nft uses. Source: nftables include/datatype.h.
 */

import { LITTLE, Reader, type Writer } from '#codec/buffer.ts'
import { type Ip, formatIp, ipFromBytes, parseIp, writeIp } from '#ip/address.ts'
import { macFromBytes, macToBytes, parseMac } from '#ip/mac.ts'
import { NftError } from './error.ts'

/** One value of a key or of data: canonical text for addresses, MACs and interface names, numbers for ports, protocols and marks. */
export type Part = string | number

export type DataTypeName = 'ipv4_addr' | 'ipv6_addr' | 'ether_addr' | 'inet_proto' | 'inet_service' | 'mark' | 'ifname'

export interface DataType {
  readonly name: DataTypeName
  /** Number in nft's numbering. */
  readonly id: number
  /** Length in bytes, without the padding inside a concatenation. */
  readonly length: number
  /** Values sort as their bytes do, so that intervals of them can be declared. */
  readonly ordered: boolean
  write(value: Part, out: DataView, at: number): void
  read(from: DataView, at: number): Part
}

/** Protocols by the names that Kubernetes and CNI use. */
export const protocolNumbers = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const

const address = (name: 'ipv4_addr' | 'ipv6_addr', id: number, family: Ip['family'], length: number): DataType => ({
  name,
  id,
  length,
  ordered: true,
  write: (value, out, at) => {
    const ip = parseIp(text(name, value))
    if (ip.family !== family) throw badValue(name, value, `it is an IPv${ip.family} address`)
    writeIp(ip, out, at)
  },
  read: (from, at) => formatIp(ipFromBytes(bytesOf(from, at, length))),
})

const byName: { readonly [Name in DataTypeName]: DataType } = {
  ipv4_addr: address('ipv4_addr', 7, 4, 4),
  ipv6_addr: address('ipv6_addr', 8, 6, 16),
  ether_addr: {
    name: 'ether_addr',
    id: 9,
    length: 6,
    ordered: true,
    write: (value, out, at) => bytesOf(out, at, 6).set(macToBytes(parseMac(text('ether_addr', value)))),
    read: (from, at) => macFromBytes(bytesOf(from, at, 6)),
  },
  inet_proto: {
    name: 'inet_proto',
    id: 12,
    length: 1,
    ordered: true,
    write: (value, out, at) => out.setUint8(at, number('inet_proto', value, 0xff)),
    read: (from, at) => from.getUint8(at),
  },
  inet_service: {
    name: 'inet_service',
    id: 13,
    length: 2,
    ordered: true,
    write: (value, out, at) => out.setUint16(at, number('inet_service', value, 0xffff)),
    read: (from, at) => from.getUint16(at),
  },
  mark: {
    name: 'mark',
    id: 19,
    length: 4,
    ordered: false,
    write: (value, out, at) => out.setUint32(at, number('mark', value, 0xffff_ffff), LITTLE),
    read: (from, at) => from.getUint32(at, LITTLE),
  },
  ifname: {
    name: 'ifname',
    id: 41,
    length: 16,
    ordered: false,
    write: (value, out, at) => {
      const name = text('ifname', value)
      if (name === '' || Buffer.byteLength(name) > 15 || name.includes('\0'))
        throw badValue('ifname', value, 'an interface name has 1 to 15 bytes')
      const field = bytesOf(out, at, 16).fill(0)
      Buffer.from(field.buffer, field.byteOffset, 16).write(name)
    },
    read: (from, at) => {
      const field = bytesOf(from, at, 16)
      const end = field.indexOf(0)
      return utf8.decode(end === -1 ? field : field.subarray(0, end))
    },
  },
}

const utf8 = new TextDecoder()

const bytesOf = (view: DataView, at: number, length: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, length)

const byId = new Map(Object.values(byName).map((type) => [type.id, type]))

export const dataType = (name: DataTypeName): DataType => byName[name]

/** nft's number for one type, or for a concatenation: six bits each. */
export const typeId = (types: readonly DataTypeName[]): number =>
  types.reduce((id, name) => (id << 6) | byName[name].id, 0)

/** The types of nft's number; undefined when Heddle does not know one of them. */
export function typesOfId(id: number): readonly DataTypeName[] | undefined {
  const types: DataTypeName[] = []
  for (let rest = id; rest !== 0; rest >>>= 6) {
    const type = byId.get(rest & 0x3f)
    if (type === undefined) return undefined
    types.unshift(type.name)
  }
  return types
}

interface Layout {
  /** Length of the whole key in bytes. */
  readonly length: number
  readonly fields: readonly { readonly type: DataType; readonly at: number }[]
}

const layouts = new WeakMap<readonly DataTypeName[], Layout>()

/** A single value is as long as its type, each part of a concatenation is padded to four bytes. */
function layoutOf(types: readonly DataTypeName[]): Layout {
  const known = layouts.get(types)
  if (known !== undefined) return known
  let length = 0
  const fields = types.map((name) => {
    const field = { type: byName[name], at: length }
    length += types.length === 1 ? field.type.length : padded(field.type.length)
    return field
  })
  const layout = { length, fields }
  layouts.set(types, layout)
  return layout
}

const padded = (length: number): number => (length + 3) & ~3

/** Length of a key in bytes. */
export const keyLength = (types: readonly DataTypeName[]): number => layoutOf(types).length

/** Appends the parts; padding is zero. Throws `bad-value`, or `IpError` for what is no address. */
export function writeKey(writer: Writer, types: readonly DataTypeName[], parts: readonly Part[]): void {
  if (parts.length !== types.length)
    throw new NftError(
      'bad-value',
      `${parts.length} values (${parts.join(', ')}) where the set declares ${types.length}: ${types.join(' . ')}`,
    )
  const { length, fields } = layoutOf(types)
  const start = writer.reserve(length)
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i]
    const part = parts[i]
    if (field !== undefined && part !== undefined) field.type.write(part, writer.view, start + field.at)
  }
}

/** Reads what `writeKey` wrote: the rest of the reader. Throws `malformed` when there are too few bytes. */
export function readKeyFrom(types: readonly DataTypeName[], reader: Reader): Part[] {
  const { length, fields } = layoutOf(types)
  if (reader.left < length)
    throw new NftError('malformed', `${reader.left} bytes where ${types.join(' . ')} has ${length}`)
  const start = reader.take(length)
  return fields.map(({ type, at }) => type.read(reader.view, start + at))
}

export const readKey = (types: readonly DataTypeName[], bytes: Uint8Array): Part[] =>
  readKeyFrom(types, new Reader(bytes))

function text(type: DataTypeName, value: Part): string {
  if (typeof value !== 'string') throw badValue(type, value, 'it is a number')
  return value
}

function number(type: DataTypeName, value: Part, max: number): number {
  const known = type === 'inet_proto' && typeof value === 'string' ? protocolOf(value) : value
  if (typeof known !== 'number' || !Number.isInteger(known) || known < 0 || known > max)
    throw badValue(type, value, `it is no whole number from 0 to ${max}`)
  return known
}

const protocolOf = (name: string): number | undefined =>
  Object.hasOwn(protocolNumbers, name) ? protocolNumbers[name as keyof typeof protocolNumbers] : undefined

export const badValue = (type: string, value: Part, why: string): NftError =>
  new NftError('bad-value', `${JSON.stringify(value)} is no ${type}: ${why}`)
