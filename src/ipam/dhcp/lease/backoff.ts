/** When to ask again. Every wait is spread at random, so that pods that started together do not ask together. */

/** 0 up to, and without, 1. */
export type Random = () => number

/** The longest wait between two DISCOVERs unless told otherwise (the reference's `-resendmax`). */
export const RESEND_MAX = 62_000

/** ms. The first ones are quick: the frame may have been lost because a bridge had just got the port. */
const QUICK = [500, 1000, 2000, 2000]
const FIRST = 4000

/** ms to wait after the DISCOVER or REQUEST number `attempt` (from 0): RFC 2131 §4.1's doubling with a second of jitter, after four quick ones as in the reference. */
export function discoverWait(attempt: number, random: Random, max = RESEND_MAX): number {
  const base = Math.min(max, QUICK[attempt] ?? FIRST * 2 ** Math.min(16, attempt - QUICK.length))
  return Math.round(base + (2 * random() - 1) * Math.min(1000, base / 4))
}

/** ms until a lease in its last part is asked for again: half of what is left, at least a minute, at most what is left (RFC 2131 §4.4.5). */
export const renewWait = (left: number): number => Math.max(0, Math.min(left, Math.max(60_000, left / 2)))

export interface Retransmission {
  /** ms: first wait, longest wait. */
  readonly initial: number
  readonly max: number
}

/** RFC 8415 §7.6. */
export const RETRANSMIT = {
  solicit: { initial: 1000, max: 3_600_000 },
  request: { initial: 1000, max: 30_000 },
  renew: { initial: 10_000, max: 600_000 },
  rebind: { initial: 10_000, max: 600_000 },
} as const satisfies Record<string, Retransmission>

/** ms: RFC 8415 §15. `previous` undefined for the first message; `longer`: the first wait of a SOLICIT is never shorter than its base. */
export function retransmitWait(
  { initial, max }: Retransmission,
  previous: number | undefined,
  random: Random,
  longer = false,
): number {
  const spread = longer && previous === undefined ? random() * 0.1 : (2 * random() - 1) * 0.1
  const next = previous === undefined ? initial * (1 + spread) : previous * (2 + spread)
  return next > max ? max * (1 + spread) : next
}
