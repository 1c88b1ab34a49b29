/**
 * `npm run test:vm`: the tests that need what this machine's kernel may lack, under Debian's kernel in a virtual machine.
 * The machine sees this machine's files as they are; what it writes is lost. There a skipped test is a failure.
 *
 *   npm run test:vm                             the tests that ask for a feature of the kernel, but for the slowest
 *   npm run test:vm -- --all                    those too
 *   npm run test:vm -- test/netlink             only the files whose path contains one of these
 *   npm run test:vm -- --test-name-pattern=vrf  options of `node --test` pass through
 *   npm run test:vm -- --command ip -d link     any command instead (the rest of the line)
 *
 * HEDDLE_TEST_RECORD names a file for one line of JSON a test (tools/skips.mjs).
 * Exit status: the tests'; 77 where this machine cannot do it at all (the message says why).
 * Every instruction is emulated, which is slow; HEDDLE_VM_ACCEL=kvm uses KVM where that works.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { pinnedNode, root } from './paths.mjs'
import { setup } from './setup.mjs'
import { installDebianPackages } from './setup/debian.mjs'
import { Problem, runTool } from './setup/problem.mjs'
import { seconds, step } from './setup/step.mjs'
import { filesForMachine } from './vm/files.mjs'
import { debianKernel } from './vm/kernel.mjs'
import { accelerator, CORES, FILE_SERVERS, RECORD_INSIDE, runInMachine } from './vm/machine.mjs'
import { cacheEnv, warm } from './vm/warm.mjs'

const RUN_LIMIT_MS = 25 * 60_000
const HEARTBEAT_MS = 30_000
const TEST_LIMIT_MS = 5 * 60_000
/** By what the waits of tests are multiplied (HEDDLE_TEST_SLOW). */
const SLOWER = { kvm: 2, tcg: 8 }

/** What the exit status says where this machine cannot do it at all, as Automake's tests do. */
const CANNOT = 77

/** Why there can be no such virtual machine here, or undefined. */
function obstacle() {
  if (process.arch !== 'x64') {
    return new Problem({
      what: `the virtual machine is made for x64, and this is ${process.arch}`,
      remedy: 'run the tests on a machine whose kernel has what they need: npm test says what it skips',
    })
  }
  if (process.getuid?.() !== 0) {
    return new Problem({
      what: 'sharing this machine’s files with a virtual machine needs root',
      remedy: 'sudo npm run test:vm',
    })
  }
  return undefined
}

function selected(args) {
  const filters = args.filter((argument) => !argument.startsWith('-')).map((filter) => filter.replace(/^\.\//, ''))
  const files = filesForMachine(filters, { slow: args.includes('--all') })
  if (files.length > 0) return files
  throw new Problem({ what: `no test file matches ${filters.join(' ')}`, remedy: 'give a part of a path' })
}

function testCommand(files, options) {
  return [
    pinnedNode,
    '--disable-warning=ExperimentalWarning',
    // Three reporters are one too many for its count of listeners.
    '--disable-warning=MaxListenersExceededWarning',
    '--test',
    `--test-concurrency=${CORES}`,
    `--test-timeout=${TEST_LIMIT_MS}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(root, 'tools/vm/no-skips.mjs')}`,
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(root, 'tools/vm/record.mjs')}`,
    `--test-reporter-destination=${RECORD_INSIDE}`,
    ...options,
    ...files,
  ]
}

await runTool('test:vm', async () => {
  const args = process.argv.slice(2)
  const why = obstacle()
  if (why !== undefined) {
    console.error(`test:vm: ${why.message}`)
    return CANNOT
  }
  await setup('vm')
  // Part of QEMU until Debian 12, a package of its own later.
  if (!FILE_SERVERS.some((path) => existsSync(path))) {
    const why = 'shares files with the virtual machine'
    await installDebianPackages([{ package: 'virtiofsd', files: [FILE_SERVERS[1]], essential: true, why }])
  }
  const kernel = await debianKernel()
  const accel = accelerator()
  const env = [
    `HEDDLE_TEST_SLOW=${process.env['HEDDLE_TEST_SLOW'] ?? SLOWER[accel] ?? SLOWER.tcg}`,
    'UV_THREADPOOL_SIZE=16',
    // In one file and without types, it starts in half the time.
    `HEDDLE_BIN=${join(root, 'dist/bin/heddle')}`,
    ...['HEDDLE_FLANNELD'].flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`])),
    ...Object.entries(cacheEnv).map(([name, value]) => `${name}=${value}`),
  ]
  const isCommand = args[0] === '--command'
  const files = isCommand ? [] : selected(args)
  if (!isCommand) await step('what the virtual machine loads', () => warm(files))
  const options = args.filter((argument) => argument.startsWith('-') && argument !== '--all')
  const command = isCommand ? args.slice(1) : testCommand(files, options)
  console.log(`test:vm: Debian ${kernel.version}, ${accel === 'tcg' ? 'emulated (slow)' : accel}`)
  const started = Date.now()
  // Results of files come in order, whichever ends first.
  const heartbeat = setInterval(
    () => console.log(`test:vm: at work for ${seconds(Date.now() - started)}`),
    HEARTBEAT_MS,
  )
  const code = await runInMachine({
    kernel,
    argv: ['/usr/bin/env', ...env, ...command],
    timeoutMs: RUN_LIMIT_MS,
    record: process.env['HEDDLE_TEST_RECORD'],
  }).finally(() => clearInterval(heartbeat))
  console.log(`test:vm: ended with code ${code} after ${seconds(Date.now() - started)}`)
  return code
})
