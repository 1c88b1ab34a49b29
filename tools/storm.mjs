/**
 * `npm run storm`: many CNI calls at once, some killed, some wrong, with an agent that dies; then nothing may be left and no address given twice.
 *
 *   npm run storm -- --steps 5000 --seed 7     as many ADDs, DELs and CHECKs of whole chains; the seed of a run is printed
 *   npm run storm -- --pods 100 --at-once 64
 */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'

await runTool('storm', async () => {
  await setup('test')
  return new Promise((resolve, reject) => {
    const main = join(root, 'test', 'storm', 'main.ts')
    const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', main, ...process.argv.slice(2)], {
      cwd: root,
      env: { ...process.env, PATH: systemPath(), UV_THREADPOOL_SIZE: '16' },
      stdio: 'inherit',
    })
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
})
