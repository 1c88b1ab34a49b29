/** DEL and GC while no daemon runs: what its book says is released from here, so that neither waits for anybody. */

import { existsSync } from 'node:fs'

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { systemClock } from '#sys/clock.ts'
import { bookPathOf, LeaseBook } from './daemon/book.ts'
import type { LeaseRecord } from './daemon/record.ts'
import { random } from './daemon/random.ts'
import { releaseLeases } from './daemon/release.ts'
import { keyOf } from './wire/identity.ts'

/** Throws CniError 11 while a daemon has the book without listening: it is just starting or stopping. */
export async function releaseOffline(
  socketPath: string,
  network: string,
  { containerId, ifname }: Attachment,
  host: PluginHost,
): Promise<void> {
  const key = keyOf(containerId, network, ifname)
  await releaseWhere(socketPath, (record) => record.key === key, host)
}

export async function collectOffline(
  socketPath: string,
  network: string,
  valid: readonly Attachment[],
  host: PluginHost,
): Promise<void> {
  const keep = new Set(valid.map(({ containerId, ifname }) => keyOf(containerId, network, ifname)))
  await releaseWhere(socketPath, (record) => record.network === network && !keep.has(record.key), host)
}

async function releaseWhere(
  socketPath: string,
  isOver: (record: LeaseRecord) => boolean,
  host: PluginHost,
): Promise<void> {
  const path = bookPathOf(socketPath)
  if (!existsSync(path)) return
  await using book = await LeaseBook.open(path)
  for (const record of [...book.records.values()].filter(isOver)) {
    await book.put({ ...record, isReleasing: true })
    host.failpoint('dhcp.releasing')
    await releaseLeases(record, {
      clock: systemClock,
      random,
      log: (level, message, fields) => host.log(level, message, fields),
      count: () => {},
      failpoint: (name) => host.failpoint(name),
    })
    await book.drop(record.key)
  }
}
