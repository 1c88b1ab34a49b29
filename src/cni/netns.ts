/** Identity of network namespaces, by path, without entering them. */

import { statSync } from 'node:fs'

import { hasCode } from '#sys/errno.ts'

/**
 * `device:inode` of the namespace that `path` leads to; undefined where there is none, or where no path can be like that. Like
 * `readlink /proc/self/ns/net`. Throws what the system says where it cannot be told (EACCES, EIO).
 */
export function netnsIdentity(path: string): string | undefined {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
  } catch (error) {
    if (hasCode(error, 'ENAMETOOLONG', 'ELOOP', 'ESRCH', 'ERR_INVALID_ARG_VALUE')) return undefined
    throw error
  }
}

/** Of the process's main thread: threads of the pool never change theirs. */
const OWN_NETNS = '/proc/self/ns/net'

let own: string | undefined

/** Identity of the namespace this process lives in, which it leaves for excursions only. */
export const ownNetnsIdentity = (): string | undefined => (own ??= netnsIdentity(OWN_NETNS))

/** True when `path` leads to the namespace this process lives in. A path that leads nowhere is left to the plugin. */
export function isOwnNetns(path: string): boolean {
  try {
    const home = ownNetnsIdentity()
    return home !== undefined && home === netnsIdentity(path)
  } catch {
    return false
  }
}
