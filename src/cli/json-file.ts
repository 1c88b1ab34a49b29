/** Files of the command line's own, as JSON: whole or not at all, and checked when they are read. */

import { mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'

import * as v from 'valibot'

import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'

/** Undefined where there is none. Throws `damaged()` for one that is not as the schema says. */
export function readJsonFile<T>(
  path: string,
  schema: v.GenericSchema<unknown, T>,
  damaged: () => Error,
): T | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const parsed = v.safeParse(schema, JSON.parse(text))
    if (parsed.success) return parsed.output
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
  }
  throw damaged()
}

/** On disk when it returns; its folder is made. */
export function writeJsonFile(path: string, value: object, mode: number): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  writeFileAtomicSync(path, `${JSON.stringify(value, undefined, 2)}\n`, { mode })
}
