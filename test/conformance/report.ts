/** What came out, for people and for programs. */

import { table, type Column as TableColumn } from '#cli/table.ts'
import { fullId, type Case, type Verdict, type VerdictName } from './case.ts'
import { shorten } from './call.ts'
import type { Outcome } from './runner.ts'

/** One directory of plugins. */
export interface Column {
  readonly label: string
  readonly directory: string
  readonly outcomes: readonly Outcome[]
  readonly seconds: number
}

export interface Row {
  readonly test: Case
  readonly verdicts: readonly (Verdict | undefined)[]
}

/** What the columns call an outcome. */
const words: Readonly<Record<VerdictName, string>> = {
  passed: 'passed',
  failed: 'FAILED',
  absent: 'absent',
  unclaimed: 'not claimed',
  skipped: 'skipped',
  broken: 'BROKEN',
}

export const isBad = (verdict: Verdict | undefined): boolean => verdict?.is === 'failed' || verdict?.is === 'broken'

export function rowsOf(columns: readonly Column[]): readonly Row[] {
  const byId = columns.map(({ outcomes }) => new Map(outcomes.map(({ test, verdict }) => [fullId(test), verdict])))
  const tests = new Map(columns.flatMap(({ outcomes }) => outcomes.map(({ test }) => [fullId(test), test])))
  return [...tests].map(([id, test]) => ({ test, verdicts: byId.map((verdicts) => verdicts.get(id)) }))
}

const whyOf = (verdict: Verdict | undefined): string =>
  verdict === undefined || verdict.is === 'passed' ? '' : verdict.why

/** A line for each case, the reasons of those that did not pass, and the sums. */
export function reportText(columns: readonly Column[], failuresOnly: boolean): string {
  const rows = rowsOf(columns).filter(({ verdicts }) => !failuresOnly || verdicts.some((one) => one?.is !== 'passed'))
  const shown: readonly TableColumn<Row>[] = [
    { title: 'case', value: ({ test }) => fullId(test) },
    { title: 'by', value: ({ test }) => test.basis },
    ...columns.map(({ label }, i): TableColumn<Row> => ({
      title: label,
      value: ({ verdicts }) => (verdicts[i] === undefined ? '' : words[verdicts[i].is]),
      style: ({ verdicts }) => (isBad(verdicts[i]) ? 'bad' : verdicts[i]?.is === 'passed' ? 'good' : undefined),
    })),
    { title: 'asserts', value: ({ test }) => test.asserts },
  ]
  const reasons = rows.flatMap(({ test, verdicts }) =>
    verdicts.flatMap((verdict, i) =>
      isBad(verdict) ? [`${columns[i]?.label}: ${fullId(test)}: ${shorten(whyOf(verdict), 600)}`] : [],
    ),
  )
  return [table(shown, rows), reasons.join('\n'), sums(columns)].filter((part) => part !== '').join('\n\n')
}

export interface Sum {
  readonly plugin: string
  readonly counts: readonly Readonly<Record<VerdictName, number>>[]
}

const none: Readonly<Record<VerdictName, number>> = {
  passed: 0,
  failed: 0,
  absent: 0,
  unclaimed: 0,
  skipped: 0,
  broken: 0,
}

function countOf(outcomes: readonly Outcome[]): Readonly<Record<VerdictName, number>> {
  const counts = { ...none }
  for (const { verdict } of outcomes) counts[verdict.is]++
  return counts
}

/** Cases by plugin, and all of them in the last line. */
export function sumsOf(columns: readonly Column[]): readonly Sum[] {
  const plugins = [...new Set(columns.flatMap(({ outcomes }) => outcomes.map(({ test }) => test.plugin)))]
  const lines = plugins.map((plugin) => ({
    plugin,
    counts: columns.map(({ outcomes }) => countOf(outcomes.filter(({ test }) => test.plugin === plugin))),
  }))
  return [...lines, { plugin: 'all', counts: columns.map(({ outcomes }) => countOf(outcomes)) }]
}

/** `12 / 14` passed of those that could be judged. */
export const ratio = (counts: Readonly<Record<VerdictName, number>> | undefined): string => {
  const { passed, failed, broken, unclaimed, skipped } = counts ?? none
  const judged = passed + failed + broken
  if (judged === 0) return skipped > 0 ? 'skipped' : unclaimed > 0 ? 'not claimed' : 'absent'
  return `${passed} / ${judged}`
}

function sums(columns: readonly Column[]): string {
  const shown: readonly TableColumn<Sum>[] = [
    { title: 'passed of judged', value: ({ plugin }) => plugin },
    ...columns.map(({ label }, i): TableColumn<Sum> => ({
      title: label,
      align: 'right',
      value: ({ counts }) => ratio(counts[i]),
      style: ({ counts }) => ((counts[i]?.failed ?? 0) + (counts[i]?.broken ?? 0) > 0 ? 'bad' : 'good'),
    })),
  ]
  const others = columns.map(({ label, outcomes, seconds }) => {
    const { absent, unclaimed, skipped } = countOf(outcomes)
    return `${label}: ${outcomes.length} cases in ${seconds.toFixed(0)} s; absent ${absent}, not claimed ${unclaimed}, skipped ${skipped}`
  })
  return `${table(shown, sumsOf(columns))}\n\n${others.join('\n')}`
}

/** The same as data. */
export function reportJson(columns: readonly Column[]): object {
  return {
    columns: columns.map(({ label, directory, outcomes, seconds }) => ({
      label,
      directory,
      seconds,
      counts: countOf(outcomes),
    })),
    cases: rowsOf(columns).map(({ test, verdicts }) => ({
      id: fullId(test),
      plugin: test.plugin,
      basis: test.basis,
      asserts: test.asserts,
      verdicts: verdicts.map((verdict) => verdict ?? null),
    })),
  }
}
