/** Folders, listed. */

import { readdirSync } from 'node:fs'
import { hasCode } from './errno.ts'

/** The names in a folder, in order; none where there is no such folder. Throws what else keeps it from being read. */
export function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).toSorted()
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
