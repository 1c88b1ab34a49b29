/** The lock of a network's directory, without waiting. `flock(2)` on the file `lock`, as the reference plugin does. */

import { constants } from 'node:fs'
import { join } from 'node:path'

import { nativeSys } from '#sys/addon.ts'
import { LOCK } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import type { Sys } from '#sys/sys.ts'

/** Undefined while somebody else holds it. Throws `SysError`. */
export function tryLockDirectory(directory: string, sys: Sys = nativeSys()): Disposable | undefined {
  const path = join(directory, 'lock')
  const fd = check(sys.open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600), 'open', path)
  const rc = sys.flock(fd, LOCK.EX | LOCK.NB)
  if (rc === 0) return { [Symbol.dispose]: () => void sys.close(fd) }
  sys.close(fd)
  if (rc !== -ERRNO.EAGAIN && rc !== -ERRNO.EINTR) check(rc, 'flock', path)
  return undefined
}
