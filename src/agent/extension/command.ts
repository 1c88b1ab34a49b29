/** Runs one of the operator's commands: without a shell, within a deadline, with little in its environment. */

import { spawn } from 'node:child_process'

import type { CommandLine } from '#flannel/extension/conf.ts'
import { expand } from '#flannel/extension/conf.ts'
import type { Variables } from '#flannel/extension/backend.ts'

export interface CommandResult {
  /** Both streams as they came, without white space around them. */
  readonly output: string
}

/** `failed`: it ended with another status than 0, or by a signal; `not-started`; `timeout`: it was killed; `too-much`: it printed more than is kept. */
export type CommandErrorCode = 'failed' | 'not-started' | 'timeout' | 'too-much'

export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code: CommandErrorCode

  constructor(code: CommandErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

const DEADLINE = 30_000
const MAX_OUTPUT = 64 * 1024
const SHOWN = 300
const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export type RunCommand = (line: CommandLine, variables: Variables, input: string) => Promise<CommandResult>

/** Resolves when it ended with status 0. Throws CommandError. It is killed with all that it started when its time (ms) is over. */
export function runCommand(
  line: CommandLine,
  variables: Variables,
  input: string,
  deadline = DEADLINE,
): Promise<CommandResult> {
  const [program, ...args] = expand(line, variables)
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>()
  const child = spawn(program, args, {
    env: { PATH: process.env['PATH'] ?? USUAL_PATH, ...variables },
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own, so that what it started can be killed with it.
    detached: true,
  })
  const chunks: Buffer[] = []
  let length = 0
  let end: CommandErrorCode | undefined
  const kill = (why: CommandErrorCode): void => {
    end ??= why
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      child.kill('SIGKILL')
    }
    child.stdout.destroy()
    child.stderr.destroy()
  }
  const timer = setTimeout(() => kill('timeout'), deadline)
  const take = (chunk: Buffer): void => {
    length += chunk.length
    if (length > MAX_OUTPUT) kill('too-much')
    else chunks.push(chunk)
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  // It need not read what it is given.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  child.once('error', (error) => {
    clearTimeout(timer)
    reject(new CommandError('not-started', `${program} cannot be started: ${error.message}`))
  })
  child.once('close', (code, signal) => {
    clearTimeout(timer)
    const output = Buffer.concat(chunks).toString('utf8').trim()
    const said = output === '' ? '' : `: ${JSON.stringify(output.slice(-SHOWN))}`
    if (end === 'timeout')
      reject(new CommandError(end, `${program} did not end within ${deadline / 1000} s and was killed`))
    else if (end === 'too-much')
      reject(new CommandError(end, `${program} printed more than ${MAX_OUTPUT} bytes and was killed`))
    else if (code !== 0)
      reject(new CommandError('failed', `${program} ended with ${signal ?? `status ${code}`}${said}`))
    else resolve({ output })
  })
  return promise
}
