/** The C programs of the comparisons, compiled when their source is newer. */

import { mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '#sys/errno.ts'
import { projectRoot } from './paths.ts'
import { run } from './process.ts'

const FLAGS = ['-std=gnu11', '-static', '-O2', '-s', '-Wall', '-Wextra', '-Werror']
/** musl brings no kernel headers: Debian's, behind its own. */
const KERNEL_HEADERS = ['-idirafter', '/usr/include', '-idirafter', `/usr/include/${triplet()}`]

/** Where programs of native/bench are built to; a folder that can serve as CNI_PATH. */
export const nativeDir = join(projectRoot, 'build', 'bench')

type Name = 'chain' | 'wire' | 'relay'

/** Two who ask at once get one program. */
const programs = new Map<Name, Promise<string>>()

/** Path of the compiled program. Like the shim with musl where it is installed, because a static musl program starts fastest. */
export function compiled(name: Name): Promise<string> {
  const known = programs.get(name) ?? compile(name)
  programs.set(name, known)
  return known
}

async function compile(name: Name): Promise<string> {
  const source = join(projectRoot, 'native', 'bench', `${name}.c`)
  const target = join(nativeDir, name)
  if (timeOf(target) > timeOf(source)) return target
  mkdirSync(nativeDir, { recursive: true })
  const fresh = `${target}.${process.pid}`
  try {
    await run('musl-gcc', [...FLAGS, ...KERNEL_HEADERS, '-o', fresh, source])
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    await run(process.env['CC'] ?? 'cc', [...FLAGS, '-o', fresh, source])
  }
  renameSync(fresh, target)
  return target
}

function timeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function triplet(): string {
  return process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
}
