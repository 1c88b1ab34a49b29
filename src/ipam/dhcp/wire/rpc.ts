/**
 * The calls between the dhcp plugin and its daemon: Go's net/rpc over an HTTP CONNECT on a unix socket. The service `DHCP` is the reference's, so that either
 * plugin works with either daemon; `Heddle` has the verbs that the reference lacks, and errors with codes. Source: documentation of net/rpc.
 */

import { CniError, decodingFailure } from '#cni/errors.ts'
import { emptyResult, type IpConfig, type Result, type RouteConfig } from '#cni/result.ts'
import { formatIp, ipFromBytes, ipToBytes, parseIp, type Ip } from '#ip/address.ts'
import { bitsOf } from '#ip/address.ts'
import { formatCidr, formatIpNet, networkOf, parseIpNet, type IpNet } from '#ip/prefix.ts'
import type { GobStruct, GobType, GobValue } from './gob.ts'

export const CONNECT = 'CONNECT /_goRPC_ HTTP/1.0\n\n'
export const CONNECTED = 'HTTP/1.0 200 Connected to Go RPC\n\n'

export const requestType: GobType = { struct: 'Request', fields: { ServiceMethod: 'string', Seq: 'uint' } }
export const responseType: GobType = {
  struct: 'Response',
  fields: { ServiceMethod: 'string', Seq: 'uint', Error: 'string' },
}
/** What the reference's methods answer when there is nothing to say. */
export const emptyType: GobType = { struct: '', fields: {} }

/** A CNI call as its plugin got it. */
export interface CallArgs {
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  readonly args: string
  readonly path: string
  /** The network configuration, JSON. */
  readonly stdin: string
}

export const callType: GobType = {
  struct: 'CmdArgs',
  fields: {
    ContainerID: 'string',
    Netns: 'string',
    IfName: 'string',
    Args: 'string',
    Path: 'string',
    StdinData: 'bytes',
  },
}

export const callValue = (call: CallArgs): GobStruct =>
  new Map<string, GobValue>([
    ['ContainerID', call.containerId],
    ['Netns', call.netns],
    ['IfName', call.ifname],
    ['Args', call.args],
    ['Path', call.path],
    ['StdinData', Buffer.from(call.stdin)],
  ])

export function readCall(value: GobValue): CallArgs {
  const struct = structOf(value)
  return {
    containerId: textIn(struct, 'ContainerID'),
    netns: textIn(struct, 'Netns'),
    ifname: textIn(struct, 'IfName'),
    args: textIn(struct, 'Args'),
    path: textIn(struct, 'Path'),
    stdin: Buffer.from(bytesIn(struct, 'StdinData') ?? new Uint8Array()).toString('utf8'),
  }
}

/** An answer of the service `Heddle`: an error of CNI, or a result as JSON text. */
export const answerType: GobType = {
  struct: 'Answer',
  fields: { Code: 'uint', Msg: 'string', Details: 'string', Result: 'string' },
}

export const errorValue = ({ code, msg, details }: CniError): GobStruct =>
  new Map<string, GobValue>([
    ['Code', code],
    ['Msg', msg],
    ['Details', details ?? ''],
  ])

/** The result's JSON text. Throws the CniError that the daemon answered. */
export function readAnswer(value: GobValue): string {
  const struct = structOf(value)
  const code = struct.get('Code')
  if (typeof code === 'number' && code > 0) throw new CniError(code, textIn(struct, 'Msg'), textIn(struct, 'Details'))
  return textIn(struct, 'Result')
}

const networkType: GobType = { struct: 'IPNet', fields: { IP: 'bytes', Mask: 'bytes' } }

export const resultType: GobType = {
  struct: 'Result',
  fields: {
    CNIVersion: 'string',
    IPs: { slice: { struct: 'IPConfig', fields: { Address: networkType, Gateway: 'bytes' } } },
    Routes: { slice: { struct: 'Route', fields: { Dst: networkType, GW: 'bytes', Priority: 'int' } } },
    DNS: {
      struct: 'DNS',
      fields: { Nameservers: { slice: 'string' }, Domain: 'string', Search: { slice: 'string' } },
    },
  },
}

