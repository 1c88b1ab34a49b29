/** How to start `heddle` again, from a checkout or from a build. */

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LabError } from './error.ts'

export interface Program {
  readonly file: string
  readonly args: readonly string[]
  /** Directory with the plugins' executables: CNI_PATH of the lab's container runtime. */
  readonly plugins: string
}

/** In a checkout this is src/lab/program.ts, in a build a part of dist/lib/heddle.mjs. */
const here = fileURLToPath(import.meta.url)

/** What a person types to run this program. */
export const commandName = here.endsWith('.ts') ? 'bin/heddle' : 'heddle'

/** This program's own files. Throws `LabError` `not-built` while there are no plugins. */
export function ownProgram(): Program {
  const isSource = here.endsWith('.ts')
  // `npm start` has just built the bundle, which starts in half the time: a lab starts many processes.
  const source = process.env['HEDDLE_LAB_PROGRAM'] ?? join(dirname(here), '../cli/main.ts')
  const entry = isSource ? source : join(dirname(here), 'heddle.mjs')
  const plugins = isSource ? join(dirname(here), '../../dist/cni') : join(dirname(here), '../cni')
  for (const type of ['flannel', 'bridge', 'host-local', 'portmap']) {
    if (existsSync(join(plugins, type))) continue
    throw new LabError('not-built', `there is no CNI plugin ${join(plugins, type)}`, 'Build the plugins: npm run build')
  }
  return { file: process.execPath, args: [...process.execArgv, entry], plugins }
}

/** What a process of the lab inherits: no more than it needs, and the lab's mark. */
export function labEnvironment(mark: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const kept = [
    'PATH',
    'HOME',
    'LANG',
    'LC_ALL',
    'TERM',
    'NO_COLOR',
    'HEDDLE_ADDON',
    'HEDDLE_LAB_DIR',
    'HEDDLE_ROOTLESS',
    'NODE_COMPILE_CACHE',
  ]
  return {
    ...Object.fromEntries(kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))),
    // Read by libuv once, when the first pool request comes: link deletions and locks wait on pool threads.
    UV_THREADPOOL_SIZE: '16',
    ...mark,
  }
}
