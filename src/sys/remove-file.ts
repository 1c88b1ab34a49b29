/** Removing one file. */

import { unlinkSync } from 'node:fs'
import { hasCode } from './errno.ts'

/** Like `rm -f FILE`, in one system call where Node's `rmSync` makes three. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}
