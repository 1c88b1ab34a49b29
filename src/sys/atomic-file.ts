/** Files that are either the old content or the new, whole and on disk, whenever the machine stops. */

import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

export interface WriteOptions {
  /** Permission bits; 0644 unless given. Not subject to the umask. */
  readonly mode?: number
}

const temporary = (path: string): string => `${path}.${randomUUID().slice(0, 8)}.tmp`

/** Writes beside, syncs, renames, syncs the directory. On an error nothing is left and `path` is as before. */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: WriteOptions = {},
): Promise<void> {
  const fresh = temporary(path)
  try {
    await using file = await open(fresh, 'wx', options.mode ?? 0o644)
    await file.chmod(options.mode ?? 0o644)
    await file.writeFile(data)
    await file.sync()
    await rename(fresh, path)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
  await syncDirectory(dirname(path))
}

/** Like `writeFileAtomic`, for programs that live shortly. */
export function writeFileAtomicSync(path: string, data: string | Uint8Array, options: WriteOptions = {}): void {
  const fresh = temporary(path)
  try {
    writeFileSync(fresh, data, { flag: 'wx', mode: options.mode ?? 0o644, flush: true })
    renameSync(fresh, path)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
  const directory = openSync(dirname(path), 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

/** Makes names in a directory (a new file, a rename, a removal) last. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory: FileHandle = await open(path, 'r')
  await directory.sync()
}
