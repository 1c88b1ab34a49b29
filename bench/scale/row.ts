/** One figure: no ratio, because nothing else is measured beside it. */

import { table } from '#cli/table.ts'
import { figure } from '../table.ts'

export interface Row {
  readonly what: string
  readonly value: number
  readonly unit: 'ms' | 's' | 'MB' | '% of a processor' | ''
}

export const rowTable = (rows: readonly Row[]): string =>
  table<Row>(
    [
      { title: 'what', value: ({ what }) => what },
      { title: 'figure', value: ({ value, unit }) => `${figure(value)} ${unit}`.trim(), align: 'right' },
    ],
    rows,
  )
