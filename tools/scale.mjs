/** `npm run scale`: a node among thousands, and a lab of a hundred. Arguments go to bench/scale/main.ts: --peers, --flapping, --nodes, --runs, --only simulated,memory,lab. */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'

await runTool('scale', async () => {
  const main = join(root, 'bench', 'scale', 'main.ts')
  const args = process.argv.slice(2)
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
