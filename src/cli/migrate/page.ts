/** A migration's plan, and what was taken back, for people. */

import { fill, say } from '../language.ts'
import { style, type Style } from '../style.ts'
import { table } from '../table.ts'
import type { Returned } from './apply.ts'
import type { Fate, MigrationPlan, Step } from './plan.ts'

const STYLES: Readonly<Partial<Record<Fate, Style>>> = {
  remove: 'warning',
  replace: 'warning',
  create: 'warning',
  'by-hand': 'name',
  unknown: 'dim',
  problem: 'bad',
}

const noteOf = ({ note, detail = '', count }: Step): string =>
  [
    ...(count === undefined ? [] : [say('migrate.count', { count })]),
    ...(note === undefined ? [] : [fill(`migrate.note.${note}`, { detail })]),
  ].join('; ')

export function pageOf({ steps }: MigrationPlan): string {
  const rows = table<Step>(
    [
      { title: say('migrate.column.part'), value: ({ part }) => say(`migrate.part.${part}`) },
      { title: say('migrate.column.object'), value: ({ object }) => object },
      {
        title: say('migrate.column.fate'),
        value: ({ fate }) => say(`migrate.fate.${fate}`),
        style: ({ fate }) => STYLES[fate],
      },
      { title: say('migrate.column.note'), value: noteOf },
    ],
    steps,
  )
  return `${rows}\n`
}

export function returnedPage(returned: Returned | undefined): string {
  if (returned === undefined) return say('migrate.nothing')
  const { entries, of, plugins, dropIn, table: own } = returned
  return [
    say(plugins ? 'migrate.pluginsBack' : 'migrate.pluginsKept'),
    say('migrate.entriesBack', { count: entries, of }),
    ...(dropIn === 'none' ? [] : [say(`migrate.dropIn.${dropIn}`)]),
    ...(own === 'none' ? [] : [say(`migrate.table.${own}`)]),
    style('good', say('migrate.returned')),
  ].join('\n')
}
