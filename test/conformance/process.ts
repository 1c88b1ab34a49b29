/** Programs that the suite starts: always with a deadline, never through a shell, in a process group of their own. */

import { spawn } from 'node:child_process'

export interface Ran {
  /** null when a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  readonly ms: number
  /** It was still running at its deadline. */
  readonly late: boolean
}

export interface RunOptions {
  /** The whole environment; this process's own without it. */
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  readonly deadlineMs: number
  /** Ends the process and all its children by SIGKILL after this time, as a crash would. */
  readonly killAfterMs?: number
}

/** More than any plugin has to say. */
const MAX_OUTPUT = 16 << 20

/** Runs a program to its end. Never throws for what the program does; throws where it cannot be started. */
export function run(command: readonly string[], options: RunOptions): Promise<Ran> {
  const { promise, resolve, reject } = Promise.withResolvers<Ran>()
  const started = performance.now()
  const [file = '', ...args] = command
  const child = spawn(file, args, {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  const kill = (): void => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It ended meanwhile.
    }
  }
  let late = false
  const deadline = setTimeout(() => {
    late = true
    kill()
  }, options.deadlineMs)
  const crash = options.killAfterMs === undefined ? undefined : setTimeout(kill, options.killAfterMs)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk
    if (stdout.length > MAX_OUTPUT) kill()
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr = (stderr + chunk).slice(-8000)))
  // Who does not read its input says more by its exit code.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const ended = (): void => {
    clearTimeout(deadline)
    clearTimeout(crash)
  }
  child.once('error', (error) => {
    ended()
    reject(error)
  })
  child.once('close', (code) => {
    ended()
    resolve({ code, stdout, stderr, ms: performance.now() - started, late })
  })
  return promise
}
