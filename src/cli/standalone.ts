/**
 * The standalone program: what the shim becomes when there is no agent. `node cni.mjs TYPE` is the CNI plugin TYPE: environment and stdin in, one JSON
 * document and an exit code out.
 */

import { readFileSync, writeSync } from 'node:fs'

import { internalError, invalidConfig, messageOf, tryAgain } from '#cni/errors.ts'
import { pluginHost } from '#cni/runtime/delegate.ts'
import { openHost } from '#cni/runtime/host.ts'
import { failure, runPlugin, type Answer } from '#cni/shell.ts'
import { registry } from '#plugins/registry.ts'
import { version } from './version.ts'

/** Longer than any plugin's own waits, shorter than a kubelet's patience. */
const DEADLINE_MS = 100_000

const quiet = process.env['HEDDLE_DEBUG'] === undefined

/** stderr is free-form logging to a runtime. */
function log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void {
  if (quiet && (level === 'debug' || level === 'info')) return
  process.stderr.write(`heddle: ${level}: ${message}\n`)
}

async function run(type: string): Promise<Answer> {
  const plugin = registry.get(type)
  if (plugin === undefined) {
    const known = [...registry.keys()].join(', ')
    return failure(invalidConfig(`Heddle has no plugin type ${JSON.stringify(type)}`, `it has ${known}`))
  }
  const call = {
    env: process.env,
    stdin: () => readFileSync(0, 'utf8'),
    about: `CNI plugin ${type} (Heddle ${version})`,
  }
  using base = openHost({ root: process.env['HEDDLE_ROOT'] ?? '', log })
  return await runPlugin(plugin, call, pluginHost(base, { registry, env: {}, deadlineMs: DEADLINE_MS }))
}

/** Written once, whoever comes first: the answer, the deadline, or an error that nobody caught. */
let isFinished = false

function finish({ exitCode, stdout, stderr }: Answer): void {
  if (isFinished) return
  isFinished = true
  process.exitCode = exitCode
  process.stderr.write(stderr)
  process.stdout.write(stdout, () => process.exit(exitCode))
}

const fail = (error: unknown): void => {
  if (!quiet) log('error', error instanceof Error ? (error.stack ?? error.message) : String(error))
  finish(failure(internalError(messageOf(error))))
}

// A plugin that waits for something that can no longer happen lets the process end in silence.
process.on('exit', () => {
  if (isFinished) return
  writeSync(1, failure(internalError('the plugin ended without an answer')).stdout)
  process.exitCode = 1
})
process.on('uncaughtException', fail)
process.on('unhandledRejection', fail)
setTimeout(() => {
  finish(failure(tryAgain(`the plugin did not end within ${DEADLINE_MS / 1000} s`, 'the runtime will try again')))
}, DEADLINE_MS).unref()

try {
  finish(await run(process.argv[2] ?? ''))
} catch (error) {
  fail(error)
}
