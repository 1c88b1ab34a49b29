/**
 * `npm start`: from a fresh checkout to a three-node cluster network whose every pair of pods was tried.
 *
 *   npm start                                   three nodes, two pods each, VXLAN
 *   npm start -- --nodes 5 --backend host-gw    whatever `heddle lab up` takes
 *   npm start -- --down                         takes the lab down again at the end
 */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'

const heddle = join(root, 'bin', 'heddle')
/** What the lab's own processes run: the bundle that the set-up has just built. */
const bundle = join(root, 'dist', 'lib', 'heddle.mjs')

/** Runs the CLI on this terminal; an interrupt reaches it by itself, and its own clean-up is waited for. */
function run(...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(heddle, args, {
      cwd: root,
      env: { ...process.env, PATH: systemPath(), HEDDLE_LAB_PROGRAM: bundle },
      stdio: 'inherit',
    })
    const ignore = () => {}
    process.on('SIGINT', ignore)
    child.on('error', reject)
    child.on('close', (code) => {
      process.off('SIGINT', ignore)
      resolve(code ?? 1)
    })
  })
}

/** `--name X` or `--name=X` of `lab up` belongs to the other lab commands too. */
function nameOf(args) {
  const index = args.indexOf('--name')
  if (index >= 0 && args[index + 1] !== undefined) return ['--name', args[index + 1]]
  return args.filter((argument) => argument.startsWith('--name='))
}

await runTool('start', async () => {
  const args = process.argv.slice(2).filter((argument) => argument !== '--down')
  const takeDown = process.argv.includes('--down')
  const name = nameOf(args)
  await setup('start')
  if (args.includes('--help') || args.includes('-h')) return run('lab', 'up', '--help')

  // What an earlier run left, whole or in pieces; nothing there is fine too.
  const cleared = await run('lab', 'down', ...name)
  if (cleared !== 0) return cleared
  const up = await run('lab', 'up', ...args)
  if (up !== 0) return up
  const checked = await run('lab', 'check', ...name)
  if (takeDown) {
    const down = await run('lab', 'down', ...name)
    return checked === 0 ? down : checked
  }
  const suffix = name.length === 0 ? '' : ` ${name.join(' ')}`
  console.log(`
The lab stays up${checked === 0 ? '' : ', so that you can look at what failed'}. Next:
  bin/heddle lab status${suffix}                     nodes, pods, their addresses, the kubeconfig for kubectl
  bin/heddle lab exec${suffix} NODE -- ip route      any command inside a node or a pod
  bin/heddle lab down${suffix}                       takes everything away again
`)
  return checked
})