const networkValue = ({ ip, length }: IpNet): GobStruct =>
  new Map<string, GobValue>([
    ['IP', ipToBytes(ip)],
    ['Mask', maskOf(ip, length)],
  ])

function maskOf(ip: Ip, length: number): Uint8Array {
  return Uint8Array.from({ length: bitsOf(ip.family) / 8 }, (_, i) => {
    const bits = Math.min(8, Math.max(0, length - 8 * i))
    return (0xff00 >> bits) & 0xff
  })
}

export const resultValue = (result: Result): GobStruct =>
  new Map<string, GobValue>([
    ['CNIVersion', '1.0.0'],
    [
      'IPs',
      result.ips.map(
        ({ address, gateway }) =>
          new Map<string, GobValue>([
            ['Address', networkValue(parseIpNet(address))],
            ['Gateway', gateway === undefined ? new Uint8Array() : ipToBytes(parseIp(gateway))],
          ]),
      ),
    ],
    [
      'Routes',
      result.routes.map(
        ({ dst, gw, priority }) =>
          new Map<string, GobValue>([
            ['Dst', networkValue(parseIpNet(dst))],
            ['GW', gw === undefined ? new Uint8Array() : ipToBytes(parseIp(gw))],
            ['Priority', priority ?? 0],
          ]),
      ),
    ],
    [
      'DNS',
      new Map<string, GobValue>([
        ['Nameservers', result.dns.nameservers ?? []],
        ['Domain', result.dns.domain ?? ''],
        ['Search', result.dns.search ?? []],
      ]),
    ],
  ])

/** What the reference's daemon answers. Throws CniError 6. */
export function readResult(value: GobValue): Result {
  const struct = structOf(value)
  try {
    return {
      ...emptyResult,
      ips: listIn(struct, 'IPs').map((item): IpConfig => {
        const gateway = ipIn(item, 'Gateway')
        return {
          address: formatIpNet(networkIn(item, 'Address')),
          ...(gateway === undefined ? {} : { gateway: formatIp(gateway) }),
        }
      }),
      routes: listIn(struct, 'Routes').map((item): RouteConfig => {
        const gw = ipIn(item, 'GW')
        const priority = item.get('Priority')
        return {
          dst: formatCidr(networkOf(networkIn(item, 'Dst'))),
          ...(gw === undefined ? {} : { gw: formatIp(gw) }),
          ...(typeof priority === 'number' ? { priority } : {}),
        }
      }),
    }
  } catch (error) {
    throw decodingFailure('the answer of the DHCP daemon is no result', undefined, { cause: error })
  }
}

const structOf = (value: GobValue | undefined): GobStruct => {
  if (value instanceof Map) return value
  throw decodingFailure('the other end of the DHCP socket sent something else than was agreed on')
}

const textIn = (struct: GobStruct, name: string): string => {
  const value = struct.get(name)
  return typeof value === 'string' ? value : ''
}

const bytesIn = (struct: GobStruct, name: string): Uint8Array | undefined => {
  const value = struct.get(name)
  return value instanceof Uint8Array ? value : undefined
}

const listIn = (struct: GobStruct, name: string): readonly GobStruct[] => {
  const value = struct.get(name)
  return Array.isArray(value) ? value.map((item: GobValue) => structOf(item)) : []
}

/** Go keeps an IPv4 address in 4 or in 16 bytes. */
function ipIn(struct: GobStruct, name: string): Ip | undefined {
  const bytes = bytesIn(struct, name)
  if (bytes === undefined || bytes.length === 0) return undefined
  const isMapped = bytes.length === 16 && bytes.subarray(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 0xff))
  return ipFromBytes(isMapped ? bytes.subarray(12) : bytes)
}

function networkIn(struct: GobStruct, name: string): IpNet {
  const network = structOf(struct.get(name))
  const ip = ipIn(network, 'IP')
  const mask = bytesIn(network, 'Mask')
  if (ip === undefined || mask === undefined) throw decodingFailure(`${name} is no network`)
  const bits = Array.from(mask, (byte) => byte.toString(2).padStart(8, '0')).join('')
  const relevant = bits.slice(-bitsOf(ip.family))
  return { ip, length: relevant.indexOf('0') < 0 ? relevant.length : relevant.indexOf('0') }
}
