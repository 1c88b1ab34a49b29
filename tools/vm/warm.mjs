import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { filesBelow } from '../files.mjs'
import { buildDir, pinnedNode, root } from '../paths.mjs'
import { capture } from '../setup/step.mjs'

/** Compiled code and sources without their types, as Node.js keeps them; found again by the machine, which could not keep them itself. */
export const CACHE = join(buildDir, 'vm', 'cache')
export const cacheEnv = { NODE_COMPILE_CACHE: CACHE, NODE_COMPILE_CACHE_PORTABLE: '1' }

const LIMIT_MS = 120_000
const STAMP = join(CACHE, 'stamp')

/** What is loaded, in which state: by names, sizes and times. */
function stateOf(files) {
  const sources = [...['src', 'test'].flatMap((folder) => filesBelow(folder, (name) => name.endsWith('.ts'))), ...files]
  const lines = [...sources, 'dist/lib/heddle.mjs', 'dist/lib/cni.mjs'].map((file) => {
    const stat = statSync(join(root, file), { throwIfNoEntry: false })
    return `${file} ${stat?.size} ${stat?.mtimeMs}`
  })
  return createHash('sha256').update(lines.join('\n')).digest('hex')
}

function isWarm(state) {
  try {
    return readFileSync(STAMP, 'utf8') === state
  } catch {
    return false
  }
}

/**
 * Loads here, once, what the machine will load in hundreds of processes: taking the types out of the sources takes 7 of the 10 seconds that a
 * process starts there. What is not warm in the end is only slower.
 *
 * @param {readonly string[]} files test files; none of their tests is run
 */
export async function warm(files) {
  const state = stateOf(files)
  if (isWarm(state)) return
  const folder = mkdtempSync(join(tmpdir(), 'heddle-warm-'))
  const env = { ...cacheEnv, CNI_COMMAND: 'VERSION' }
  const load = (command, args) => capture(command, args, { env, timeoutMs: LIMIT_MS })
  try {
    const agent = [
      'agent',
      '--cni-only',
      '--until-stdin-closes',
      '--root',
      folder,
      '--socket',
      join(folder, 'cni.sock'),
    ]
    await Promise.all([
      load(pinnedNode, ['--test', '--test-name-pattern=^$', '--test-concurrency=2', '--test-reporter=dot', ...files]),
      load(pinnedNode, [join(root, 'dist/lib/cni.mjs'), 'bridge']),
      load(join(root, 'dist/bin/heddle'), agent),
    ])
    mkdirSync(CACHE, { recursive: true })
    writeFileSync(STAMP, state)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
