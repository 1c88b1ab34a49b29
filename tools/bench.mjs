/** `npm run bench`: Heddle against the reference plugins and against devices made by hand, as ratios. Arguments go to bench/main.ts. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { Problem, runTool } from './setup/problem.mjs'

await runTool('bench', async () => {
  const main = join(root, 'bench', 'main.ts')
  if (!existsSync(main)) throw new Problem({ what: 'there is no bench/main.ts in this checkout' })
  const args = process.argv.slice(2)
  // With --json, standard output is one document.
  if (args.includes('--json')) console.log = console.error
  await setup('bench')
  return new Promise((resolve, reject) => {
    const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', main, ...args], {
      cwd: root,
      env: { ...process.env, PATH: systemPath(), UV_THREADPOOL_SIZE: '16' },
      stdio: 'inherit',
    })
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
})
