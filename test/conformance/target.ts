/** A directory of plugins under test: which types it has, and which versions they claim. */

import { accessSync, constants, readdirSync, realpathSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { specVersions } from '#cni/version.ts'
import { call } from './call.ts'
import { OWN_FOLDERS, type Machine } from './machine.ts'

export interface Target {
  readonly label: string
  readonly directory: string
  readonly types: ReadonlySet<string>
  /** A daemon that is started on each machine before the plugins are, and the socket that shows that it listens. */
  readonly daemon?: { readonly command: readonly string[]; readonly socket: string }
}

export class TargetError extends Error {
  override readonly name = 'TargetError'
}

/** Reads the directory. Throws TargetError where it cannot be one of plugins. */
export function openTarget(label: string, given: string, daemon?: Target['daemon']): Target {
  let directory: string
  try {
    directory = realpathSync(given)
  } catch {
    throw new TargetError(`there is no directory ${given}`)
  }
  for (const folder of OWN_FOLDERS) {
    if (relative(folder, directory).startsWith('..')) continue
    throw new TargetError(
      `plugins below ${folder} cannot be run: each machine of the suite has an empty one; copy ${directory}`,
    )
  }
  const types = new Set(readdirSync(directory).filter((name) => isProgram(join(directory, name))))
  if (types.size === 0) throw new TargetError(`${directory} holds no executables`)
  return { label, directory, types, ...(daemon === undefined ? {} : { daemon }) }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** The published versions that a plugin claims by its VERSION, oldest first; [] where its answer is none. */
export async function claimedVersions(machine: Machine, target: Target, type: string): Promise<readonly string[]> {
  const env = { CNI_COMMAND: 'VERSION' }
  try {
    const { document } = await call(machine, target.directory, { file: type, env, stdin: '{}' })
    const list = document?.['supportedVersions']
    return Array.isArray(list) ? specVersions.filter((version) => list.includes(version)) : []
  } catch {
    return []
  }
}
