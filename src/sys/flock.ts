/**
 * Locks on files between programs, by flock(2): the same lock that Go's host-local and others take on the same file.
 *
 * Every handle is an open file of its own, so two holders in one process exclude each other as two processes do.
 */

import { constants, fstatSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { nativeSys } from './addon.ts'
import { systemClock } from './clock.ts'
import { LOCK } from './constants.ts'
import { check, ERRNO, hasCode } from './errno.ts'
import type { Sys } from './sys.ts'

export class LockError extends Error {
  override readonly name = 'LockError'
  readonly code: 'timeout'
  readonly path: string

  constructor(path: string, timeoutMs: number) {
    super(`${path} is locked by another program for more than ${timeoutMs} ms: see who holds it with "lsof ${path}"`)
    this.code = 'timeout'
    this.path = path
  }
}

/** A held lock. Disposing it releases it; the file stays. */
export class FileLock implements Disposable {
  readonly path: string
  readonly #sys: Sys
  #fd: number

  constructor(path: string, fd: number, sys: Sys) {
    this.path = path
    this.#fd = fd
    this.#sys = sys
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return
    // Explicitly, not by close alone: a child that inherited the open file would keep the lock.
    this.#sys.flock(this.#fd, LOCK.UN)
    this.#sys.close(this.#fd)
    this.#fd = -1
  }
}

export interface LockOptions {
  readonly timeoutMs: number
  readonly sys?: Sys
}

/** Per file, the turn of the last who asked in this process: they wait here, first come first served, and not on pool threads. */
const turns = new Map<string, Promise<void>>()

/** Waits for an exclusive lock on a file (made if missing, 0644), a directory or a namespace. Throws `LockError` when time is up. */
export async function lockFile(path: string, options: LockOptions): Promise<FileLock> {
  const key = resolve(path)
  const deadline = systemClock.now() + options.timeoutMs
  const before = turns.get(key)
  const { promise: done, resolve: finish } = Promise.withResolvers<void>()
  const turn = (before ?? Promise.resolve()).then(() => done)
  turns.set(key, turn)
  try {
    if (before !== undefined && !(await settledBy(before, deadline))) throw new LockError(path, options.timeoutMs)
    return await acquire(path, deadline, options.timeoutMs, options.sys ?? nativeSys())
  } finally {
    finish()
    void turn.then(() => turns.get(key) === turn && turns.delete(key))
  }
}

/** The lock if it is free, else undefined. Never waits. */
export function tryLockFile(path: string, sys: Sys = nativeSys()): FileLock | undefined {
  for (;;) {
    const fd = openForLock(path, sys)
    const rc = sys.flock(fd, LOCK.EX | LOCK.NB)
    if (rc < 0) sys.close(fd)
    if (rc === -ERRNO.EAGAIN) return undefined
    check(rc, 'flock', path)
    if (isStill(path, fd)) return new FileLock(path, fd, sys)
    sys.close(fd)
  }
}

/** Runs `fn` while holding the lock. */
export async function withFileLock<T>(path: string, fn: () => T | Promise<T>, options: LockOptions): Promise<T> {
  using _lock = await lockFile(path, options)
  return await fn()
}

async function acquire(path: string, deadline: number, timeoutMs: number, sys: Sys): Promise<FileLock> {
  for (;;) {
    const fd = openForLock(path, sys)
    let rc = sys.flock(fd, LOCK.EX | LOCK.NB)
    if (rc === -ERRNO.EAGAIN) {
      rc = await sys.flockWait(fd, LOCK.EX, Math.max(0, Math.ceil(deadline - systemClock.now())))
    }
    if (rc < 0) sys.close(fd)
    if (rc === -ERRNO.ETIMEDOUT) throw new LockError(path, timeoutMs)
    check(rc, 'flock', path)
    // Who removes the file while we wait leaves us a lock on a file without a name.
    if (isStill(path, fd)) return new FileLock(path, fd, sys)
    sys.close(fd)
    if (systemClock.now() >= deadline) throw new LockError(path, timeoutMs)
  }
}

function openForLock(path: string, sys: Sys): number {
  const fd = sys.open(path, constants.O_RDWR | constants.O_CREAT, 0o644)
  // A directory; or a namespace, which nobody may open for writing.
  const isReadOnly = fd === -ERRNO.EISDIR || fd === -ERRNO.EPERM
  return isReadOnly ? check(sys.open(path, constants.O_RDONLY, 0), 'open', path) : check(fd, 'open', path)
}

function isStill(path: string, fd: number): boolean {
  const held = fstatSync(fd)
  try {
    const named = statSync(path)
    return named.ino === held.ino && named.dev === held.dev
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

/** True when the promise settles before the deadline. */
async function settledBy(promise: Promise<void>, deadline: number): Promise<boolean> {
  const stop = new AbortController()
  const late = systemClock.sleep(Math.max(0, deadline - systemClock.now()), stop.signal).then(
    () => false,
    () => false,
  )
  try {
    return await Promise.race([promise.then(() => true), late])
  } finally {
    stop.abort()
  }
}
