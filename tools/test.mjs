/**
 * `npm test`: sets the machine up, builds, runs every test with the pinned Node.js, but for those of `npm run test:cloud`.
 *
 *   npm test -- test/nft ip.test.ts       only the files whose path contains one of these
 *   npm test -- --test-name-pattern=DEL   options of `node --test` pass through
 *   npm run test:cloud                    those that start a real Neutron, or go through every step at which a daemon on a cloud may die
 */

import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import os from 'node:os'
import { join, resolve } from 'node:path'

import { filesBelow } from './files.mjs'
import { pinnedNode, root, systemPath } from './paths.mjs'
import { setup } from './setup.mjs'
import { Problem, runTool } from './setup/problem.mjs'

/** The whole run; what is still running then is ended, and the run has failed. */
const RUN_LIMIT_MS = 25 * 60_000
/** One test, or one file. */
const TEST_LIMIT_MS = 5 * 60_000
/** Tests of the kernel share it: more at once would only wait for its locks. */
const MOST_AT_ONCE = 4
/** Minutes of their own. */
const CLOUD = ['test/controller/real.', 'test/lab/cloud.', 'test/neutron-ipam/', 'test/openstack/real.']
const CLOUD_FLAG = '--cloud'
const isCloud = (file) => CLOUD.some((start) => file.startsWith(start))

const isTest = (name) => /\.test\.(ts|mjs)$/.test(name)

function selected(filters, ofCloud) {
  const all = ['tools', 'src', 'test', 'bench'].flatMap((folder) => filesBelow(folder, isTest))
  const files =
    filters.length === 0
      ? all.filter((file) => isCloud(file) === ofCloud)
      : all.filter((file) => filters.some((filter) => file.includes(filter)))
  if (files.length > 0) return files
  throw new Problem({
    what: `no test file matches ${filters.join(' ') || 'tools/, src/ and test/'}`,
    remedy: 'give a part of a path, such as src/ip or test/nft',
  })
}

/** The named network namespaces of this machine. Like `ip netns list`. */
function namespaces() {
  try {
    return new Set(readdirSync('/run/netns'))
  } catch {
    return new Set()
  }
}

/** HEDDLE_TEST_RECORD names a file for one line of JSON a test, beside what people read. */
function reporters() {
  const record = process.env['HEDDLE_TEST_RECORD']
  const spec = ['--test-reporter=spec', '--test-reporter-destination=stdout']
  if (record === undefined) return spec
  return [
    ...spec,
    `--test-reporter=${join(root, 'tools/vm/record.mjs')}`,
    `--test-reporter-destination=${resolve(record)}`,
  ]
}

function runNode(files, options) {
  const cores = os.availableParallelism?.() ?? os.cpus().length
  // One more than there are processors: most of them wait for timers, peers and the kernel. A cloud fills the machine by itself.
  const atOnce = files.every(isCloud) ? 1 : Math.min(cores + 1, MOST_AT_ONCE)
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-concurrency=${atOnce}`,
    `--test-timeout=${TEST_LIMIT_MS}`,
    ...(options.some((option) => option.startsWith('--test-reporter')) ? [] : reporters()),
    ...options,
    ...files,
  ]
  const env = { ...process.env, PATH: systemPath(), UV_THREADPOOL_SIZE: '16' }
  return new Promise((resolve, reject) => {
    const child = spawn(pinnedNode, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] })
    let late = false
    const timer = setTimeout(() => {
      late = true
      console.error(`test: not finished after ${RUN_LIMIT_MS / 60_000} minutes: ending it`)
      child.kill('SIGINT')
      setTimeout(() => child.kill('SIGKILL'), 10_000).unref()
    }, RUN_LIMIT_MS)
    // The runner gets an interrupt from the terminal itself, and says what was running.
    const ignore = () => {}
    process.on('SIGINT', ignore)
    const forward = () => child.kill('SIGTERM')
    process.on('SIGTERM', forward)
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      process.off('SIGINT', ignore)
      process.off('SIGTERM', forward)
      resolve(late ? 1 : (code ?? 1))
    })
  })
}

await runTool('test', async () => {
  const args = process.argv.slice(2)
  const files = selected(
    args.filter((argument) => !argument.startsWith('-')).map((filter) => filter.replace(/^\.\//, '')),
    args.includes(CLOUD_FLAG),
  )
  await setup('test')
  const before = namespaces()
  const code = await runNode(
    files,
    args.filter((argument) => argument.startsWith('-') && argument !== CLOUD_FLAG),
  )
  const left = [...namespaces()].filter((name) => !before.has(name))
  if (left.length > 0) console.error(`test: network namespaces that were not there before: ${left.join(', ')}`)
  return code
})
