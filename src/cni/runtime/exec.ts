/** Executing a plugin as a runtime does, and understanding what it answers. Source: CNI SPEC.md §2; libcni `pkg/invoke`. */

import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

import { inNetns } from '#sys/netns.ts'

import type { Env } from '../env.ts'
import { CniError, ioFailure, messageOf, tryAgain } from '../errors.ts'
import { excerpt, MAX_JSON_BYTES, parseJsonObject } from '../json.ts'
import type { Answer } from '../shell.ts'

export interface Execution {
  readonly file: string
  /** The whole environment. */
  readonly env: Env
  readonly stdin: string
  /** Milliseconds until the plugin and all it started are killed. */
  readonly deadlineMs: number
  /** The network namespace it is started in; the process's own unless told otherwise. */
  readonly netns?: string | undefined
}

const MAX_STDERR_BYTES = 64 * 1024
const BUSY_RETRIES = 5
const BUSY_PAUSE_MS = 1000

/** Runs the executable once. Throws CniError 11 on timeout, 5 where it cannot be started. An executable being overwritten is retried, as libcni does. */
export async function execPlugin(execution: Execution): Promise<Answer> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await start(execution)
    } catch (error) {
      if (!isBusy(error) || attempt >= BUSY_RETRIES) throw startError(execution.file, error)
      await sleep(BUSY_PAUSE_MS)
    }
  }
}

const isBusy = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ETXTBSY'

const startError = (file: string, error: unknown): CniError =>
  error instanceof CniError
    ? error
    : ioFailure(`cannot run plugin ${file}: ${messageOf(error)}`, 'it must be an executable for this machine', {
        cause: error,
      })

function start({ file, env, stdin, deadlineMs, netns }: Execution): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // A process group of its own, so that a kill reaches what the plugin started too.
    const launch = (): ChildProcessWithoutNullStreams =>
      spawn(file, [], { env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    const child = netns === undefined ? launch() : inNetns(netns, launch)
    const stdout = collect(child.stdout, MAX_JSON_BYTES)
    const stderr = collect(child.stderr, MAX_STDERR_BYTES)
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      killGroup(child)
    }, deadlineMs)
    child.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      if (isLate) {
        reject(
          tryAgain(`plugin ${file} did not answer within ${deadlineMs / 1000} s`, 'it was killed with all it started'),
        )
      } else
        resolve({ exitCode: code ?? 128 + constants.signals[signal ?? 'SIGKILL'], stdout: stdout(), stderr: stderr() })
    })
    // A plugin may answer without reading its stdin.
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
  })
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    child.kill('SIGKILL')
  }
}

function collect(stream: NodeJS.ReadableStream, limit: number): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    if (size < limit) chunks.push(chunk)
    size += chunk.length
  })
  return () => Buffer.concat(chunks).subarray(0, limit).toString('utf8')
}

/** The error a failed plugin reported; where it printed none, one made of its stderr, as libcni does. */
export function answerError(type: string, answer: Answer): CniError {
  const { stdout, stderr, exitCode } = answer
  if (stdout.trim() === '') {
    const said =
      stderr.trim() === '' ? 'failed with no error message' : `failed: ${JSON.stringify(stderr.trim().slice(-4096))}`
    return new CniError('internal', `netplugin ${said}: ${type} ended with exit status ${exitCode}`)
  }
  try {
    const { code, msg, details } = parseJsonObject(stdout, 'the error')
    if (typeof msg === 'string' || typeof code === 'number') {
      return new CniError(
        typeof code === 'number' ? code : 'internal',
        typeof msg === 'string' ? msg : `${type} gave no message`,
        typeof details === 'string' ? details : undefined,
      )
    }
  } catch {
    // Falls through to the same answer as for a document without code and message.
  }
  return new CniError(
    'internal',
    `netplugin failed but error parsing its diagnostic message ${excerpt(stdout)}: ${type} ended with exit status ${exitCode}`,
  )
}

/** `supportedVersions` of a VERSION answer. A plugin that does not know the verb speaks 0.1.0 only. Throws CniError. */
export function versionsOf(type: string, answer: Answer): readonly string[] {
  if (answer.exitCode !== 0) {
    const error = answerError(type, answer)
    if (error.msg.includes('unknown CNI_COMMAND: VERSION')) return ['0.1.0']
    throw error
  }
  const { cniVersion, supportedVersions } = parseJsonObject(answer.stdout, `the VERSION answer of ${type}`)
  if (Array.isArray(supportedVersions) && supportedVersions.length > 0) {
    return supportedVersions.filter((version: unknown) => typeof version === 'string')
  }
  if (cniVersion === '0.2.0') return ['0.1.0', '0.2.0']
  throw new CniError(
    'decodingFailure',
    `the VERSION answer of ${type} has no supportedVersions: ${excerpt(answer.stdout)}`,
  )
}
