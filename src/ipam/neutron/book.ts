/** The journal of a node's addresses, and what it means by now. One process has it at a time. */

import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { CniError, ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { bootId } from '#sys/bootid.ts'
import type { Clock } from '#sys/clock.ts'
import { lockFile, LockError, tryLockFile, type FileLock } from '#sys/flock.ts'
import { Journal } from '#sys/journal.ts'
import type { NeutronConf } from './config.ts'
import { replay, type Pool } from './pool.ts'
import { parseRecord, type PoolRecord } from './record.ts'

/** Records beyond what they mean before the journal is written anew. */
const SLACK = 512

export const journalOf = (stateDir: string): string => join(stateDir, 'pool.journal')

export interface BookOptions {
  readonly conf: Pick<NeutronConf, 'stateDir' | 'lockFile' | 'pool'>
  readonly clock: Clock
  /** Milliseconds to wait for the locks; 0: not at all. */
  readonly waitMs: number
  readonly boot?: string
}

export class Book implements AsyncDisposable {
  readonly path: string
  readonly pool: Pool
  readonly boot: string
  readonly #locks: readonly FileLock[]
  #journal: Journal
  #lines: number
  #isBroken = false

  private constructor(
    path: string,
    boot: string,
    locks: readonly FileLock[],
    journal: Journal,
    pool: Pool,
    lines: number,
  ) {
    this.path = path
    this.boot = boot
    this.#locks = locks
    this.#journal = journal
    this.pool = pool
    this.#lines = lines
  }

  /**
   * Takes the lock of the port and the journal's own, and reads the journal. What pods of an earlier boot held is free again. Throws CniError 11 where another process has
   * it, 5 where it cannot be read.
   */
  static async open(options: BookOptions): Promise<Book> {
    const { conf, clock, waitMs, boot = bootId() } = options
    const path = journalOf(conf.stateDir)
    const locks: FileLock[] = []
    try {
      mkdirSync(conf.stateDir, { recursive: true, mode: 0o700 })
      mkdirSync(dirname(conf.lockFile), { recursive: true, mode: 0o755 })
      for (const file of [conf.lockFile, `${path}.lock`]) locks.push(await locked(file, waitMs))
      const { journal, records } = await Journal.open(path)
      const known = records.flatMap((record) => parseRecord(record) ?? [])
      const pool = replay(known)
      const book = new Book(path, boot, locks, journal, pool, records.length)
      if (pool.writer === '') await book.write({ is: 'writer', writer: crypto.randomUUID().slice(0, 13) })
      await book.#settleTimes(conf.pool, clock.wall())
      return book
    } catch (error) {
      for (const lock of locks) lock[Symbol.dispose]()
      if (error instanceof CniError) throw error
      throw ioFailure(`${path} cannot be opened`, messageOf(error), { cause: error })
    }
  }

  /** Frees what an earlier boot's pods held; brings times that a clock which jumped left in the future back to now. */
  async #settleTimes({ cooldownMs, settleMs }: NeutronConf['pool'], now: number): Promise<void> {
    const { pool } = this
    const stale = [...pool.addresses.values()].filter(({ owner }) => owner !== undefined && owner.boot !== this.boot)
    if (stale.length > 0) await this.write({ is: 'free', ips: stale.map(({ ip }) => ip), at: now, readyAt: now })
    const latest = now + Math.max(cooldownMs, settleMs)
    for (const address of pool.addresses.values())
      if (address.readyAt > latest || address.since > now)
        pool.addresses.set(address.ip, {
          ...address,
          readyAt: Math.min(address.readyAt, latest),
          since: Math.min(address.since, now),
        })
  }

  /** True while changes do not reach the disk. */
  get isBroken(): boolean {
    return this.#isBroken
  }

  /** What it says counts at once, and is on disk when this resolves. Throws CniError 5: then it is written with the next one that can be. */
  async write(...records: readonly PoolRecord[]): Promise<void> {
    for (const record of records) this.pool.apply(record)
    try {
      if (this.#isBroken) await this.#reopen()
      else {
        await Promise.all(records.map((record) => this.#journal.append(record)))
        this.#lines += records.length
        if (this.#lines > 2 * this.pool.addresses.size + SLACK) await this.#compact()
      }
    } catch (error) {
      this.#isBroken = true
      throw ioFailure(`${this.path} cannot be written`, `${messageOf(error)}: is the disk full?`, { cause: error })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#journal[Symbol.asyncDispose]().catch(() => undefined)
    for (const lock of this.#locks) lock[Symbol.dispose]()
  }

  /** A journal that failed takes nothing more: another one, with all that is to be remembered. */
  async #reopen(): Promise<void> {
    await this.#journal[Symbol.asyncDispose]().catch(() => undefined)
    this.#journal = (await Journal.open(this.path)).journal
    await this.#compact()
    this.#isBroken = false
  }

  async #compact(): Promise<void> {
    this.#lines = this.pool.addresses.size
    await this.#journal.compact(() => this.pool.snapshot())
  }
}

async function locked(path: string, waitMs: number): Promise<FileLock> {
  const busy = (): CniError =>
    tryAgain(
      `another program keeps the port: ${path} is locked`,
      `see which with "lsof ${path}"; only one may write the port's addresses`,
    )
  if (waitMs === 0) {
    const lock = tryLockFile(path)
    if (lock === undefined) throw busy()
    return lock
  }
  try {
    return await lockFile(path, { timeoutMs: waitMs })
  } catch (error) {
    if (error instanceof LockError) throw busy()
    throw error
  }
}
