/** Reading one file. */

import { constants, readFileSync } from 'node:fs'
import { nativeSys } from './addon.ts'
import { check, ERRNO } from './errno.ts'

/** The text of a file; undefined where there is none, which costs no exception: that would be several times the system call. Throws `SysError`, or what Node.js throws. */
export function readFileIfThere(path: string): string | undefined {
  const sys = nativeSys()
  const fd = sys.open(path, constants.O_RDONLY, 0)
  if (fd === -ERRNO.ENOENT) return undefined
  check(fd, 'open', path)
  try {
    return readFileSync(fd, 'utf8')
  } finally {
    sys.close(fd)
  }
}
