/** `heddle lab check`: a table of what was asked, a matrix of pods, and what failed. */

import type { Group } from '#lab/check/cases.ts'
import type { Outcome, Report } from '#lab/check/report.ts'
import { runCheck } from '#lab/check/run.ts'
import type { LabView, PodView } from '#lab/check/view.ts'
import { cloudChecks } from '#lab/cloud/check.ts'
import { observeLab, requireNamespaces } from '#lab/observe.ts'
import { planLab } from '#lab/plan.ts'
import { requireRecord } from '#lab/record.ts'
import { EXIT_FAILED } from './fail.ts'
import { print, seconds } from './lab-text.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { table, type Column } from './table.ts'

/** A matrix wider than this fits no terminal. */
const MATRIX_PODS = 12
const SHOWN_FAILURES = 20

export interface CheckFlags {
  readonly json: boolean
  /** Seconds for each question. */
  readonly timeout: number
}

export async function runLabCheck(name: string, { json, timeout }: CheckFlags): Promise<void> {
  const { record, paths } = requireRecord(name)
  const plan = planLab(record.spec)
  requireNamespaces(plan)
  const view = observeLab(plan)
  const pods = view.nodes.flatMap((node) => node.pods)
  if (!json) print(say('lab.check.begin', { name, pods: pods.length, nodes: view.nodes.length }), '')
  const start = performance.now()
  const checks = plan.cloud === undefined ? undefined : await cloudChecks(plan, plan.cloud, paths, view)
  const report = await runCheck(view, { timeoutMs: timeout * 1000, checks })
  const ms = performance.now() - start
  print(json ? JSON.stringify(jsonOf(name, report, ms), undefined, 2) : textOf(report, view, ms))
  if (!report.ok) process.exitCode = EXIT_FAILED
}

/** Stable keys; every failed check with all that identifies it. */
export function jsonOf(name: string, report: Report, ms: number): object {
  return {
    lab: name,
    ok: report.ok,
    checks: report.checks,
    failures: report.failures,
    ms: Math.round(ms),
    groups: report.groups.map(({ medianMs, ...group }) => ({ ...group, medianMs: medianMs ?? null })),
    failed: report.outcomes
      .filter(({ ok }) => !ok)
      .map(({ check, detail }) => ({
        group: check.group,
        family: check.family,
        from: check.from.name,
        to: check.to.name,
        ip: check.ip,
        detail,
      })),
  }
}

function textOf(report: Report, view: LabView, ms: number): string {
  const parts = view.families.map((family) => matrix(report, view, family)).filter((text) => text !== '')
  parts.push(summary(report))
  const failed = report.outcomes.filter(({ ok }) => !ok)
  if (failed.length > 0) parts.push(failures(failed))
  const counts = { checks: report.checks, failures: report.failures, seconds: seconds(ms) }
  if (report.checks === 0) parts.push(style('bad', say('lab.check.none')))
  else parts.push(report.ok ? style('good', say('lab.check.good', counts)) : style('bad', say('lab.check.bad', counts)))
  return parts.join('\n\n')
}

function matrix(report: Report, view: LabView, family: 4 | 6): string {
  const pods = view.nodes.flatMap((node) => node.pods)
  if (pods.length < 2 || pods.length > MATRIX_PODS) return ''
  const asked = report.outcomes.filter(({ check }) => check.kind === 'reach' && check.family === family)
  const between = (from: PodView, to: PodView): Outcome | undefined =>
    asked.find(({ check }) => check.from === from && check.to === to)
  const columns: Column<PodView>[] = [
    { title: '', value: (from) => from.name },
    ...pods.map((to): Column<PodView> => ({
      title: to.name,
      align: 'right',
      value: (from) => cell(between(from, to)),
      style: (from) => (between(from, to)?.ok === false ? 'bad' : undefined),
    })),
  ]
  return `${style('heading', say('lab.check.matrix', { family }))}\n${table(columns, pods)}`
}

const cell = (outcome: Outcome | undefined): string =>
  outcome === undefined ? '·' : outcome.ok ? `${outcome.ms?.toFixed(2) ?? ''} ✓` : '✗'

const groupText = (group: Group): string => say(`lab.group.${group}`)

function summary(report: Report): string {
  return table(
    [
      { title: say('lab.column.group'), value: ({ group }) => groupText(group) },
      { title: say('lab.column.family'), value: ({ family }) => `v${family}` },
      { title: say('lab.column.checks'), value: ({ checks }) => checks, align: 'right' },
      {
        title: say('lab.column.failed'),
        value: ({ failures }) => failures,
        align: 'right',
        style: ({ failures }) => (failures > 0 ? 'bad' : 'good'),
      },
      {
        title: say('lab.column.median'),
        value: ({ medianMs }) => (medianMs === undefined ? undefined : `${medianMs.toFixed(2)} ms`),
        align: 'right',
      },
    ],
    report.groups,
  )
}

function failures(failed: readonly Outcome[]): string {
  const shown = table(
    [
      { title: say('lab.column.group'), value: ({ check }) => groupText(check.group) },
      { title: say('lab.column.from'), value: ({ check }) => check.from.name },
      { title: say('lab.column.to'), value: ({ check }) => `${check.to.name} (${check.ip})` },
      { title: say('lab.column.detail'), value: ({ detail }) => detail, style: () => 'bad' },
    ],
    failed.slice(0, SHOWN_FAILURES),
  )
  const more = failed.length - SHOWN_FAILURES
  return more > 0 ? `${shown}\n${say('lab.check.more', { count: more })}` : shown
}
