/** Address files that have been made and are not on disk yet. */

import * as fs from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { hasCode } from '#sys/errno.ts'

const fdatasync = promisify(fs.fdatasync)
const fsync = promisify(fs.fsync)

const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, COPYFILE_EXCL } = fs.constants

/**
 * Made under the lock, synced without it: the address is taken as soon as its file has its name, and others need not wait for the disk. Content and name go to
 * disk together, which is one commit of the file system's journal where syncing the one before making the other would be two.
 */
export class Reservation implements Disposable {
  readonly #directory: string
  readonly #open: number[] = []
  #synced: Promise<void> | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  /** A file that is whole before any address leads to it. */
  write(path: string, content: string): void {
    const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
    this.#open.push(fd)
    fs.writeSync(fd, content)
  }

  /** Gives the file a name; false where that exists. Each address gets its own inode on file systems without hard links, by O_EXCL. */
  link(from: string, name: string): boolean {
    const to = join(this.#directory, name)
    try {
      fs.linkSync(from, to)
      return true
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return false
      if (!hasCode(error, 'EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EMLINK')) throw error
    }
    try {
      fs.copyFileSync(from, to, COPYFILE_EXCL)
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return false
      throw error
    }
    this.#open.push(fs.openSync(to, O_WRONLY | O_NOFOLLOW))
    return true
  }

  /** Starts to bring content and names to disk, on the thread pool: a sync takes milliseconds, and the kernel merges those that run at once. */
  begin(): void {
    const synced = this.#sync()
    // Whoever awaits it hears of the error, also when that is later.
    synced.catch(() => undefined)
    this.#synced = synced
  }

  /** Content and names are on disk. Await it before disposing. */
  get synced(): Promise<void> {
    return (this.#synced ??= this.#sync())
  }

  async #sync(): Promise<void> {
    const directory = fs.openSync(this.#directory, 'r')
    try {
      const outcomes = await Promise.allSettled([...this.#open.map((fd) => fdatasync(fd)), fsync(directory)])
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    } finally {
      fs.closeSync(directory)
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.splice(0)) fs.closeSync(fd)
  }
}
