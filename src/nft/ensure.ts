/**
 * Keeping a table as wanted: cheap when it is, one transaction when it is not.
 *
 * What was written last is noted in the kernel itself, in a set of the table (stamp.ts): the hash of the text and the fingerprint of what the kernel made of it.
 * So a restarted agent, or a plugin that lives for one call, knows without rewriting whether the table is its own work and untouched. A new structure
 * empties the note in the same transaction; the note comes back once the result was read.
 */

import type { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { SIOCGSKNS } from '#sys/constants.ts'
import { check, ERRNO } from '#sys/errno.ts'
import { applyText } from './apply.ts'
import { NftError } from './error.ts'
import { fingerprint } from './fingerprint.ts'
import { type KernelStructure, readStructure } from './list.ts'
import { digestOf, readStamp, STAMP_SET, stamped, writeStamp } from './stamp.ts'
import type { Table, TableRef } from './table.ts'
import { renderTable } from './text.ts'
import { commit, generation, nextGeneration, onlyElements } from './transaction.ts'
import { familyNumber, NFT_MSG, nftMessage, writeText } from './wire.ts'

export interface EnsureOptions {
  /** Deadline of the program nft, in milliseconds; default 10 s. */
  readonly timeoutMs?: number | undefined
}

export interface EnsureResult {
  readonly changed: boolean
  /** Why it was written: no such table; another text than this one, or none of ours, was there; others changed what we had written. */
  readonly cause?: 'missing' | 'outdated' | 'drift'
}

/** Writing is tried again while others disturb it, so often. */
const ATTEMPTS = 5

interface Known {
  readonly digest: string
  readonly generation: number
}

/** Last verified state by socket and table: while the generation stands, nothing has changed. */
const verified = new WeakMap<NetlinkSocket, Map<string, Known>>()
const running = new WeakMap<NetlinkSocket, Map<string, Promise<void>>>()

function mapOf<T>(maps: WeakMap<NetlinkSocket, Map<string, T>>, socket: NetlinkSocket): Map<string, T> {
  const map = maps.get(socket) ?? new Map<string, T>()
  maps.set(socket, map)
  return map
}

const keyOfTable = ({ family, name }: TableRef): string => `${family} ${name}`

/**
 * Makes the kernel's table have exactly the model's structure; elements stay where declarations did. One netlink request when nothing in the
 * namespace changed since the last call but elements by this socket, a handful when only other things did, one run of nft when the table is not as wanted.
 * The namespace is the socket's. Calls for one table run one after the other.
 * Throws `NftError`: `refused`, `no-nft`, `timeout`, `kernel`, or `contended` when others change the table faster than it can be written.
 */
export function ensureTable(socket: NetlinkSocket, table: Table, options: EnsureOptions = {}): Promise<EnsureResult> {
  const key = keyOfTable(table)
  const queues = mapOf(running, socket)
  const run = (queues.get(key) ?? Promise.resolve()).then(() => ensureNow(socket, table, options))
  const ended = run.then(ignore, ignore).finally(() => {
    if (queues.get(key) === ended) queues.delete(key)
  })
  queues.set(key, ended)
  return run
}

const ignore = (): void => undefined

/** The generation at which `ensureTable` last saw the table as wanted on this socket: what `changeElements` would ask the kernel for otherwise. */
export const seenGeneration = (socket: NetlinkSocket, table: TableRef): number | undefined =>
  mapOf(verified, socket).get(keyOfTable(table))?.generation

/** Whether the kernel's table is what `ensureTable` wrote for this model, untouched since. Reads, never writes. */
export function isAsWanted(socket: NetlinkSocket, table: Table): boolean {
  const structure = readStructure(socket, table)
  const stamp = structure === undefined ? undefined : readStamp(socket, table, structure)
  return structure !== undefined && stamp?.text === digestOf(table) && stamp.kernel === fingerprint(structure)
}

async function ensureNow(socket: NetlinkSocket, table: Table, options: EnsureOptions): Promise<EnsureResult> {
  const digest = digestOf(table)
  const known = mapOf(verified, socket).get(keyOfTable(table))
  if (known !== undefined && known.digest === digest) {
    const now = generation(socket)
    if (known.generation === now || onlyElements(socket, known.generation, now)) {
      mapOf(verified, socket).set(keyOfTable(table), { digest, generation: now })
      return { changed: false }
    }
  }
  const structure = readStructure(socket, table)
  const stamp = structure === undefined ? undefined : readStamp(socket, table, structure)
  if (structure !== undefined && stamp?.text === digest && stamp.kernel === fingerprint(structure)) {
    mapOf(verified, socket).set(keyOfTable(table), { digest, generation: structure.generation })
    return { changed: false }
  }
  const written = await write(socket, table, digest, options)
  mapOf(verified, socket).set(keyOfTable(table), { digest, generation: written })
  return { changed: true, cause: structure === undefined ? 'missing' : stamp?.text === digest ? 'drift' : 'outdated' }
}

/** Returns the generation at which the table was seen to be as wanted. */
async function write(socket: NetlinkSocket, table: Table, digest: string, options: EnsureOptions): Promise<number> {
  let last: string | undefined
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const before = generation(socket)
    const existing = readStructure(socket, table)
    try {
      await applyHere(socket, render(table, existing), options)
    } catch (error) {
      // Refused because others changed the table between reading and writing, or for good?
      const disturbed = error instanceof NftError && error.code === 'refused' && generation(socket) !== before
      if (!disturbed || attempt === ATTEMPTS) throw error
      continue
    }
    const after = readStructure(socket, table)
    if (after === undefined) continue
    const kernel = fingerprint(after)
    // Nobody else committed meanwhile, or two writings came out the same: then what was read is what was written.
    if (after.generation === nextGeneration(before) || kernel === last) {
      const noted = writeStamp(socket, table, after, { text: digest, kernel })
      if (noted !== undefined) return noted
    }
    last = kernel
  }
  throw new NftError(
    'contended',
    `table ${keyOfTable(table)} was written ${ATTEMPTS} times, and each time others changed the ruleset before it could be verified`,
  )
}

/** The transaction, which also empties the note. */
const render = (table: Table, existing: KernelStructure | undefined): string =>
  `${renderTable(stamped(table), existing)}flush set ${keyOfTable(table)} ${STAMP_SET.name}\n`

/** Applies text in the socket's own namespace. */
async function applyHere(socket: NetlinkSocket, text: string, options: EnsureOptions): Promise<void> {
  const sys = nativeSys()
  const netns = check(sys.ioctl(socket.fd, SIOCGSKNS), 'ioctl SIOCGSKNS')
  try {
    await applyText(text, { netns, timeoutMs: options.timeoutMs })
  } finally {
    sys.close(netns)
  }
}

/** Removes a table with everything in it. Like `nft delete table`, by netlink. False when there was none. */
export function deleteTable(socket: NetlinkSocket, table: TableRef): boolean {
  const message = nftMessage(
    () => `delete table ${keyOfTable(table)}`,
    NFT_MSG.delTable,
    familyNumber[table.family],
    (writer) => writeText(writer, 1, table.name),
  )
  try {
    commit(socket, [message])
    return true
  } catch (error) {
    if (error instanceof NftError && error.errno === ERRNO.ENOENT) return false
    throw error
  }
}
