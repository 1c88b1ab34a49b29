/** What a backend is: pure functions from this node and a peer's lease to what the kernel should hold. */

import type { Family } from '#ip/address.ts'
import type { Desired } from '#state/entry.ts'
import type { BackendData } from '../backend-data.ts'
import type { Lease, LeaseFamily } from '../lease.ts'
import type { Local, LocalFamily } from '../local.ts'

/** Why a backend cannot use a peer's lease. */
export interface Objection {
  readonly code: 'vni-differs' | 'not-on-link' | 'no-data'
  readonly why: string
}

export interface Backend {
  /** As in the annotation `backend-type`. */
  readonly type: string
  /** The families that it can carry. */
  readonly families: readonly Family[]
  /** The largest packet of a pod, in bytes, that needs no fragmentation on the way to any peer. */
  mtu(local: Local): number
  /** What this node publishes in `backend-data`. */
  published(local: Local, family: Family): BackendData
  /** Reads what a peer publishes there; `field` is the annotation's name. Throws FlannelError `bad-annotation`. */
  readData(text: string | undefined, field: string): BackendData
  /** What the node itself needs, peers or not. */
  devicePlan(local: Local): Desired[]
  /** What one peer needs. */
  peerPlan(local: Local, lease: Lease): Desired[]
  objection(own: LocalFamily, lease: LeaseFamily): Objection | undefined
  /** Name of the device whose MAC is published, for backends that have one. */
  deviceName(family: Family): string | undefined
}

/** For backends that publish nothing, and read nothing: what an older or foreign peer may have written does not matter. */
export const noData = {
  published: (): BackendData => ({ kind: 'none' }),
  readData: (): BackendData => ({ kind: 'none' }),
  deviceName: (): string | undefined => undefined,
} as const
