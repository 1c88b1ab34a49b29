/** Who wants what: every source's contribution, merged into one wanted state. Changing one source costs what that source holds. */

import { keyOf, normal, type Desired, type Key } from './entry.ts'
import { NodeState } from './node-state.ts'
import { same } from './same.ts'

/** Two sources want one key to be different things. The source that came first has its way until it gives up. */
export interface Conflict {
  readonly key: Key
  readonly kept: Claim
  readonly refused: Claim
}

export interface Claim {
  readonly source: string
  readonly desired: Desired
}

export class Contributions {
  /** What is wanted in sum. */
  readonly wanted = new NodeState()
  readonly #bySource = new Map<string, Map<Key, Desired>>()
  readonly #byKey = new Map<Key, Claim | Claim[]>()

  sources(): MapIterator<string> {
    return this.#bySource.keys()
  }

  /** Replaces what a source wants; an empty list ends it. Returns the keys whose wanted entry changed. */
  set(source: string, entries: readonly Desired[]): Set<Key> {
    const before = this.#bySource.get(source)
    const after = new Map<Key, Desired>()
    for (const { entry, origin } of entries) {
      const whole = normal(entry)
      after.set(keyOf(whole), { entry: whole, origin })
    }
    if (after.size === 0) this.#bySource.delete(source)
    else this.#bySource.set(source, after)

    const changed = new Set<Key>()
    if (before !== undefined) {
      for (const key of before.keys()) if (!after.has(key)) this.#settle(key, this.#without(key, source), changed)
    }
    for (const [key, desired] of after) this.#claim(key, { source, desired }, changed)
    return changed
  }

  /** Who put an entry here, and why: the winning claim first. */
  explain(key: Key): readonly Claim[] {
    return this.#claims(key)
  }

  conflicts(): Conflict[] {
    const found: Conflict[] = []
    for (const [key, claims] of this.#byKey) {
      if (!Array.isArray(claims)) continue
      const [kept, ...others] = claims
      if (kept === undefined) continue
      for (const refused of others) {
        if (!same(refused.desired.entry, kept.desired.entry)) found.push({ key, kept, refused })
      }
    }
    return found
  }

  #claims(key: Key): readonly Claim[] {
    const claims = this.#byKey.get(key)
    return claims === undefined ? [] : Array.isArray(claims) ? claims : [claims]
  }

  #without(key: Key, source: string): Claim[] {
    return this.#claims(key).filter((claim) => claim.source !== source)
  }

  #claim(key: Key, claim: Claim, changed: Set<Key>): void {
    if (!this.#byKey.has(key)) {
      // The way of nearly every key.
      this.#byKey.set(key, claim)
      this.wanted.put(claim.desired.entry, key)
      changed.add(key)
      return
    }
    const claims = this.#claims(key)
    const at = claims.findIndex(({ source }) => source === claim.source)
    this.#settle(key, at < 0 ? [...claims, claim] : claims.with(at, claim), changed)
  }

  #settle(key: Key, claims: readonly Claim[], changed: Set<Key>): void {
    const [first, ...others] = claims
    if (first === undefined) {
      this.#byKey.delete(key)
      if (this.wanted.delete(key) !== undefined) changed.add(key)
      return
    }
    // Nearly every key has one claim: five thousand peers shall not pay for five thousand lists.
    this.#byKey.set(key, others.length === 0 ? first : [...claims])
    const entry = first.desired.entry
    const now = this.wanted.get(key)
    if (now !== undefined && same(entry, now)) return
    this.wanted.put(entry, key)
    changed.add(key)
  }
}
