/** Applies text by the program `nft`: the one place of this folder that starts a process. */

import { execFile, type ExecFileException } from 'node:child_process'
import { inNetns, type Netns } from '#sys/netns.ts'
import { NftError } from './error.ts'

export interface ApplyOptions {
  /** Where the ruleset is; absent: the namespace of this process. */
  readonly netns?: Netns | undefined
  /** Default 10 s. */
  readonly timeoutMs?: number | undefined
  /** Check the text without applying it. Like `nft -c`. */
  readonly dryRun?: boolean | undefined
  /** The program; default `nft` on the PATH. */
  readonly program?: string | undefined
}

/**
 * Applies one transaction, whole or not at all. Like `nft -f -`. Throws `refused` with the failing line, `no-nft` with what to install, or `timeout`.
 */
export async function applyText(text: string, options: ApplyOptions = {}): Promise<void> {
  await runNft([...(options.dryRun === true ? ['-c'] : []), '-f', '-'], text, options)
}

/** Runs nft with these arguments and this input; returns its standard output. */
export function runNft(args: readonly string[], input: string, options: ApplyOptions = {}): Promise<string> {
  const { netns } = options
  // A process is born in the namespace that its parent is in at that moment.
  return netns === undefined ? start(args, input, options) : startIn(netns, () => start(args, input, options))
}

/** An excursion must not return a promise, so it leaves it in a variable. */
function startIn<T>(netns: Netns, run: () => Promise<T>): Promise<T> {
  let started: Promise<T> | undefined
  inNetns(netns, () => void (started = run()))
  return started ?? Promise.reject(new Error('the excursion did not run'))
}

function start(args: readonly string[], input: string, options: ApplyOptions): Promise<string> {
  const program = options.program ?? 'nft'
  const timeout = options.timeoutMs ?? 10_000
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...args],
      { encoding: 'utf8', timeout, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024, env: cleanEnvironment() },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(explain(error, stderr, input, { program, timeout }))
      },
    )
    // A child that ends before it has read everything breaks the pipe; its exit tells why.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}

/** The messages are parsed: they must come in English, and nothing of the caller's environment matters to nft. */
const cleanEnvironment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
})

interface Attempt {
  readonly program: string
  readonly timeout: number
}

function explain(error: ExecFileException, stderr: string, input: string, { program, timeout }: Attempt): NftError {
  if (error.code === 'ENOENT')
    return new NftError(
      'no-nft',
      `the program ${program} is not installed: install Debian's package nftables ("apt-get install nftables"), or put it on the PATH`,
      { cause: error },
    )
  if (error.killed === true)
    return new NftError(
      'timeout',
      `${program} did not end within ${timeout} ms and was stopped; nothing is known to be applied`,
      { cause: error },
    )
  return parseRefusal(stderr, input, error)
}

/** From nft's complaint to an error with the failing line. Its form: `/dev/stdin:2:24-28: Error: reason`. */
export function parseRefusal(stderr: string, input: string, cause?: unknown): NftError {
  const match = /^[^\n:]*:(\d+):\d+(?:-\d+)?: Error: ([^\n]*)/m.exec(stderr)
  const first = stderr.split('\n', 1)[0] ?? ''
  if (match === null)
    return new NftError('refused', `nft refused the ruleset: ${first === '' ? String(cause) : first}`, { cause })
  const line = Number(match[1])
  const text = input.split('\n')[line - 1] ?? ''
  const reason = match[2] ?? ''
  const errnoName = errnoByReason[reason.replace(/^Could not process rule: /, '').replace(/;.*/, '')]
  return new NftError('refused', `nft refused line ${line}, ${JSON.stringify(text.slice(0, 200))}: ${reason}`, {
    line,
    text,
    cause,
    ...(errnoName === undefined ? {} : { errnoName }),
  })
}

const errnoByReason: Readonly<Record<string, string>> = {
  'Device or resource busy': 'EBUSY',
  'File exists': 'EEXIST',
  'No such file or directory': 'ENOENT',
  'Operation not supported': 'EOPNOTSUPP',
  'Operation not permitted': 'EPERM',
  'Invalid argument': 'EINVAL',
}

const probed = new Map<string, Promise<string>>()

/** The version of nft, asked once per process and program: `1.0.6`. Throws `no-nft` with the remedy; a failure is asked again. */
export function nftVersion(options: Pick<ApplyOptions, 'program' | 'timeoutMs'> = {}): Promise<string> {
  const program = options.program ?? 'nft'
  const known = probed.get(program)
  if (known !== undefined) return known
  const asked = runNft(['--version'], '', options).then((text) => /v(\d[\d.]*)/.exec(text)?.[1] ?? text.trim())
  probed.set(program, asked)
  asked.catch(() => probed.delete(program))
  return asked
}
