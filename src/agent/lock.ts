/** One agent per root: two would undo each other's work. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

import { tryLockFile, type FileLock } from '#sys/flock.ts'

export class AgentLockError extends Error {
  override readonly name = 'AgentLockError'
  readonly code = 'agent-running'
}

/** Takes the lock until it is disposed; the kernel releases it with the process. Throws AgentLockError when another agent has it. */
export function lockAgent(path: string): FileLock {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const lock = tryLockFile(path)
  if (lock === undefined) {
    const pid = readFileSync(path, 'utf8').trim().slice(0, 20)
    throw new AgentLockError(
      `another agent${/^\d+$/.test(pid) ? ` (process ${pid})` : ''} holds ${path}: stop it first, or give this one a directory of its own with --root`,
    )
  }
  writeFileSync(path, `${process.pid}\n`)
  return lock
}
