/**
 * After a reboot no pod of before lives, and nobody calls DEL for most of them: their addresses are free again. Which boot the files of a
 * directory are from is noted in its lock file, which is otherwise empty and goes where the directory goes.
 *
 * The reference plugin may work on the same directory and notes nothing, so a file counts as one of this boot too when it is younger than the boot, and when
 * a record or a cached result with a living namespace names its owner.
 */

import * as fs from 'node:fs'
import { join } from 'node:path'

import { listRecords } from '#cni/attachment/record.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { cacheFile, defaultCacheDir, listCache, removeCache } from '#cni/runtime/cache.ts'
import type { IpText } from '#ip/address.ts'
import { bootId, bootTime } from '#sys/bootid.ts'
import { hasCode } from '#sys/errno.ts'
import { isNamespaceFile } from '#sys/netns.ts'
import { isOwner, type Entry, type Owner } from './index.ts'

/** Locked by whoever works on the directory, and never read by the reference plugin. */
const LOCK_FILE = 'lock'

/** What tells the addresses of this boot from those of an earlier one. */
export interface Living {
  /** Milliseconds since 1970: files from then on are of this boot. */
  readonly since: number
  readonly attachments: readonly Attachment[]
}

export interface Boot {
  readonly id: string
  /** Who of the network lives. */
  living(): Promise<Living>
  /** These addresses were released. */
  released(owners: readonly Owner[], count: number): Promise<void>
}

/** `none` in a directory that Heddle has never given an address from. */
export function bootNote(directory: string, id: string): 'same' | 'other' | 'none' {
  try {
    const note = fs.readFileSync(join(directory, LOCK_FILE), 'utf8').trim()
    if (note === '') return 'none'
    return note === id ? 'same' : 'other'
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'none'
    throw error
  }
}

/** On disk when it returns. Called under the lock, after what is of an earlier boot is gone; in place, because a lock is on its file and not on its name. */
export function noteBoot(directory: string, id: string): void {
  const text = `${id}\n`
  const fd = fs.openSync(join(directory, LOCK_FILE), fs.constants.O_RDWR | fs.constants.O_NOFOLLOW)
  try {
    fs.writeSync(fd, text, 0)
    fs.ftruncateSync(fd, text.length)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** A clock that was set right after the boot may make its files look a little older than it. */
const SLACK_MS = 5_000

/** Pure. The addresses that nobody of this boot can own. */
export const earlierAddresses = (
  entries: Iterable<readonly [IpText, Entry]>,
  { since, attachments }: Living,
  modified: (file: string) => number,
): readonly IpText[] =>
  [...entries]
    .filter(([, { state, file }]) => {
      if (state === 'foreign' || modified(file) >= since - SLACK_MS) return false
      return state === 'torn' || !attachments.some((attachment) => isOwner(state, attachment))
    })
    .map(([ip]) => ip)

export type BootHost = Pick<PluginHost, 'root' | 'log' | 'records'>

/** The boot as a network of this host sees it. */
export function bootOf(host: BootHost, network: string): Boot {
  const id = bootId()
  const cacheDir = join(host.root, defaultCacheDir)
  const since = bootTime() * 1000
  return {
    id,
    living: async () => {
      const recorded = host.records === undefined ? [] : listRecords(host.records)
      const cached = (await listCache(cacheDir)).filter(({ netns }) => netns !== '' && isNamespaceFile(netns))
      return {
        since,
        attachments: [...recorded.filter((record) => record.boot === id), ...cached].filter(
          (one) => one.network === network,
        ),
      }
    },
    released: async (owners, count) => {
      host.log('info', 'host-local: released the addresses of an earlier boot', { network, count })
      for (const cached of await listCache(cacheDir)) {
        const isTheirs = cached.network === network && owners.some((owner) => isOwner(owner, cached))
        if (isTheirs && !isNamespaceFile(cached.netns) && isOlder(cacheFile(cacheDir, cached), since))
          await removeCache(cacheDir, cached)
      }
    },
  }
}

function isOlder(file: string, since: number): boolean {
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  return stat !== undefined && stat.mtimeMs < since - SLACK_MS
}
