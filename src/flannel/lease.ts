/** A lease: which pod subnets a node holds, and where packets for them must go. */

import {
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  tryParseIp,
  formatIp,
  type Family,
  type Ip,
} from '#ip/address.ts'
import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { ROLES, type Annotations, type Role } from './annotations.ts'
import type { Backend } from './backend/backend.ts'
import { unreadable, type BackendData } from './backend-data.ts'
import { FlannelError, shown } from './errors.ts'
import type { NodeView } from './node-view.ts'

export interface LeaseFamily {
  readonly subnet: CidrText
  readonly publicIp: IpText
  readonly data: BackendData
}

/** A node's lease; a family is absent when the node has none of it. */
export interface Lease {
  readonly node: string
  readonly 4?: LeaseFamily
  readonly 6?: LeaseFamily
}

/** One family as a Node states it. `unreadable` is worth keeping the last lease for, `absent` is not. */
export type FamilyReading =
  | { readonly is: 'stated'; readonly lease: LeaseFamily }
  | { readonly is: 'absent' }
  | { readonly is: 'unreadable'; readonly error: FlannelError }

/** What a Node states. `unmarked`: no flannel runs there (or none yet); `other-backend`: one that we cannot talk to. */
export type Reading =
  | { readonly is: 'unmarked' }
  | { readonly is: 'other-backend'; readonly type: string }
  | { readonly is: 'read'; readonly 4: FamilyReading; readonly 6: FamilyReading }

const FIELDS = {
  4: { ip: 'publicIp', data: 'backendData' },
  6: { ip: 'publicIpv6', data: 'backendV6Data' },
} as const satisfies Record<Family, { ip: Role; data: Role }>

/** Reads a peer's lease for the families that are on here. Never throws. */
export function readLease(
  node: NodeView,
  backend: Pick<Backend, 'type' | 'readData'>,
  families: readonly Family[],
): Reading {
  const { marker, backendType: type = '' } = node.annotations
  if (marker !== 'true') return { is: 'unmarked' }
  if (type !== backend.type) return { is: 'other-backend', type }
  const read = (family: Family): FamilyReading =>
    families.includes(family) ? readFamily(node, family, backend) : { is: 'absent' }
  return { is: 'read', 4: read(4), 6: read(6) }
}

function readFamily(node: NodeView, family: Family, backend: Pick<Backend, 'readData'>): FamilyReading {
  const subnet = podCidrOf(node, family)
  if (subnet === undefined) return { is: 'absent' }
  const { ip, data } = FIELDS[family]
  try {
    const publicIp = parsePublicIp(node.annotations, ip, family)
    return {
      is: 'stated',
      lease: { subnet, publicIp, data: backend.readData(node.annotations[data], ROLES[data]) },
    }
  } catch (error) {
    if (error instanceof FlannelError) return { is: 'unreadable', error }
    throw error
  }
}

/** The first pod CIDR of a family that the Node's spec holds, in canonical text; undefined when there is none (or none that is one). */
export function podCidrOf(node: NodeView, family: Family): CidrText | undefined {
  for (const text of node.podCidrs) {
    const cidr = tryParseCidr(text)
    if (cidr?.ip.family === family) return formatCidr(cidr)
  }
  return undefined
}

function parsePublicIp(annotations: Annotations, role: Role, family: Family): IpText {
  const text = annotations[role]
  if (text === undefined) throw unreadable(ROLES[role], 'it is missing')
  const ip = tryParseIp(text)
  if (ip?.family !== family) throw unreadable(ROLES[role], `${shown(text)} is no IPv${family} address`)
  if (!isHostAddress(ip)) throw unreadable(ROLES[role], `${shown(text)} is no address that a node can be reached at`)
  return formatIp(ip)
}

/** False for unspecified, loopback, multicast, broadcast and (IPv6) link-local addresses. IPv4 link-local ones do serve as underlays. */
export function isHostAddress(ip: Ip): boolean {
  if (isUnspecified(ip) || isLoopback(ip) || isMulticast(ip)) return false
  if (ip.family === 6) return !isLinkLocal(ip) && ip.value >> 32n !== 0xffffn
  return ip.value >>> 24 !== 0 && ip.value < 0xf000_0000 && ip.value >>> 24 !== 127
}

export const sameLease = (a: Lease | undefined, b: Lease | undefined): boolean =>
  a === b ||
  (a !== undefined && b !== undefined && JSON.stringify([a.node, a[4], a[6]]) === JSON.stringify([b.node, b[4], b[6]]))
