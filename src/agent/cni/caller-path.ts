/** What a path of the caller's means here, in another process with another working directory. */

import { resolve } from 'node:path'

export interface Caller {
  readonly pid: number
  readonly cwd: string
}

/**
 * Paths through `/proc/self`, `/proc/thread-self` and `/dev/fd` lead into the caller's process, relative ones start in its working
 * directory. Others are the same everywhere. '' stays ''.
 */
export function fromCaller(path: string, { pid, cwd }: Caller): string {
  if (path === '') return ''
  const absolute = resolve(cwd, path)
  const [, root, first, ...rest] = absolute.split('/')
  if (root === 'proc' && first === 'self') return ['/proc', pid, ...rest].join('/')
  if (root === 'proc' && first === 'thread-self') return ['/proc', pid, 'task', pid, ...rest].join('/')
  if (root === 'dev' && first === 'fd') return ['/proc', pid, 'fd', ...rest].join('/')
  return absolute
}
