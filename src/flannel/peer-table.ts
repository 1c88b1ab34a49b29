/** All nodes of the cluster but this one, and which leases of theirs are believed. No I/O; a change costs what changed. */

import type { Family } from '#ip/address.ts'
import type { Backend } from './backend/backend.ts'
import { podCidrOf, readLease, sameLease, type FamilyReading, type Lease, type LeaseFamily } from './lease.ts'
import { localFamilies, type Local } from './local.ts'
import type { NodeView } from './node-view.ts'
import { KeyHolders, Trust, type Refusal } from './trust.ts'

/** What follows from an update: leases that are new or other, and those that ended (undefined); refusals nobody heard of yet. */
export interface PeerChanges {
  readonly leases: ReadonlyMap<string, Lease | undefined>
  readonly refused: readonly Refusal[]
}

interface Peer {
  readonly view: NodeView
  readonly lease: Lease | undefined
  readonly refusals: readonly Refusal[]
}

const FAMILIES = [4, 6] as const

export class PeerTable {
  #local: Local
  #backend: Backend
  #trust: Map<Family, Trust>
  readonly #peers = new Map<string, Peer>()
  /** Nodes that wait for another one to give something up. */
  readonly #blocked = new Set<string>()

  constructor(local: Local, backend: Backend) {
    this.#local = local
    this.#backend = backend
    this.#trust = trustOf(local, backend)
  }

  get size(): number {
    return this.#peers.size
  }

  *leases(): Generator<Lease> {
    for (const { lease } of this.#peers.values()) if (lease !== undefined) yield lease
  }

  *refusals(): Generator<Refusal> {
    for (const { refusals } of this.#peers.values()) yield* refusals
  }

  *views(): Generator<NodeView> {
    for (const { view } of this.#peers.values()) yield view
  }

  /** A node appeared or changed. The own node is not for here. */
  update(view: NodeView): PeerChanges {
    const changes = new Changes()
    this.#update(view, changes)
    this.#unblock(changes)
    return changes
  }

  /** A node is gone for good. */
  remove(name: string): PeerChanges {
    const changes = new Changes()
    this.#remove(name, changes)
    this.#unblock(changes)
    return changes
  }

  /** Exactly these nodes exist. The oldest is heard first: of two that claim the same, every node then believes the same one. */
  replace(views: Iterable<NodeView>): PeerChanges {
    const changes = new Changes()
    const next = [...views].toSorted(byAge)
    const names = new Set(next.map(({ name }) => name))
    for (const name of this.#peers.keys()) if (!names.has(name)) this.#remove(name, changes)
    this.#again(next, changes)
    return changes
  }

  /** This node itself changed: every peer is judged anew. */
  rebase(local: Local, backend: Backend): PeerChanges {
    this.#local = local
    this.#backend = backend
    const changes = new Changes()
    this.#again([...this.views()].toSorted(byAge), changes)
    return changes
  }

  #again(views: readonly NodeView[], changes: Changes): void {
    this.#trust = trustOf(this.#local, this.#backend)
    this.#blocked.clear()
    for (const view of views) this.#judge(view, changes)
  }

  #update(view: NodeView, changes: Changes): void {
    this.#release(this.#peers.get(view.name)?.lease, changes)
    this.#judge(view, changes)
  }

  #remove(name: string, changes: Changes): void {
    const peer = this.#peers.get(name)
    if (peer === undefined) return
    this.#release(peer.lease, changes)
    this.#peers.delete(name)
    this.#blocked.delete(name)
    if (peer.lease !== undefined) changes.leases.set(name, undefined)
  }

  #release(lease: Lease | undefined, changes: Changes): void {
    if (lease === undefined) return
    changes.released = true
    for (const family of FAMILIES) if (lease[family] !== undefined) this.#trust.get(family)?.release(lease[family])
  }

