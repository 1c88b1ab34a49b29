/** What a migration has changed on this node: on disk before the first change, so that a kill at any point leaves a way on and a way back. */

import { rmSync } from 'node:fs'
import { join } from 'node:path'

import * as v from 'valibot'

import { CliError } from '../fail.ts'
import { readJsonFile, writeJsonFile } from '../json-file.ts'
import { say } from '../language.ts'
import { entrySchema } from './entry.ts'

const schema = v.object({
  version: v.literal(1),
  state: v.picklist(['applying', 'applied', 'returning']),
  /** Entries of the kernel are put back in the same life of the machine only. */
  boot: v.string(),
  entries: v.array(entrySchema),
  /** The migration installed the plugins; they were not there before it. */
  plugins: v.boolean(),
  dropIn: v.nullable(
    v.object({
      path: v.string(),
      /** What was written: only that is taken away. */
      text: v.string(),
      /** What was there before; null for nothing. */
      before: v.nullable(v.string()),
      /** The folder was made for it. */
      madeFolder: v.boolean(),
    }),
  ),
})

export type Journal = v.InferOutput<typeof schema>

export const journalPath = (root: string): string => join(root, '/var/lib/heddle/migrate-flannel.json')

/** Undefined where there is none. Throws CliError FAILED for one that cannot be read. */
export const readJournal = (path: string): Journal | undefined =>
  readJsonFile(
    path,
    schema,
    () => new CliError('FAILED', say('migrate.badJournal', { path }), { remedy: say('migrate.badJournalRemedy') }),
  )

export const writeJournal = (path: string, journal: Journal): void => writeJsonFile(path, journal, 0o600)

export const removeJournal = (path: string): void => rmSync(path, { force: true })
