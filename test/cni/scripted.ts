/** A plugin as an executable file that remembers its calls and does what its configuration says: the runtime's tests look at both. */

import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { isObject, parseJsonObject, type JsonObject } from '#cni/json.ts'

/** What the executable does for a verb, in its configuration under `script`. */
export interface Step {
  /** Printed as it is. */
  readonly stdout?: string
  readonly stderr?: string
  readonly exit?: number
  /** Milliseconds to wait, with a child process that waits longer. */
  readonly hang?: number
}

const program = `
const { appendFileSync, readFileSync } = require('node:fs')
const { spawn } = require('node:child_process')
const verb = process.env.CNI_COMMAND
const stdin = readFileSync(0, 'utf8')
const config = stdin === '' ? {} : JSON.parse(stdin)
const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => key.startsWith('CNI_')))
const file = config.log ?? process.env.SCRIPT_LOG
if (file) appendFileSync(file, JSON.stringify({ type: require('node:path').basename(process.argv[1]), verb, env, config, pid: process.pid }) + '\\n')
const step = (config.script ?? {})[verb] ?? {}
const fallback = verb === 'ADD' ? JSON.stringify(config.prevResult ?? { cniVersion: config.cniVersion }) : verb === 'VERSION' ? '{"cniVersion":"1.1.0","supportedVersions":["1.0.0"]}' : ''
if (step.hang) {
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'inherit' })
  appendFileSync(file, JSON.stringify({ child: child.pid }) + '\\n')
  setTimeout(() => {}, step.hang)
} else {
  process.stderr.write(step.stderr ?? '')
  process.stdout.write(step.stdout ?? (step.exit ? '' : fallback))
  process.exitCode = step.exit ?? 0
}
`

export interface RecordedCall {
  readonly type: string
  readonly verb: string
  readonly env: JsonObject
  readonly config: JsonObject
}

/** Installs the plugin under each of the names. */
export async function installScripted(dir: string, types: readonly string[]): Promise<void> {
  for (const type of types) {
    await writeFile(join(dir, type), `#!${process.execPath}\n${program}`)
    await chmod(join(dir, type), 0o755)
  }
}

export async function recordedLines(log: string): Promise<readonly JsonObject[]> {
  const text = await readFile(log, 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => parseJsonObject(line, log))
}

export async function recordedCalls(log: string): Promise<readonly RecordedCall[]> {
  const calls: RecordedCall[] = []
  for (const { type, verb, env, config } of await recordedLines(log)) {
    if (typeof type === 'string' && typeof verb === 'string' && isObject(env) && isObject(config)) {
      calls.push({ type, verb, env, config })
    }
  }
  return calls
}
