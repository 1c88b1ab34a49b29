/** Routes, neighbours and forwarding entries that flanneld programs, as data that survives in a journal: they are removed, and put back as they were. */

import * as v from 'valibot'

import { cidrSchema, intSchema, ipSchema, macSchema } from '#cni/schema.ts'
import { addFdb, deleteFdb, type Fdb } from '#netlink/fdb.ts'
import { findLink } from '#netlink/link.ts'
import { addNeigh, deleteNeigh, type Neigh } from '#netlink/neigh.ts'
import { addRoute, deleteRoute } from '#netlink/route.ts'
import type { Route } from '#netlink/route-codec.ts'
import { scopes } from '#netlink/route-names.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'

const u32 = intSchema(0, 0xffff_ffff)

/** Devices by name: an index is true for one life of a device only. */
export const entrySchema = v.variant('kind', [
  v.object({
    kind: v.literal('route'),
    dev: v.string(),
    dst: cidrSchema,
    via: v.exactOptional(ipSchema),
    src: v.exactOptional(ipSchema),
    onlink: v.boolean(),
    table: u32,
    protocol: u32,
    /** RT_SCOPE_*. */
    scope: u32,
    priority: u32,
  }),
  v.object({ kind: v.literal('neigh'), dev: v.string(), ip: ipSchema, mac: macSchema }),
  v.object({ kind: v.literal('fdb'), dev: v.string(), mac: macSchema, dst: ipSchema }),
])

export type FlannelEntry = v.InferOutput<typeof entrySchema>

/** As `ip` and `bridge` would be told. */
export function textOf(entry: FlannelEntry): string {
  switch (entry.kind) {
    case 'route':
      return `${entry.dst}${entry.via === undefined ? '' : ` via ${entry.via}`} dev ${entry.dev}`
    case 'neigh':
      return `${entry.ip} lladdr ${entry.mac} dev ${entry.dev}`
    case 'fdb':
      return `${entry.mac} dst ${entry.dst} dev ${entry.dev}`
    default:
      return entry satisfies never
  }
}

/** Two with one identity cannot be in one kernel. */
export const keyOf = (entry: FlannelEntry): string => `${entry.kind} ${textOf(entry)}`

/** Like `ip route del`, `ip neigh del`, `bridge fdb del`; false where it is gone already. Throws NetlinkError. */
export const removeEntry = (socket: NetlinkSocket, entry: FlannelEntry): boolean =>
  change(socket, entry, { route: deleteRoute, neigh: deleteNeigh, fdb: deleteFdb }, ['ENOENT', 'ESRCH', 'ENODEV'])

/** Like `… add`; false where there is one again, or its device or next hop is not there any more. Throws NetlinkError. */
export const addEntry = (socket: NetlinkSocket, entry: FlannelEntry): boolean =>
  change(socket, entry, { route: addRoute, neigh: addNeigh, fdb: addFdb }, ['EEXIST', 'ENODEV', 'ENETUNREACH'])

interface Verbs {
  readonly route: (socket: NetlinkSocket, route: Route) => void
  readonly neigh: (socket: NetlinkSocket, neigh: Neigh) => void
  readonly fdb: (socket: NetlinkSocket, fdb: Fdb) => void
}

function change(socket: NetlinkSocket, entry: FlannelEntry, verbs: Verbs, fine: readonly string[]): boolean {
  const index = findLink(socket, entry.dev)?.index
  if (index === undefined) return false
  try {
    if (entry.kind === 'route') verbs.route(socket, routeOf(entry, index))
    else if (entry.kind === 'neigh') verbs.neigh(socket, { index, ip: entry.ip, mac: entry.mac })
    else verbs.fdb(socket, { index, mac: entry.mac, dst: entry.dst })
    return true
  } catch (error) {
    if (hasCode(error, ...fine)) return false
    throw error
  }
}

const routeOf = (entry: Extract<FlannelEntry, { kind: 'route' }>, oif: number): Route => ({
  dst: entry.dst,
  oif,
  gateway: entry.via,
  prefSrc: entry.src,
  onlink: entry.onlink,
  table: entry.table,
  protocol: entry.protocol,
  scope: scopes.nameOf(entry.scope),
  priority: entry.priority,
})
