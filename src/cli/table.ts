import { style } from './style.ts'
import type { Style } from './style.ts'
import { printable, widthOf } from './width.ts'

export interface Column<Row> {
  readonly title: string
  /** Plain text; an absent value prints as `-`. */
  readonly value: (row: Row) => string | number | undefined
  readonly align?: 'left' | 'right'
  /** What the cell means, such as 'bad' for a failed check. */
  readonly style?: (row: Row) => Style | undefined
}

const GAP = '  '

/**
 * Rows as an aligned text table, one line each, without a line break at the end. Columns line up in terminal cells, so
 * Chinese text does too; what comes from elsewhere cannot carry control characters onto the terminal.
 */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: Iterable<Row>,
  stream: NodeJS.WriteStream = process.stdout,
): string {
  const body = [...rows].map((row) =>
    columns.map((column) => {
      const text = printable(String(column.value(row) ?? '-'))
      return { text: text === '' ? '-' : text, as: column.style?.(row) }
    }),
  )
  const head = columns.map((column) => ({ text: printable(column.title), as: 'heading' as const }))
  const lines = [head, ...body]
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => widthOf(line[index]?.text ?? ''))))

  return lines
    .map((line) =>
      line
        .map(({ text, as }, index) => {
          const shown = as === undefined ? text : style(as, text, stream)
          const padding = ' '.repeat((widths[index] ?? 0) - widthOf(text))
          if (columns[index]?.align === 'right') return padding + shown
          return index === columns.length - 1 ? shown : shown + padding
        })
        .join(GAP),
    )
    .join('\n')
}
