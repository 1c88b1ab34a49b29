/**
 * `npm run survive`: agents of a small cluster end, are killed, and are exchanged for those of another commit and back, while pods ask each other without a pause.
 *
 *   npm run survive -- --from HEAD~20          the other commit (HEAD~1 unless told); `none` for no upgrade
 *   npm run survive -- --backends vxlan,udp --probes 100000 --rate 1000
 */

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

import { buildDir, pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { Problem, runTool } from './setup/problem.mjs'

const BUILD_MS = 300_000

/** The `heddle` of a commit, built in a copy of its files; kept, because a commit does not change. */
function buildOf(ref) {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8', timeout: 60_000 }).trim()
  let commit
  try {
    commit = git('rev-parse', '--verify', '--quiet', `${ref}^{commit}`)
  } catch {
    throw new Problem({
      what: `there is no commit ${ref}`,
      why: 'its agent is the one that is upgraded from',
      remedy: 'name one with --from, or use --from none',
    })
  }
  const folder = join(buildDir, 'survive', commit)
  const heddle = join(folder, 'dist', 'bin', 'heddle')
  if (existsSync(heddle)) return heddle
  console.error(`survive: building ${commit.slice(0, 10)}`)
  const fresh = `${folder}.${process.pid}`
  mkdirSync(fresh, { recursive: true })
  try {
    git('archive', '--format=tar', `--output=${fresh}.tar`, commit)
    execFileSync('tar', ['-xf', `${fresh}.tar`, '-C', fresh], { timeout: 60_000 })
    symlinkSync(join(root, 'node_modules'), join(fresh, 'node_modules'))
    // What it builds for itself it finds by its own place, so it is moved there first.
    rmSync(folder, { recursive: true, force: true })
    renameSync(fresh, folder)
    execFileSync(pinnedNode, [join(folder, 'tools', 'build.mjs')], {
      cwd: folder,
      stdio: ['ignore', 2, 2],
      timeout: BUILD_MS,
    })
    return heddle
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  } finally {
    rmSync(fresh, { recursive: true, force: true })
    rmSync(`${fresh}.tar`, { force: true })
  }
}

/** Takes `--from X` out of the arguments. */
function takeFrom(args) {
  const at = args.indexOf('--from')
  if (at < 0) return { from: 'HEAD~1', rest: args }
  return { from: args[at + 1] ?? '', rest: [...args.slice(0, at), ...args.slice(at + 2)] }
}

await runTool('survive', async () => {
  await setup('test')
  const { from, rest } = takeFrom(process.argv.slice(2))
  const former = from === 'none' ? [] : ['--former', buildOf(from)]
  return new Promise((resolve, reject) => {
    const main = join(root, 'test', 'survive', 'main.ts')
    const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', main, ...former, ...rest], {
      cwd: root,
      env: { ...process.env, PATH: systemPath(), UV_THREADPOOL_SIZE: '16' },
      stdio: 'inherit',
    })
    process.on('SIGINT', () => {})
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 1))
  })
})
