/** Starting the relay, and ending one that does not answer. */

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

import { RelayClient, RelayClientError, type RelayClientOptions } from './client.ts'

/** How to start a relay: a program of Node.js and what stands before `--socket`. */
export interface RelayProgram {
  readonly file: string
  readonly args: readonly string[]
}

/** A loaded or emulated machine takes its time; one that ends says so at once. */
const START_MS = 30_000
const POLL_MS = 10
const MAX_WORDS = 4000

/**
 * Starts a relay as a session leader of its own, and connects to it. It lives on when this process ends.
 * Throws `RelayClientError` `relay-not-started` with its last words.
 */
export async function startRelay(program: RelayProgram, options: RelayClientOptions): Promise<RelayClient> {
  let words = ''
  let ended: string | undefined
  const child = spawn(program.file, [...program.args, '--socket', options.socket], {
    cwd: '/',
    detached: true,
    env: relayEnvironment(process.env),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (words = (words + chunk).slice(-MAX_WORDS)))
  child.on('error', (error) => (ended = error.message))
  child.on('exit', (code, signal) => (ended ??= `it ended with ${signal ?? `code ${code}`}`))
  child.unref()
  // Its last words are worth hearing, not waiting for.
  if (child.stderr instanceof Socket) child.stderr.unref()
  const deadline = options.clock.now() + START_MS
  for (;;) {
    try {
      return await RelayClient.open(options)
    } catch (error) {
      const isAbsent = error instanceof RelayClientError && error.code === 'relay-absent'
      if (isAbsent && ended === undefined && options.clock.now() < deadline) {
        await delay(POLL_MS)
        continue
      }
      child.kill('SIGKILL')
      const why = ended ?? (error instanceof Error ? error.message : String(error))
      throw new RelayClientError('relay-not-started', `the relay could not be started: ${why} ${words.trim()}`.trim())
    }
  }
}

/** What a relay inherits: how this program was started, and no more. */
function relayEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => name === 'PATH' || /^(HEDDLE|NODE|MALLOC)_/.test(name))
  return { ...Object.fromEntries(kept), UV_THREADPOOL_SIZE: '1' }
}

/** The file where a relay writes its number, locked while it runs. */
export const lockOf = (socket: string): string => `${socket}.lock`

/** Ends the relay that has this socket, whatever it does; false when there is none. */
export async function killRelay(socket: string): Promise<boolean> {
  const pid = relayPid(socket)
  if (pid === undefined) return false
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
  for (let waited = 0; waited < 1000 && relayPid(socket) === pid; waited += POLL_MS) await delay(POLL_MS)
  return true
}

/** The process that the lock file names, if it is a relay of this socket: numbers are used again. */
export function relayPid(socket: string): number | undefined {
  try {
    const pid = Number(readFileSync(lockOf(socket), 'utf8').trim())
    if (!Number.isSafeInteger(pid) || pid <= 1) return undefined
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return args.includes(socket) ? pid : undefined
  } catch {
    return undefined
  }
}
