/** Reports of earlier runs, made with --json, as columns again: runs of an hour need not be made at once. */

import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import { fullId, type Case, type Verdict } from './case.ts'
import type { Column } from './report.ts'

const verdict = v.union([
  v.object({ is: v.literal('passed') }),
  v.object({ is: v.picklist(['failed', 'absent', 'unclaimed', 'skipped', 'broken']), why: v.string() }),
])
const saved = v.object({
  columns: v.array(v.object({ label: v.string(), directory: v.string(), seconds: v.number() })),
  cases: v.array(v.object({ id: v.string(), verdicts: v.array(v.nullable(verdict)) })),
})

/** The columns of a file. Cases that there are no more are left out. Throws where the file is no report. */
export function readReport(file: string, cases: readonly Case[]): readonly Column[] {
  const report = v.safeParse(saved, JSON.parse(readFileSync(file, 'utf8')))
  if (!report.success) throw new Error(`${file} is no report of npm run conformance -- --json`)
  const known = new Map(cases.map((test) => [fullId(test), test]))
  return report.output.columns.map((column, i) => ({
    ...column,
    outcomes: report.output.cases.flatMap(({ id, verdicts }) => {
      const test = known.get(id)
      const found: Verdict | null = verdicts[i] ?? null
      return test === undefined || found === null ? [] : [{ test, verdict: found, ms: 0 }]
    }),
  }))
}

/** Columns of one label, of runs over different cases, as one; a later run of a case wins. */
export function merged(columns: readonly Column[]): readonly Column[] {
  return [...Map.groupBy(columns, ({ label }) => label)].map(([label, same]) => {
    const outcomes = new Map(same.flatMap((one) => one.outcomes.map((outcome) => [fullId(outcome.test), outcome])))
    const seconds = same.reduce((sum, one) => sum + one.seconds, 0)
    return { label, directory: same[0]?.directory ?? '', outcomes: [...outcomes.values()], seconds }
  })
}
