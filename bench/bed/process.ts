/** Programs that the benchmarks start: always with a deadline, never through a shell. */

import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { inNetns } from '#sys/netns.ts'

export interface RunOptions {
  /** Path of the network namespace that it is born in; the bench's own without it. */
  readonly netns?: string
  readonly env?: NodeJS.ProcessEnv
  readonly input?: string
  /** Default 60 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export class ProgramError extends Error {
  override readonly name = 'ProgramError'
}

/** A process in a namespace. `inNetns` holds for the fork alone. */
export function spawnIn(
  netns: string | undefined,
  file: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  const start = (): ChildProcess => spawn(file, args, options)
  return netns === undefined ? start() : inNetns(netns, start)
}

/** Runs a program to its end and gives what it printed. Throws ProgramError with its first words of complaint when it fails. */
export function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { netns, env = {}, input, timeoutMs = 60_000, signal } = options
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const child = spawnIn(netns, file, args, {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    ...(signal === undefined ? {} : { signal }),
  })
  let out = ''
  let err = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (out += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (err = (err + chunk).slice(0, 4000)))
  // Who does not read its input says more by its exit code.
  child.stdin?.on('error', () => {})
  child.stdin?.end(input)
  child.once('error', reject)
  child.once('close', (code, killed) => {
    if (code === 0) return resolve(out)
    const how = killed === null ? `ended with code ${code}` : `was ended by ${killed} (limit ${timeoutMs / 1000} s)`
    reject(
      new ProgramError(`${[file, ...args.slice(0, 8)].join(' ')} ${how}: ${`${err}\n${out}`.trim().slice(0, 2000)}`),
    )
  })
  return promise
}

/** Like `command -v`. */
export const commandExists = (name: string): boolean =>
  (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)))
