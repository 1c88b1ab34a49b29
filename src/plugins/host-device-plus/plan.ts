/** What is to be done with cards: pure. */

import { isIdle, type Card } from './card.ts'

/** Ports that Nova has on the server, whoever attached them. */
export type Attached = ReadonlySet<string>

/** Cards that take a place of the server: those that Nova tells of, and ours that it may tell of soon, or still. */
export function taken(attached: Attached, cards: readonly Card[]): number {
  const ports = new Set(attached)
  let unborn = 0
  for (const { port } of cards) {
    if (port === undefined) unborn += 1
    else ports.add(port.id)
  }
  return ports.size + unborn
}

export const roomFor = (limit: number, attached: Attached, cards: readonly Card[]): number =>
  Math.max(0, limit - taken(attached, cards))

/** Places that pods can have altogether: what others attached is not theirs. */
export function placesFor(limit: number, attached: Attached, cards: readonly Card[]): number {
  const own = new Set(cards.flatMap(({ port }) => port?.id ?? []))
  return Math.max(0, limit - [...attached].filter((port) => !own.has(port)).length)
}

export interface Seen {
  /** Boot of the machine. */
  readonly boot: string
  /** Milliseconds since 1970. */
  readonly now: number
  /** Its link is among those of the host. */
  readonly hasLink: boolean
  /** Cards of its network that stay in the pool before this one. */
  readonly idleBefore: number
  readonly poolSize: number
  /** Undefined: not looked at. */
  readonly cloud?: {
    readonly attached: Attached
    /** Ports of the server that Neutron tells of. */
    readonly ports: ReadonlySet<string>
  }
}

/** `leave`: card and port go. `free`: nobody holds it any more. `lose`: its pod has a card that the cloud has no more. `found`: it has it again. */
export type Verdict = 'keep' | 'leave' | 'free' | 'found' | { readonly lose: string }

/** What becomes of a card that nobody works on. */
export function judge(card: Card, seen: Seen): Verdict {
  const { state, holder, port, lost } = card
  // Whoever made or moved it was killed.
  if (state === 'creating' || state === 'attaching' || state === 'leaving') return 'leave'
  const isGone =
    seen.cloud !== undefined &&
    port !== undefined &&
    (!seen.cloud.ports.has(port.id) || !seen.cloud.attached.has(port.id))
  if (holder !== undefined) {
    // Pods do not outlive a boot, cards do.
    if (holder.boot !== seen.boot) return 'free'
    if (!isGone) return lost === undefined || seen.cloud === undefined ? 'keep' : 'found'
    return lost === undefined ? { lose: 'its port was deleted or taken off the server' } : 'keep'
  }
  if (isGone || lost !== undefined || !seen.hasLink) return 'leave'
  return seen.idleBefore >= seen.poolSize ? 'leave' : 'keep'
}

/** How many cards the pool lacks; those on their way count. */
export const lacking = (poolSize: number, cards: readonly Card[]): number =>
  Math.max(
    0,
    poolSize -
      cards.filter(
        (card) =>
          isIdle(card) || (card.holder === undefined && (card.state === 'creating' || card.state === 'attaching')),
      ).length,
  )
