/**
 * A journal: one JSON value per line, each with its checksum, on disk before it counts.
 *
 *     5f1b0c3a {"add":"10.244.1.5","by":"…"}
 *
 * A crash can tear the last line only; it is cut off when the journal is opened, for nobody was told that it was written.
 * A bad line before the last means a damaged disk or a foreign hand: that is an error, never a silent loss.
 */

import { open, readFile, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { syncDirectory, writeFileAtomic } from './atomic-file.ts'
import { hasCode } from './errno.ts'

export class JournalError extends Error {
  override readonly name = 'JournalError'
  readonly code: 'corrupt' | 'closed' | 'broken'
  readonly path: string

  constructor(code: JournalError['code'], path: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.path = path
  }
}

/** What a journal's text holds: the records, and how many bytes of it are sound. */
export interface JournalText {
  readonly records: readonly unknown[]
  readonly sound: number
  /** Number of the first bad line that is not the torn last one. */
  readonly corruptLine: number | undefined
}

/** One record as a line. */
export function journalLine(record: unknown): string {
  const json = JSON.stringify(record)
  if (json === undefined) throw new TypeError('a journal record must be a JSON value')
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`
}

/** Reads a journal's bytes. Pure. */
export function readJournal(bytes: Uint8Array): JournalText {
  const records: unknown[] = []
  let start = 0
  while (start < bytes.length) {
    const newline = bytes.indexOf(0x0a, start)
    const record = newline < 0 ? undefined : readLine(bytes.subarray(start, newline))
    if (record === undefined) {
      // Torn, if it is the last: no newline, or a line that nothing follows.
      const last = newline < 0 || newline + 1 === bytes.length
      return { records, sound: start, corruptLine: last ? undefined : records.length + 1 }
    }
    records.push(record.value)
    start = newline + 1
  }
  return { records, sound: start, corruptLine: undefined }
}

function readLine(line: Uint8Array): { value: unknown } | undefined {
  const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString('utf8')
  const json = text.slice(9)
  if (!/^[0-9a-f]{8} /.test(text) || Number.parseInt(text.slice(0, 8), 16) !== crc32(json)) return undefined
  try {
    return { value: JSON.parse(json) }
  } catch {
    return undefined
  }
}

interface Waiting {
  readonly line: string
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** An open journal. The file belongs to one process: its owner takes a lock (`lockFile`) before opening it. */
export class Journal implements AsyncDisposable {
  readonly path: string
  readonly #mode: number
  #file: FileHandle
  #waiting: Waiting[] = []
  #busy: Promise<void> = Promise.resolve()
  #draining = false
  #failure: JournalError | undefined

  private constructor(path: string, file: FileHandle, mode: number) {
    this.path = path
    this.#file = file
    this.#mode = mode
  }

  /** Opens or makes a journal and reads what it holds. Throws `JournalError` corrupt. */
  static async open(path: string, mode = 0o600): Promise<{ journal: Journal; records: readonly unknown[] }> {
    const bytes = await readOrEmpty(path)
    const { records, sound, corruptLine } = readJournal(bytes)
    if (corruptLine !== undefined) {
      throw new JournalError(
        'corrupt',
        path,
        `line ${corruptLine} of ${path} is damaged: restore the file, or remove it to start anew`,
      )
    }
    const file = await open(path, 'a', mode)
    if (sound < bytes.length) await file.truncate(sound)
    await file.sync()
    await syncDirectory(dirname(path))
    return { journal: new Journal(path, file, mode), records }
  }

  /**
   * Writes a record; resolves when it is on disk. Records that come while the disk works are written and synced
   * together. After a failed write the journal refuses further ones, because what the disk holds is then unknown.
   */
  append(record: unknown): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ line: journalLine(record), resolve, reject })
    if (!this.#draining) {
      this.#draining = true
      this.#busy = this.#busy.then(() => this.#drain())
    }
    return promise
  }

  /**
   * Replaces the whole journal by these records: a snapshot of what it means. Records appended meanwhile follow it, and the
   * snapshot may hold them already: reading a record twice must do no harm. When it fails the old journal goes on.
   */
  compact(snapshot: () => readonly unknown[]): Promise<void> {
    const work = this.#compactAfter(this.#busy, snapshot)
    this.#busy = work.catch(() => undefined)
    return work
  }

  async #compactAfter(busy: Promise<void>, snapshot: () => readonly unknown[]): Promise<void> {
    await busy
    if (this.#failure !== undefined) throw this.#failure
    try {
      await writeFileAtomic(this.path, snapshot().map(journalLine).join(''), { mode: this.#mode })
    } finally {
      // Even after an error: the name may already be that of the new file.
      await this.#reopen()
    }
  }

  async #reopen(): Promise<void> {
    const old = this.#file
    try {
      this.#file = await open(this.path, 'a', this.#mode)
    } catch (cause) {
      throw this.#fail(cause)
    }
    await old.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#busy
    if (this.#failure?.code !== 'closed') await this.#file.close()
    this.#failure = new JournalError('closed', this.path, `journal ${this.path} is closed`)
  }

  async #drain(): Promise<void> {
    try {
      while (this.#waiting.length > 0 && this.#failure === undefined) {
        const group = this.#waiting
        this.#waiting = []
        try {
          await this.#file.appendFile(group.map((waiting) => waiting.line).join(''))
          await this.#file.datasync()
          for (const waiting of group) waiting.resolve()
        } catch (cause) {
          const failure = this.#fail(cause)
          for (const waiting of group) waiting.reject(failure)
        }
      }
    } finally {
      this.#draining = false
    }
  }

  #fail(cause: unknown): JournalError {
    this.#failure ??= new JournalError(
      'broken',
      this.path,
      `journal ${this.path} cannot be written: ${String(cause)}`,
      { cause },
    )
    for (const waiting of this.#waiting) waiting.reject(this.#failure)
    this.#waiting = []
    return this.#failure
  }
}

async function readOrEmpty(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return new Uint8Array()
    throw error
  }
}
