/** What a check found. */

import type { Family } from '#ip/text.ts'
import { groups, type Check, type Group } from './cases.ts'

export interface Outcome {
  readonly check: Check
  readonly ok: boolean
  /** What happened, in a few words: "0.08 ms", "no answer in 2 s", "seen as 172.30.1.11". */
  readonly detail: string
  /** Round-trip time where one was measured. */
  readonly ms?: number | undefined
}

export interface GroupSummary {
  readonly group: Group
  readonly family: Family
  readonly checks: number
  readonly failures: number
  /** Median round-trip time in milliseconds, where times were measured. */
  readonly medianMs: number | undefined
}

export interface Report {
  readonly ok: boolean
  readonly checks: number
  readonly failures: number
  readonly groups: readonly GroupSummary[]
  readonly outcomes: readonly Outcome[]
}

/** Sums up. No outcomes at all is no success: a lab without pods has shown nothing. */
export function summarize(outcomes: readonly Outcome[]): Report {
  const failures = outcomes.filter((outcome) => !outcome.ok).length
  const families = [...new Set(outcomes.map(({ check }) => check.family))].sort((a, b) => a - b)
  const summaries = groups.flatMap((group) =>
    families.flatMap((family): GroupSummary[] => {
      const own = outcomes.filter(({ check }) => check.group === group && check.family === family)
      if (own.length === 0) return []
      const failed = own.filter((outcome) => !outcome.ok).length
      return [
        { group, family, checks: own.length, failures: failed, medianMs: median(own.flatMap(({ ms }) => ms ?? [])) },
      ]
    }),
  )
  return { ok: failures === 0 && outcomes.length > 0, checks: outcomes.length, failures, groups: summaries, outcomes }
}

function median(values: readonly number[]): number | undefined {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
}
