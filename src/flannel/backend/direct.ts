/** Routes to a peer's subnet, as several backends write them. */

import { defaultPriority, MAIN_TABLE, type Desired, type Entry, type Origin } from '#state/entry.ts'
import type { LeaseFamily } from '../lease.ts'
import type { LocalFamily } from '../local.ts'

/** A route of the main table to a peer's subnet, without its next hop. */
export const mainRoute = (peer: LeaseFamily) =>
  ({
    kind: 'route',
    dst: peer.subnet,
    table: MAIN_TABLE,
    priority: defaultPriority(peer.subnet),
    type: 'unicast',
  }) as const

/** Straight to a peer on the same layer 2. */
export const directRoute = (own: LocalFamily, peer: LeaseFamily): Entry => ({
  ...mainRoute(peer),
  dev: own.underlay.dev,
  via: peer.publicIp,
})

export const owned = (entries: readonly Entry[], origin: Origin): Desired[] =>
  entries.map((entry) => ({ entry, origin }))
