/** How waits between attempts grow: `base`, doubled each time, at most `cap`; in milliseconds. */
export interface Backoff {
  readonly base: number
  readonly cap: number
}

/** The wait before attempt `n` (from 1), spread over ±50 % so that many nodes do not come back together. */
export const backoff = (attempt: number, { base, cap }: Backoff, random: () => number): number =>
  Math.round(Math.min(cap, base * 2 ** Math.min(attempt - 1, 30)) * (0.5 + random()))