  /** Decides about a node that holds nothing in `#trust` at the moment. */
  #judge(view: NodeView, changes: Changes): void {
    const before = this.#peers.get(view.name)
    const refusals: Refusal[] = []
    const candidates = this.#candidates(view, before?.lease, refusals)
    const held: { 4?: LeaseFamily; 6?: LeaseFamily } = {}
    for (const family of FAMILIES) {
      const candidate = candidates[family]
      const trust = this.#trust.get(family)
      if (candidate === undefined || trust === undefined) continue
      const refusal = trust.admit(view.name, candidate)
      if (refusal === undefined) held[family] = candidate
      else refusals.push(refusal)
    }
    const lease = held[4] === undefined && held[6] === undefined ? undefined : { node: view.name, ...held }
    if (!sameLease(before?.lease, lease)) changes.leases.set(view.name, lease)
    const known = new Set(before?.refusals.map(({ message }) => message))
    changes.refused.push(...refusals.filter(({ message }) => !known.has(message)))
    this.#peers.set(view.name, { view, lease, refusals })
    if (refusals.some(({ blockedBy }) => blockedBy !== undefined)) this.#blocked.add(view.name)
    else this.#blocked.delete(view.name)
  }

  /** What a node asks for. Where it cannot be read at the moment, what it had, as long as its subnet is still its own. */
  #candidates(view: NodeView, last: Lease | undefined, refusals: Refusal[]): { 4?: LeaseFamily; 6?: LeaseFamily } {
    const found: { 4?: LeaseFamily; 6?: LeaseFamily } = {}
    const keep = (family: Family): void => {
      const lease = last?.[family]
      if (lease !== undefined && podCidrOf(view, family) === lease.subnet) found[family] = lease
    }
    const reading = readLease(view, this.#backend, localFamilies(this.#local))
    if (reading.is === 'unmarked') {
      for (const family of FAMILIES) keep(family)
    } else if (reading.is === 'other-backend') {
      const message = `node ${view.name}: refused: its backend is ${backendName(reading.type.slice(0, 64))}, ours ${backendName(this.#backend.type)}`
      refusals.push({ node: view.name, code: 'other-backend', message })
    } else {
      for (const family of FAMILIES) {
        const one: FamilyReading = reading[family]
        if (one.is === 'stated') found[family] = one.lease
        if (one.is !== 'unreadable') continue
        keep(family)
        const kept = found[family] === undefined ? 'it has no lease' : 'its last lease is kept'
        refusals.push({
          node: view.name,
          family,
          code: 'unreadable',
          message: `node ${view.name}: ${one.error.message} (${kept})`,
        })
      }
    }
    return found
  }

  /** Whoever waited for what was given up gets another chance, the oldest first. */
  #unblock(changes: Changes): void {
    if (!changes.released || this.#blocked.size === 0) return
    const waiting = [...this.#blocked].flatMap((name) => this.#peers.get(name)?.view ?? [])
    for (const view of waiting.toSorted(byAge)) this.#update(view, changes)
  }
}

class Changes implements PeerChanges {
  readonly leases = new Map<string, Lease | undefined>()
  readonly refused: Refusal[] = []
  released = false
}

function trustOf(local: Local, backend: Backend): Map<Family, Trust> {
  const trust = new Map<Family, Trust>()
  const keys = new KeyHolders(local.identity?.kind === 'wireguard' ? local.identity.publicKey : undefined)
  for (const family of localFamilies(local)) {
    const own = local[family]
    if (own !== undefined) trust.set(family, new Trust(family, own, backend, keys))
  }
  return trust
}

/** Older nodes first; names decide between nodes of the same second. */
function byAge(a: NodeView, b: NodeView): number {
  if (a.created !== b.created) return a.created < b.created ? -1 : 1
  return a.name < b.name ? -1 : 1
}

/** As it is written, and what empty text means. */
const backendName = (type: string): string => (type === '' ? '"", which is udp' : JSON.stringify(type))
