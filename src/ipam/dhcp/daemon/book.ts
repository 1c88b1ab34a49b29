/** All attachments that have, or may have, a lease: a journal beside the daemon's socket, on disk before a plugin is answered. One process has it at a time. */

import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import * as v from 'valibot'

import { ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { bootId } from '#sys/bootid.ts'
import { tryLockFile, type FileLock } from '#sys/flock.ts'
import { Journal } from '#sys/journal.ts'
import { parseRecord, type LeaseRecord } from './record.ts'

/** `/run/cni/dhcp.sock` → `/run/cni/dhcp.leases`. */
export const bookPathOf = (socketPath: string): string => `${socketPath.replace(/\.sock$/, '')}.leases`

const entrySchema = v.union([v.object({ put: v.unknown() }), v.object({ drop: v.string() })])
/** Entries beyond what they mean before the journal is written anew. */
const SLACK = 256

export class LeaseBook implements AsyncDisposable {
  readonly path: string
  readonly boot: string
  readonly #lock: FileLock
  readonly #records: Map<string, LeaseRecord>
  #journal: Journal
  #lines: number
  #isBroken = false

  private constructor(
    path: string,
    boot: string,
    lock: FileLock,
    journal: Journal,
    records: Map<string, LeaseRecord>,
    lines: number,
  ) {
    this.path = path
    this.boot = boot
    this.#lock = lock
    this.#journal = journal
    this.#records = records
    this.#lines = lines
  }

  /** Throws CniError 11 where another process has it, 5 where it cannot be read. Records of an earlier boot are dropped. */
  static async open(path: string): Promise<LeaseBook> {
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
      const lock = tryLockFile(`${path}.lock`)
      if (lock === undefined)
        throw tryAgain(`another DHCP daemon has ${path}`, 'stop it, or give this one another socket')
      try {
        const { journal, records: entries } = await Journal.open(path)
        const boot = bootId()
        const records = replay(entries, boot)
        return new LeaseBook(path, boot, lock, journal, records, entries.length)
      } catch (error) {
        lock[Symbol.dispose]()
        throw error
      }
    } catch (error) {
      if (error instanceof Error && error.name === 'CniError') throw error
      throw ioFailure(`${path} cannot be opened`, messageOf(error), { cause: error })
    }
  }

  get records(): ReadonlyMap<string, LeaseRecord> {
    return this.#records
  }

  /** True while changes do not reach the disk. */
  get isBroken(): boolean {
    return this.#isBroken
  }

  /** Throws CniError 5 when it cannot be written; the record is kept in memory and written with the next one that can be. */
  async put(record: LeaseRecord): Promise<void> {
    this.#records.set(record.key, record)
    await this.#write({ put: record })
  }

  async drop(key: string): Promise<void> {
    if (!this.#records.delete(key)) return
    await this.#write({ drop: key })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#journal[Symbol.asyncDispose]()
    this.#lock[Symbol.dispose]()
  }

  async #write(entry: object): Promise<void> {
    try {
      if (this.#isBroken) await this.#reopen()
      else {
        await this.#journal.append(entry)
        this.#lines++
        if (this.#lines > 2 * this.#records.size + SLACK) await this.#compact()
      }
    } catch (error) {
      this.#isBroken = true
      throw ioFailure(`${this.path} cannot be written`, messageOf(error), { cause: error })
    }
  }

  /** A journal that failed takes nothing more: another one, with all that is to be remembered. */
  async #reopen(): Promise<void> {
    await this.#journal[Symbol.asyncDispose]().catch(() => undefined)
    this.#journal = (await Journal.open(this.path)).journal
    await this.#compact()
    this.#isBroken = false
  }

  async #compact(): Promise<void> {
    await this.#journal.compact(() => Array.from(this.#records.values(), (put) => ({ put })))
    this.#lines = this.#records.size
  }
}

function replay(entries: readonly unknown[], boot: string): Map<string, LeaseRecord> {
  const records = new Map<string, LeaseRecord>()
  for (const entry of entries) {
    const parsed = v.safeParse(entrySchema, entry)
    if (!parsed.success) continue
    if ('drop' in parsed.output) {
      records.delete(parsed.output.drop)
      continue
    }
    const record = parseRecord(parsed.output.put)
    if (record !== undefined && record.boot === boot) records.set(record.key, record)
  }
  return records
}
