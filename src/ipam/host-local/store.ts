/**
 * The address files of one network, in the reference plugin's format and under its lock, so that both can work on one directory.
 *
 * The lock is held for one synchronous stretch, so calls inside a process never wait for each other, and a process that dies at any point leaves either
 * no file or a complete one: content is written under a temporary name and then linked to the address (`link` fails where a name exists, like O_EXCL).
 * An address is answered only when content and name are on disk; one that the machine lost before may be left torn, and has no owner. The index of owners is kept between calls; the directory's modification time tells whether another process changed it.
 */

import { randomInt } from 'node:crypto'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { formatIp, tryParseIp } from '#ip/address.ts'

import { tryLockFile } from '#sys/flock.ts'
import { AddressBook, TEMPORARY } from './book.ts'
import { bootNote, earlierAddresses, noteBoot, type Boot, type Living } from './boot.ts'
import { AddressIndex, ownerOf, type Entry, type Owner } from './index.ts'

const LOCK_DEADLINE_MS = 10_000
/** Longer than any container ID with an interface name; the rest of a strange file is not read. */
const MAX_CONTENT = 4096

interface Released {
  readonly owners: readonly Owner[]
  readonly count: number
}

/** A fingerprint of the directory: any creation, removal or renaming in it changes the modification time. */
interface Seen {
  readonly inode: bigint
  readonly modified: bigint
}

export class AddressStore {
  readonly directory: string
  readonly #boot: Boot | undefined
  #index = new AddressIndex()
  #seen: Seen | undefined
  /** The directory, by its inode, that is known to hold nothing of an earlier boot. */
  #current: bigint | undefined

  /** Without `boot` nothing is known of reboots. */
  constructor(directory: string, boot?: Boot) {
    this.directory = directory
    this.#boot = boot
  }

  /**
   * Runs `work` under the lock; creates the directory. `unlocked` gets the result as soon as the lock is free again, before anything else of this process runs.
   * Throws CniError 11 when another process holds the lock too long.
   */
  async locked<T>(work: (book: AddressBook) => T, unlocked?: (value: T) => void): Promise<T> {
    const run = await this.#attempt(work, true, unlocked)
    if (run === undefined) throw ioFailure(`${this.directory} vanished while it was being locked`)
    return run.value
  }

  /** Like `locked`, but does nothing where the directory does not exist. */
  async lockedIfExists<T>(work: (book: AddressBook) => T): Promise<T | undefined> {
    return (await this.#attempt(work, false))?.value
  }

  async #attempt<T>(
    work: (book: AddressBook) => T,
    create: boolean,
    unlocked?: (value: T) => void,
  ): Promise<{ value: T } | undefined> {
    const deadline = performance.now() + LOCK_DEADLINE_MS
    let living: Living | undefined
    for (let wait = 1; ; wait = Math.min(wait * 2, 20)) {
      if (!this.#prepare(create)) return undefined
      const run = this.#tryLocked(work, create, living)
      if (run === 'rebooted') {
        living = await this.#boot?.living()
        continue
      }
      if (run !== undefined) {
        unlocked?.(run.value)
        if (run.released !== undefined) await this.#boot?.released(run.released.owners, run.released.count)
        return run
      }
      if (performance.now() > deadline) {
        throw tryAgain(`${this.directory}/lock has been held by another process for ${LOCK_DEADLINE_MS} ms`)
      }
      await sleep(wait + randomInt(3))
    }
  }

  /** Undefined while another process holds the lock; `rebooted` when it must be known first who lives. */
  #tryLocked<T>(
    work: (book: AddressBook) => T,
    create: boolean,
    living: Living | undefined,
  ): { readonly value: T; readonly released?: Released } | 'rebooted' | undefined {
    using lock = tryLockFile(join(this.directory, 'lock'))
    if (lock === undefined) return undefined
    this.#refresh()
    const index = (): AddressIndex => this.#index
    const reread = (): void => this.#refresh(true)
    const book = new AddressBook(this.directory, index, reread)
    try {
      const released = this.#leaveBoot(book, create, living)
      if (released === 'rebooted') return released
      return { value: work(book), ...(released === undefined ? {} : { released }) }
    } finally {
      this.#stamp()
    }
  }

  /** Before anything else under the lock: what an earlier boot left goes, then it is noted which boot this is. */
  #leaveBoot(book: AddressBook, create: boolean, living: Living | undefined): Released | 'rebooted' | undefined {
    const boot = this.#boot
    if (boot === undefined || this.#current === this.#seen?.inode) return undefined
    const note = bootNote(this.directory, boot.id)
    if (note === 'other' && living === undefined) return 'rebooted'
    const earlier =
      note === 'other' && living !== undefined
        ? earlierAddresses(book.index.entries(), living, (file) => modifiedAt(join(this.directory, file)))
        : []
    const owners = earlier.flatMap((ip) => {
      const state = book.index.get(ip)?.state
      return typeof state === 'object' ? [state] : []
    })
    book.release(earlier)
    if (note === 'other' || (note === 'none' && create)) noteBoot(this.directory, boot.id)
    if (note !== 'none' || create) this.#current = this.#seen?.inode
    return earlier.length === 0 ? undefined : { owners, count: earlier.length }
  }

  #prepare(create: boolean): boolean {
    if (fs.existsSync(this.directory)) return true
    if (!create) return false
    try {
      fs.mkdirSync(this.directory, { recursive: true, mode: 0o755 })
      return true
    } catch (error) {
      throw ioFailure(`${this.directory} cannot be created`, messageOf(error), { cause: error })
    }
  }

  /** Reads the directory again if anybody else changed it since. Called under the lock. */
  #refresh(force = false): void {
    const now = fingerprint(this.directory)
    if (!force && this.#seen?.inode === now.inode && this.#seen.modified === now.modified) return
    this.#index = readIndex(this.directory)
    this.#seen = now
  }

  /**
   * Sets the directory's time to one in the past before the lock is released. The kernel's clock is coarse (a tick): without this, a change that
   * another process makes in the same tick would look like ours. Every later change gives a later time.
   */
  #stamp(): void {
    const before = this.#seen
    const now = fingerprint(this.directory)
    if (before?.inode === now.inode && before.modified === now.modified) return
    const past = Date.now() / 1000 - 1 - randomInt(1_000_000) / 1e6
    fs.utimesSync(this.directory, past, past)
    this.#seen = fingerprint(this.directory)
  }
}

function fingerprint(directory: string): Seen {
  const { ino, mtimeNs } = fs.statSync(directory, { bigint: true })
  return { inode: ino, modified: mtimeNs }
}

/** Milliseconds since 1970; a file that is gone is not of an earlier boot. */
const modifiedAt = (path: string): number => fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity

function readIndex(directory: string): AddressIndex {
  const index = new AddressIndex()
  for (const file of fs.readdirSync(directory, { withFileTypes: true })) {
    // Under the lock nobody is between writing and linking, so a temporary file is what a crash left.
    if (file.name.startsWith(TEMPORARY)) fs.rmSync(join(directory, file.name), { force: true })
    const ip = tryParseIp(file.name)
    if (ip === undefined) continue
    index.set(formatIp(ip), file.name, file.isFile() ? readOwner(join(directory, file.name)) : 'foreign')
  }
  return index
}

const buffer = Buffer.alloc(MAX_CONTENT)

function readOwner(path: string): Entry['state'] {
  let fd: number
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK)
  } catch {
    return 'foreign'
  }
  try {
    return ownerOf(buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, MAX_CONTENT, 0)))
  } finally {
    fs.closeSync(fd)
  }
}
