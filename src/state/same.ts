/** Does the kernel hold what is wanted? Fields that the wanted entry leaves open may be anything. */

import type { Table } from '#nft/table.ts'
import type { Entry, LinkData, LinkEntry } from './entry.ts'

/** Both entries must be `normal` and have the same key. */
export function same(wanted: Entry, seen: Entry): boolean {
  if (wanted.kind === 'link' && seen.kind === 'link') return linkDifference(wanted, seen) === 'none'
  if (wanted.kind === 'nft' && seen.kind === 'nft') return sameTable(wanted.table, seen.table)
  return sameFields(wanted, seen)
}

/** What it takes to make the seen link the wanted one. VNI, local address, underlay and port of a VXLAN device cannot be changed in place. */
export function linkDifference(wanted: LinkEntry, seen: LinkEntry): 'none' | 'settings' | 'identity' {
  if (!sameData(wanted.data, seen.data)) return 'identity'
  const settled =
    wanted.up === seen.up && wanted.mtu === seen.mtu && (wanted.mac === undefined || wanted.mac === seen.mac)
  return settled ? 'none' : 'settings'
}

/** Tables are plain data in a fixed order, so their JSON tells. */
const sameTable = (a: Table, b: Table): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)

const sameData = (a: LinkData, b: LinkData): boolean => sameFields(a, b)

function sameFields(a: object, b: object): boolean {
  const left = Object.entries(a).filter(([, value]) => value !== undefined)
  const right = new Map(Object.entries(b).filter(([, value]) => value !== undefined))
  return left.length === right.size && left.every(([field, value]) => right.get(field) === value)
}
