/**
 * The data types of set keys and map data: their names, their numbers, and their bytes.
 *
 * The kernel compares bytes; the numbers only tell `nft list` how to print them, so they must be the ones nft uses. Source: nftables include/datatype.h.
 */

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
  /** 1 for network byte order, 2 for the host's, as nft notes it in a set's user data. Source: nftables, enum byteorder (host 1, big 2). */
  readonly ordered: boolean
  write(value: Part, out: Buffer, at: number): void
  read(bytes: Buffer, at: number): Part
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
    writeIp(ip, new DataView(out.buffer, out.byteOffset), at)
  },
  read: (bytes, at) => formatIp(ipFromBytes(bytes.subarray(at, at + length))),
})

const byName: { readonly [Name in DataTypeName]: DataType } = {
  ipv4_addr: address('ipv4_addr', 7, 4, 4),
  ipv6_addr: address('ipv6_addr', 8, 6, 16),
  ether_addr: {
    name: 'ether_addr',
    id: 9,
    length: 6,
    ordered: true,
    write: (value, out, at) => out.set(macToBytes(parseMac(text('ether_addr', value))), at),
    read: (bytes, at) => macFromBytes(bytes.subarray(at, at + 6)),
  },
  inet_proto: {
    name: 'inet_proto',
    id: 12,
    length: 1,
    ordered: true,
    write: (value, out, at) => out.writeUInt8(number('inet_proto', value, 0xff), at),
    read: (bytes, at) => bytes.readUInt8(at),
  },
  inet_service: {
    name: 'inet_service',
    id: 13,
    length: 2,
    ordered: true,
    write: (value, out, at) => out.writeUInt16BE(number('inet_service', value, 0xffff), at),
    read: (bytes, at) => bytes.readUInt16BE(at),
  },
  mark: {
    name: 'mark',
    id: 19,
    length: 4,
    ordered: false,
    write: (value, out, at) => hostEndian.write(out, number('mark', value, 0xffff_ffff), at),
    read: (bytes, at) => hostEndian.read(bytes, at),
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
      out.fill(0, at, at + 16)
      out.write(name, at, 'utf8')
    },
    read: (bytes, at) => {
      const end = bytes.indexOf(0, at)
      return bytes.toString('utf8', at, end === -1 || end > at + 16 ? at + 16 : end)
    },
  },
}

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** 32-bit numbers in the host's byte order. */
const hostEndian = {
  write: (out: Buffer, value: number, at: number): number =>
    littleEndian ? out.writeUInt32LE(value, at) : out.writeUInt32BE(value, at),
  read: (bytes: Buffer, at: number): number => (littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at)),
}

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

/** Length in bytes: a single value is as long as its type, each part of a concatenation is padded to four bytes. */
export function keyLength(types: readonly DataTypeName[]): number {
  const [only] = types
  if (types.length === 1 && only !== undefined) return byName[only].length
  return types.reduce((sum, name) => sum + padded(byName[name].length), 0)
}

const padded = (length: number): number => (length + 3) & ~3

/** Writes the parts at `at`, zeroing the padding; returns the number of bytes. Throws `bad-value`, or `IpError` for bad addresses. */
export function writeKey(types: readonly DataTypeName[], parts: readonly Part[], out: Buffer, at: number): number {
  if (parts.length !== types.length)
    throw new NftError(
      'bad-value',
      `${parts.length} values (${parts.join(', ')}) where the set declares ${types.length}: ${types.join(' . ')}`,
    )
  const length = keyLength(types)
  if (types.length > 1) out.fill(0, at, at + length)
  let offset = at
  for (let i = 0; i < types.length; i++) {
    const name = types[i]
    const part = parts[i]
    if (name === undefined || part === undefined) continue
    const type = byName[name]
    type.write(part, out, offset)
    offset += padded(type.length)
  }
  return length
}

/** Reads what `writeKey` wrote. Throws `malformed` when the bytes have another length. */
export function readKey(types: readonly DataTypeName[], bytes: Buffer): Part[] {
  // The kernel pads a verdict map's or a short key's data to the register; only fewer bytes are an error.
  if (bytes.length < keyLength(types))
    throw new NftError('malformed', `${bytes.length} bytes where ${types.join(' . ')} has ${keyLength(types)}`)
  let offset = 0
  return types.map((name) => {
    const type = byName[name]
    const value = type.read(bytes, offset)
    offset += padded(type.length)
    return value
  })
}

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
