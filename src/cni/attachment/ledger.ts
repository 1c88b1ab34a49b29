/** Keeps the records of attachments in step with the verbs, whichever program runs them. */

import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import { bootId } from '#sys/bootid.ts'
import { hasCode } from '#sys/errno.ts'
import { LockError, lockFile, type FileLock } from '#sys/flock.ts'
import { netnsCookie } from '#sys/netns.ts'
import { removeFile } from '#sys/remove-file.ts'
import { ioFailure, messageOf, tryAgain } from '../errors.ts'
import { netnsIdentity } from '../netns.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '../plugin.ts'
import {
  createRecord,
  listRecords,
  readRecord,
  recordLock,
  removeRecord,
  writeRecord,
  type AttachmentRecord,
  type RecordKey,
} from './record.ts'

/** Calls of one attachment come one after the other; another program's takes as long as a call may. */
const LOCK_MS = 50_000

const ownPidns = '/proc/self/ns/pid'

const keyOf = ({ type }: Plugin, { config, containerId, ifname }: PluginInput): RecordKey => ({
  type,
  network: config.name,
  containerId,
  ifname,
})

/** Errors of an ADD that could not undo all of itself: its record stays. */
const incomplete = new WeakSet<object>()

/** To be told by whoever tries to undo a failed ADD and cannot. */
export function leftBehind(error: unknown): void {
  if (typeof error === 'object' && error !== null) incomplete.add(error)
}

/** Runs the ADD of a plugin. Without a folder for records, or for a plugin that leaves nothing, just that. Throws CniError 5 when the record cannot be written, 11 when another program works on the attachment. */
export async function recordAdd<T>(
  plugin: Plugin,
  input: PluginInput,
  host: PluginHost,
  add: () => Promise<T>,
): Promise<T> {
  const folder = host.records
  if (folder === undefined || plugin.stateless === true) return add()
  const key = keyOf(plugin, input)
  using _lock = await lockRecord(folder, key)
  const before = readRecord(folder, key)
  const record = recordOf(key, input)
  // The attachment exists: this ADD is a second one, or the first one's remains are in its way.
  const isSecond = before?.netnsId !== undefined && before.netnsId === record.netnsId && before.cookie === record.cookie
  if (before === undefined) create(folder, record)
  else if (!isSecond) write(folder, record)
  try {
    const result = await add()
    const { rules = [], chains = [] } = host
    if (rules.length > 0 || chains.length > 0 || isSecond)
      write(folder, { ...record, rules: [...rules], ...(chains.length > 0 ? { chains: [...chains] } : {}) })
    return result
  } catch (error) {
    if (before !== undefined) writeQuietly(folder, before, host)
    else if (typeof error !== 'object' || error === null || !incomplete.has(error)) removeRecord(folder, key)
    throw error
  }
}

/** Runs the DEL of a plugin: from its first step on nothing of the attachment is put back, and its record goes when all of it is gone. */
export async function recordDel(
  plugin: Plugin,
  input: PluginInput,
  host: PluginHost,
  del: () => Promise<void>,
): Promise<void> {
  const folder = host.records
  if (folder === undefined || plugin.stateless === true) return del()
  const key = keyOf(plugin, input)
  using _lock = await lockRecord(folder, key)
  await leave(folder, key, host, del)
}

/** The same where the lock is held already. */
export async function leave(folder: string, key: RecordKey, host: PluginHost, del: () => Promise<void>): Promise<void> {
  const record = readRecord(folder, key)
  if (record !== undefined && record.state !== 'leaving') writeQuietly(folder, { ...record, state: 'leaving' }, host)
  await del()
  removeRecord(folder, key)
}

/** Runs the GC of a plugin; the records of what it collects go with that. */
export async function recordGc(
  plugin: Plugin,
  input: GcInput,
  host: PluginHost,
  gc: () => Promise<void>,
): Promise<void> {
  const folder = host.records
  if (folder === undefined || plugin.stateless === true) return gc()
  const valid = new Set(input.validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  const stale = listRecords(folder).filter(
    ({ type, network, containerId, ifname }) =>
      type === plugin.type && network === input.config.name && !valid.has(`${containerId}:${ifname}`),
  )
  for (const record of stale) writeQuietly(folder, { ...record, state: 'leaving' }, host)
  await gc()
  for (const record of stale) {
    // An ADD that came after the list was made has another one.
    if (readRecord(folder, record)?.id === record.id) removeRecord(folder, record)
  }
}

/** Alone with an attachment; the lock's file goes with the lock. Throws CniError 11 after 50 seconds. */
export async function lockRecord(folder: string, key: RecordKey): Promise<Disposable> {
  const path = recordLock(folder, key)
  let lock: FileLock
  try {
    lock = await lockFile(path, { timeoutMs: LOCK_MS })
  } catch (error) {
    if (error instanceof LockError)
      throw tryAgain(`another program works on ${key.ifname} of container ${key.containerId}`, messageOf(error))
    if (!hasCode(error, 'ENOENT'))
      throw ioFailure(`the attachment cannot be locked with ${path}`, messageOf(error), { cause: error })
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    lock = await lockFile(path, { timeoutMs: LOCK_MS })
  }
  return {
    [Symbol.dispose]: () => {
      // Removed while held: whoever waits finds that its file has no name any more, and makes a new one.
      removeFile(path)
      lock[Symbol.dispose]()
    },
  }
}

function recordOf(key: RecordKey, { netns, config, args, path }: PluginInput): AttachmentRecord {
  const { prevResult: _, ...raw } = config.raw
  const netnsId = identityOf(netns)
  const cookie = netnsId === undefined ? undefined : cookieOf(netns)
  const isProc = netns.startsWith('/proc/')
  const pidns = isProc ? identityOf(ownPidns) : undefined
  const folderId = isProc || netns === '' ? undefined : identityOf(dirname(netns))
  return {
    version: 1,
    id: randomUUID(),
    state: 'ready',
    ...key,
    netns,
    ...(netnsId === undefined ? {} : { netnsId }),
    ...(cookie === undefined ? {} : { cookie }),
    ...(folderId === undefined ? {} : { folderId }),
    ...(pidns === undefined ? {} : { pidns }),
    boot: bootId(),
    since: Date.now(),
    config: raw,
    args: [...args],
    path: [...path],
    rules: [],
  }
}

/** A path that leads to something else is the plugin's to refuse. */
function cookieOf(path: string): string | undefined {
  try {
    return netnsCookie(path)
  } catch {
    return undefined
  }
}

function identityOf(path: string): string | undefined {
  try {
    return netnsIdentity(path)
  } catch {
    return undefined
  }
}

/** The lock has made the folder. One that cannot be read may be in the way. */
function create(folder: string, record: AttachmentRecord): void {
  try {
    if (!createRecord(folder, record)) writeRecord(folder, record)
  } catch (error) {
    throw unwritten(folder, error)
  }
}

const unwritten = (folder: string, error: unknown): Error =>
  ioFailure(`the record of the attachment cannot be written to ${folder}`, messageOf(error), { cause: error })

function write(folder: string, record: AttachmentRecord): void {
  try {
    writeRecord(folder, record)
  } catch (error) {
    throw unwritten(folder, error)
  }
}

/** On the way out, where nothing may stop for a full disk. */
function writeQuietly(folder: string, record: AttachmentRecord, host: PluginHost): void {
  try {
    writeRecord(folder, record)
  } catch (error) {
    host.log('warn', `the record of an attachment cannot be written to ${folder}: ${messageOf(error)}`)
  }
}
