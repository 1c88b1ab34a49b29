/** Identity of network namespaces, by path, without entering them. */

import { statSync } from 'node:fs'

/** `device:inode` of the namespace that `path` leads to; undefined where there is none. Like `readlink /proc/self/ns/net`. */
export function netnsIdentity(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}

/** Of the process's main thread: threads of the pool never change theirs. */
export const ownNetns = '/proc/self/ns/net'

/** True when `path` leads to the namespace this process lives in. A path that leads nowhere is left to the plugin. */
export function isOwnNetns(path: string): boolean {
  try {
    const own = netnsIdentity(ownNetns)
    return own !== undefined && own === netnsIdentity(path)
  } catch {
    return false
  }
}
