/** `npm run conformance`: the plugins of any directory, case by case, against the CNI specification. Arguments go to test/conformance/main.ts. */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'

await runTool('conformance', async () => {
  const args = process.argv.slice(2)
  // Standard output is the report alone.
  console.log = console.error
  await setup('test')
  return new Promise((resolve, reject) => {
    const main = join(root, 'test', 'conformance', 'main.ts')
    const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', main, ...args], {
      cwd: root,
      env: { ...process.env, PATH: systemPath() },
      stdio: 'inherit',
    })
    // The suite gets an interrupt from the terminal itself, and says what was done until then.
    process.on('SIGINT', () => {})
    process.on('SIGTERM', () => child.kill('SIGTERM'))
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
})
