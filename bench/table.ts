/** The measurements as a page for people. */

import { table, type Column } from '#cli/table.ts'
import { met, type Measurement } from './measurement.ts'

/** Three digits that matter. */
export const figure = (value: number): string =>
  Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString()

const withUnit = (value: number | undefined, unit: string): string | undefined =>
  value === undefined ? undefined : `${figure(value)} ${unit}`

const COLUMNS: readonly Column<Measurement>[] = [
  { title: 'what', value: ({ what }) => what },
  { title: 'against', value: ({ against }) => against },
  { title: 'ours', align: 'right', value: ({ ours, unit }) => withUnit(ours, unit) },
  { title: 'peer', align: 'right', value: ({ peer, unit }) => withUnit(peer, unit) },
  { title: 'ratio', align: 'right', value: ({ ratio }) => ratio?.median.toFixed(3) },
  {
    title: 'min–max',
    align: 'right',
    value: ({ ratio }) => ratio && `${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)}`,
  },
  { title: 'budget', align: 'right', value: budgetText },
  {
    title: 'met',
    value: verdict,
    style: (row) => (met(row) === false ? 'bad' : met(row) === true ? 'good' : undefined),
  },
]

function budgetText({ budget, ratio, unit }: Measurement): string | undefined {
  if (budget === undefined) return undefined
  return `${budget.is === 'at-most' ? '≤' : '≥'} ${budget.value}${ratio === undefined ? ` ${unit}` : ''}`
}

function verdict(row: Measurement): string | undefined {
  const is = met(row)
  return is === undefined ? undefined : is ? 'yes' : 'NO'
}

export const measurementTable = (rows: readonly Measurement[]): string => table(COLUMNS, rows)
