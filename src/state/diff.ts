/** From what a node holds to what it should hold: an ordered list of operations, computed without touching anything. */

import { deviceOf, type Entry, type EntryKind, type Key } from './entry.ts'
import type { NodeState } from './node-state.ts'
import { linkDifference, same } from './same.ts'

/** One change to the kernel. `change` alters in place; what cannot be altered in place is a `remove` and an `add`. */
export type Operation =
  | { readonly do: 'add'; readonly entry: Entry }
  | { readonly do: 'change'; readonly entry: Entry; readonly from: Entry }
  | { readonly do: 'remove'; readonly entry: Entry }

/** What must stand before what: a route needs its next hop's neighbour, which needs its device. nftables first: rules are there before traffic is. */
const RANK: Readonly<Record<EntryKind, number>> = {
  nft: 0,
  link: 1,
  sysctl: 2,
  address: 3,
  wireguard: 4,
  wgpeer: 5,
  neigh: 6,
  fdb: 7,
  route: 8,
  rule: 9,
  relay: 10,
  relaypeer: 11,
}

/**
 * Operations that make `seen` hold what `wanted` holds, among `keys` (all keys of both when absent).
 *
 * `seen` must hold only what is ours to change: an entry that is seen and not wanted is removed. New entries come before
 * removals, so that a moved route never leaves a gap. A device that must be made anew goes first, and everything wanted on
 * it is added again, whether or not it is among `keys`; what ends with a removed device is not removed by itself.
 */
export function diff(wanted: NodeState, seen: NodeState, keys?: Iterable<Key>): Operation[] {
  const dropped: Operation[] = []
  const added: Operation[] = []
  const removed: Operation[] = []
  const todo = new Set(keys ?? [...wanted.keys(), ...seen.keys()])
  const renewed = renewedDevices(wanted, seen, todo)
  const gone = goneDevices(wanted, seen, todo)
  for (const dev of renewed) for (const key of wanted.onDevice(dev)) todo.add(key)

  for (const key of todo) {
    const want = wanted.get(key)
    const have = seen.get(key)
    if (want === undefined) {
      if (have !== undefined && !standsOn(have, renewed) && !standsOn(have, gone))
        removed.push({ do: 'remove', entry: have })
    } else if (have === undefined || standsOn(have, renewed)) {
      added.push({ do: 'add', entry: want })
    } else if (want.kind === 'link' && renewed.has(want.name)) {
      dropped.push({ do: 'remove', entry: have })
      added.push({ do: 'add', entry: want })
    } else if (!same(want, have)) {
      added.push({ do: 'change', entry: want, from: have })
    }
  }
  return [...dropped, ...added.sort(byRank), ...removed.sort((a, b) => byRank(b, a))]
}

/** Devices that are wanted and must be made: missing ones, ones of another identity, and what stands on such a device. */
function renewedDevices(wanted: NodeState, seen: NodeState, keys: ReadonlySet<Key>): Set<string> {
  const renewed = new Set<string>()
  const renew = (name: string): void => {
    if (renewed.has(name)) return
    renewed.add(name)
    for (const key of wanted.onDevice(name)) {
      const entry = wanted.get(key)
      if (entry?.kind === 'link') renew(entry.name)
    }
  }
  for (const key of keys) {
    const want = wanted.get(key)
    if (want?.kind !== 'link') continue
    const have = seen.get(key)
    if (have?.kind !== 'link' || linkDifference(want, have) === 'identity') renew(want.name)
  }
  return renewed
}

function goneDevices(wanted: NodeState, seen: NodeState, keys: ReadonlySet<Key>): Set<string> {
  const gone = new Set<string>()
  for (const key of keys) {
    const have = seen.get(key)
    if (have?.kind === 'link' && wanted.get(key) === undefined) gone.add(have.name)
  }
  return gone
}

/** True when an entry that is no link stands on one of the devices, and so ends with it. */
function standsOn(entry: Entry, devices: ReadonlySet<string>): boolean {
  const dev = entry.kind === 'link' ? undefined : deviceOf(entry)
  return dev !== undefined && devices.has(dev)
}

/** By kind; among links, what carries another comes first. */
function byRank(a: Operation, b: Operation): number {
  const rank = RANK[a.entry.kind] - RANK[b.entry.kind]
  if (rank !== 0 || a.entry.kind !== 'link' || b.entry.kind !== 'link') return rank
  if (deviceOf(a.entry) === b.entry.name) return 1
  return deviceOf(b.entry) === a.entry.name ? -1 : 0
}
