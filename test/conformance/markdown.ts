/** The report as tables for docs/conformance.md: the sums by plugin, and each case in one line for all plugins that it is about. */

import type { Verdict } from './case.ts'
import { isBad, ratio, rowsOf, sumsOf, type Column, type Row } from './report.ts'

const cell = (text: string): string => text.replaceAll('|', '\\|')
const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`
const rule = (count: number): string => line(Array.from({ length: count }, () => '---'))

/** By plugin: passed of those that could be judged. */
function sumTable(columns: readonly Column[]): string {
  const rows = sumsOf(columns).map(({ plugin, counts }) =>
    line([plugin === 'all' ? '**all**' : `\`${plugin}\``, ...counts.map(ratio)]),
  )
  return [line(['plugin', ...columns.map(({ label }) => label)]), rule(columns.length + 1), ...rows].join('\n')
}

/** Cases of one name, each for another plugin. */
function byId(rows: readonly Row[]): readonly (readonly Row[])[] {
  return [...Map.groupBy(rows, ({ test }) => `${test.id} ${test.basis}`).values()]
}

/** `all 12`, `10 / 12: not bridge, ptp`, or why nothing was judged. */
function verdictCell(rows: readonly Row[], column: number): string {
  const found = rows.flatMap(({ test, verdicts }) => {
    const verdict = verdicts[column]
    return verdict === undefined ? [] : [[test.plugin, verdict] as const]
  })
  const judged = found.filter(([, { is }]) => is === 'passed' || is === 'failed' || is === 'broken')
  if (judged.length === 0) return reasonOf(found.map(([, verdict]) => verdict))
  const bad = judged.filter(([, verdict]) => isBad(verdict)).map(([plugin]) => plugin)
  if (bad.length === 0) return judged.length === 1 ? 'yes' : `all ${judged.length}`
  if (bad.length === judged.length) return judged.length === 1 ? '**no**' : `**none of ${judged.length}**`
  return `${judged.length - bad.length} / ${judged.length}, **not** ${bad.join(', ')}`
}

function reasonOf(verdicts: readonly Verdict[]): string {
  const kinds = new Set(verdicts.map(({ is }) => is))
  if (kinds.has('skipped')) return 'skipped'
  return kinds.has('unclaimed') ? 'not claimed' : 'absent'
}

function caseTable(rows: readonly Row[], columns: readonly Column[]): string {
  const lines = byId(rows).map((same) => {
    const { test } = same[0] ?? {}
    const [id, basis, asserts] = [test?.id ?? '', test?.basis ?? '', test?.asserts ?? '']
    return line([`\`${id}\``, basis, asserts, ...columns.map((_, i) => verdictCell(same, i))])
  })
  const head = ['case', 'by', 'what holds', ...columns.map(({ label }) => label)]
  return [line(head), rule(head.length), ...lines].join('\n')
}

/** What the parts of the suite are about, in the order of the document. Parts that are not named come last. */
const parts: readonly (readonly [area: string, title: string])[] = [
  ['contract', 'Environment, input, versions, errors'],
  ['life', 'ADD and DEL'],
  ['delegate', 'Delegation to an IPAM plugin'],
  ['check', 'CHECK'],
  ['status', 'STATUS'],
  ['gc', 'GC'],
  ['fail', 'ADD that fails'],
  ['crash', 'Killed'],
  ['crowd', 'Many at once'],
  ['chain', 'Chains'],
  ['bridge', 'bridge, field by field'],
  ['book', 'host-local, field by field'],
  ['static', 'static, field by field'],
  ['dhcp', 'dhcp, with a server'],
  ['config', 'Configurations that are refused'],
]

/** Tables for docs/conformance.md. */
export function reportMarkdown(columns: readonly Column[]): string {
  const rows = rowsOf(columns)
  const sections = parts.flatMap(([area, title]) => {
    const mine = rows.filter(({ test }) => test.id.startsWith(`${area}/`))
    return mine.length === 0 ? [] : [`### ${title}`, caseTable(mine, columns)]
  })
  return [sumTable(columns), ...sections].join('\n\n')
}
