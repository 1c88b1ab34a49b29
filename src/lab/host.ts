/** What the lab leaves and finds on the machine itself: /run/netns as a mount point, and its own directories. */

import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { nativeSys } from '#sys/addon.ts'
import { hasCode } from '#sys/errno.ts'

const NETNS_DIRECTORY = '/run/netns'

/** True once somebody has made a named namespace: /run/netns is then a mount point of its own. */
export function isNetnsMount(mountinfo: string = readFileSync('/proc/self/mountinfo', 'utf8')): boolean {
  return mountinfo.split('\n').some((line) => line.split(' ')[4] === NETNS_DIRECTORY)
}

/** Takes the mount away if nothing is below it: the state before the first named namespace. Somebody else's namespace keeps it. */
export function dropNetnsMount(): void {
  try {
    if (readdirSync(NETNS_DIRECTORY).length > 0 || !isNetnsMount()) return
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return
    throw error
  }
  // Without MNT_DETACH: it fails if a name appears meanwhile.
  if (nativeSys().umount(NETNS_DIRECTORY, 0) === 0) removeIfEmpty(NETNS_DIRECTORY)
}

/** Makes a directory and tells which of its ancestors were missing, nearest first. */
export function makeDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o755 })
}

/** Removes the directory, and its parents up to `stop`, as long as they are empty. */
export function removeEmptyUpTo(path: string, stop: string): void {
  for (let at = path; at.startsWith(stop) && at !== stop; at = dirname(at)) if (!removeIfEmpty(at)) return
}

function removeIfEmpty(path: string): boolean {
  try {
    rmdirSync(path)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return true
    if (hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EBUSY', 'EACCES', 'EPERM', 'EROFS')) return false
    throw error
  }
}

export const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
