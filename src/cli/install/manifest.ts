/** What `heddle cni install` has put on this machine: written before anything is changed, so that a kill at any point leaves a way forward and a way back. */

import { rmSync } from 'node:fs'

import * as v from 'valibot'

import { CliError } from '../fail.ts'
import { readJsonFile, writeJsonFile } from '../json-file.ts'

const fileSchema = v.object({
  /** As the machine sees it, without --root. */
  path: v.string(),
  /** Hexadecimal. */
  sha256: v.string(),
  /** Of former versions that may still be there while an upgrade is under way. */
  former: v.array(v.string()),
  /** Where the foreign file lies that was there before, in the directory of the backups. */
  backup: v.exactOptional(v.string()),
})

const schema = v.object({
  version: v.literal(1),
  /** Heddle's version. */
  heddle: v.string(),
  files: v.array(fileSchema),
  /** Configurations that would have come before ours, and what they are called meanwhile. */
  disabled: v.array(v.object({ path: v.string(), as: v.string() })),
})

export type InstalledFile = v.InferOutput<typeof fileSchema>
export type Manifest = v.InferOutput<typeof schema>

export const nothingInstalled: Manifest = { version: 1, heddle: '', files: [], disabled: [] }

/** Undefined where there is none. Throws CliError FAILED for one that cannot be read: what is ours is not known then. */
export const readManifest = (path: string): Manifest | undefined =>
  readJsonFile(
    path,
    schema,
    () =>
      new CliError('FAILED', `${path} is not what this version writes`, {
        remedy: 'move it away, remove what was installed by hand, and install anew',
      }),
  )

export const writeManifest = (path: string, manifest: Manifest): void => writeJsonFile(path, manifest, 0o644)

export const removeManifest = (path: string): void => rmSync(path, { force: true })
