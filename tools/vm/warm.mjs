import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { buildDir, pinnedNode, root } from '../paths.mjs'
import { capture } from '../setup/step.mjs'

/** Compiled code and sources without their types, as Node.js keeps them; found again by the machine, which could not keep them itself. */
export const CACHE = join(buildDir, 'vm', 'cache')
export const cacheEnv = { NODE_COMPILE_CACHE: CACHE, NODE_COMPILE_CACHE_PORTABLE: '1' }

const LIMIT_MS = 120_000

/**
 * Loads here, once, what the machine will load in hundreds of processes: taking the types out of the sources takes 7 of the 10 seconds that a
 * process starts there. What is not warm in the end is only slower.
 *
 * @param {readonly string[]} files test files; none of their tests is run
 */
export async function warm(files) {
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
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
