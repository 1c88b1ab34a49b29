/** Does the kernel hold what is wanted? Fields that the wanted entry leaves open may be anything. */

import type { Table } from '#nft/table.ts'
import type { Entry, LinkData, LinkEntry, RelayEntry, RouteEntry, RuleEntry, WgPeerEntry } from './entry.ts'

/** Both entries must be `normal` and have the same key: what is part of the key is not compared again. */
export function same(wanted: Entry, seen: Entry): boolean {
  if (wanted === seen) return true
  switch (wanted.kind) {
    case 'link':
      return seen.kind === 'link' && linkDifference(wanted, seen) === 'none'
    case 'route':
      return seen.kind === 'route' && sameRoute(wanted, seen)
    case 'rule':
      return seen.kind === 'rule' && sameRule(wanted, seen)
    case 'neigh':
      return seen.kind === 'neigh' && wanted.mac === seen.mac
    case 'fdb':
      return seen.kind === 'fdb' && wanted.dst === seen.dst
    case 'wireguard':
      return seen.kind === 'wireguard' && wanted.publicKey === seen.publicKey && wanted.listenPort === seen.listenPort
    case 'relay':
      return seen.kind === 'relay' && sameRelay(wanted, seen)
    case 'relaypeer':
      return seen.kind === 'relaypeer' && wanted.via === seen.via
    case 'wgpeer':
      return seen.kind === 'wgpeer' && samePeer(wanted, seen)
    case 'sysctl':
      return seen.kind === 'sysctl' && wanted.value === seen.value
    case 'nft':
      return seen.kind === 'nft' && sameTable(wanted.table, seen.table)
    case 'address':
      return seen.kind === 'address'
    default:
      return wanted satisfies never
  }
}

/** What it takes to make the seen link the wanted one. VNI, local address, underlay and port of a VXLAN device cannot be changed in place, nor are the ends of an IP-in-IP device. */
export function linkDifference(wanted: LinkEntry, seen: LinkEntry): 'none' | 'settings' | 'identity' {
  if (!sameData(wanted.data, seen.data)) return 'identity'
  const settled =
    wanted.up === seen.up && wanted.mtu === seen.mtu && (wanted.mac === undefined || wanted.mac === seen.mac)
  return settled ? 'none' : 'settings'
}

function sameData(a: LinkData, b: LinkData): boolean {
  if (a.type === 'vxlan' && b.type === 'vxlan') {
    const address = a.vni === b.vni && a.local === b.local && a.dev === b.dev && a.port === b.port
    return address && a.learning === b.learning && a.gbp === b.gbp
  }
  if (a.type === 'ipip' && b.type === 'ipip')
    return a.local === b.local && a.remote === b.remote && a.pathMtuDiscovery === b.pathMtuDiscovery
  return a.type === b.type
}

const sameRoute = (a: RouteEntry, b: RouteEntry): boolean =>
  a.via === b.via &&
  a.dev === b.dev &&
  a.type === b.type &&
  a.protocol === b.protocol &&
  a.onlink === b.onlink &&
  a.scope === b.scope &&
  a.src === b.src

function samePeer(a: WgPeerEntry, b: WgPeerEntry): boolean {
  const isThere = a.endpoint?.ip === b.endpoint?.ip && a.endpoint?.port === b.endpoint?.port
  const secret =
    a.presharedKey === undefined || b.presharedKey === undefined
      ? a.presharedKey === b.presharedKey
      : a.presharedKey.equals(b.presharedKey)
  return isThere && secret && a.keepalive === b.keepalive && a.allowedIps.join() === b.allowedIps.join()
}

const sameRelay = (a: RelayEntry, b: RelayEntry): boolean =>
  a.address === b.address &&
  a.port === b.port &&
  a.network === b.network &&
  a.subnet === b.subnet &&
  a.anySource === b.anySource

const sameRule = (a: RuleEntry, b: RuleEntry): boolean => a.table === b.table && a.mask === b.mask

/** Tables are plain data in a fixed order, so their JSON tells. */
const sameTable = (a: Table, b: Table): boolean => JSON.stringify(a) === JSON.stringify(b)
