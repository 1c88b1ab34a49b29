/** Carries out a plan. Each step is whole or not done, and may be done again. */

import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createHash, randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'

import { isShim } from '#cni/runtime/find.ts'
import { hasCode } from '#sys/errno.ts'
import { CliError } from '../fail.ts'
import type { Action, SeenFile, WantedFile } from './plan.ts'

export interface Machine {
  /** Before every path; '' in normal life. */
  readonly root: string
  /** Folder of foreign files that ours took the place of. */
  readonly backups: string
  /** Before each change of the disk. */
  readonly step: () => void
}

export const sha256Of = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

/** Undefined where there is nothing. A link is followed, as a runtime does. Throws what the file system throws. */
export function lookAt(path: string): SeenFile | undefined {
  try {
    return { sha256: sha256Of(readFileSync(path)), isShim: isShim(path) }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** In order; what fails ends it. Throws CliError and what the file system throws. */
export function applyActions(actions: readonly Action[], machine: Machine): void {
  for (const action of actions) apply(action, machine)
}

function apply(action: Action, machine: Machine): void {
  const at = (path: string): string => `${machine.root}${path}`
  switch (action.do) {
    case 'keep':
    case 'leave':
      return
    case 'create':
    case 'replace':
      return place(action.file, machine)
    case 'take-over':
      backUp(at(action.file.path), join(machine.backups, action.backup), machine)
      return place(action.file, machine)
    case 'disable':
      return move(at(action.path), at(action.as), machine)
    case 'enable':
      return move(at(action.as), at(action.path), machine)
    case 'remove':
      if (isOneOf(at(action.path), action.sha256)) remove(at(action.path), machine)
      return
    default:
      return restore(at(action.path), join(machine.backups, action.backup), action.sha256, machine)
  }
}

/** Beside, synced, renamed: libcni finds no text file busy, and runtimes that watch the folder hear of a rename. */
function place({ path, from, mode, sha256 }: WantedFile, machine: Machine): void {
  const target = `${machine.root}${path}`
  mkdirSync(dirname(target), { recursive: true, mode: 0o755 })
  put(target, machine, (fresh) => {
    if ('text' in from) writeFileSync(fresh, from.text, { flag: 'wx' })
    else copyFileSync(from.file, fresh, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    // Whatever the build's own bits were; never more than these.
    chmodSync(fresh, mode)
    if (sha256Of(readFileSync(fresh)) !== sha256)
      throw new CliError('FAILED', `${path} did not arrive whole`, { remedy: 'look at the disk, then try again' })
  })
}

function put(target: string, { step }: Machine, make: (fresh: string) => void): void {
  const fresh = `${target}.${randomUUID().slice(0, 8)}.heddle-tmp`
  try {
    step()
    make(fresh)
    sync(fresh)
    step()
    renameSync(fresh, target)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
  sync(dirname(target))
}

/** The foreign file itself stays where it is until ours takes its place. */
function backUp(path: string, backup: string, machine: Machine): void {
  mkdirSync(dirname(backup), { recursive: true, mode: 0o700 })
  // Copied with its mode.
  put(backup, machine, (fresh) => copyFileSync(path, fresh, constants.COPYFILE_EXCL))
}

function restore(path: string, backup: string, ours: readonly string[], machine: Machine): void {
  const isThere = existsSync(path)
  if (isThere && !isOneOf(path, ours)) return
  if (existsSync(backup)) put(path, machine, (fresh) => copyFileSync(backup, fresh, constants.COPYFILE_EXCL))
  else if (isThere) remove(path, machine)
}

/** Looked at again: somebody may have put another file there. */
const isOneOf = (path: string, hashes: readonly string[]): boolean => {
  const now = lookAt(path)
  return now !== undefined && hashes.includes(now.sha256)
}

function remove(path: string, { step }: Machine): void {
  step()
  rmSync(path, { force: true })
  sync(dirname(path))
}

/** Nothing to move: it was moved before. */
function move(from: string, to: string, { step }: Machine): void {
  if (!existsSync(from) || existsSync(to)) return
  step()
  renameSync(from, to)
  sync(dirname(to))
}

function sync(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
