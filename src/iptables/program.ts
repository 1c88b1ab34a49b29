/** Starts the programs of iptables: the one place of this folder that does. */

import { execFile, type ExecFileException } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

import { inNetns, type Netns } from '#sys/netns.ts'
import { IptablesError } from './error.ts'

const DEADLINE_MS = 15_000

/** Others may hold iptables' lock (/run/xtables.lock) so long, in seconds; only programs of the old kind have one. */
const LOCK_S = '5'

const MAX_OUTPUT = 64 * 1024 * 1024

/** The exit code for a lock that others held for too long. Source: iptables(8), RESOURCE_PROBLEM. */
const EXIT_BUSY = 4

const searchPath = (): string => process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin'

/** Whether there is such a program on the PATH. */
export function hasProgram(name: string): boolean {
  return searchPath()
    .split(':')
    .some((folder) => {
      try {
        accessSync(join(folder, name), constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** Runs `NAME-save -t TABLE`; its output. Throws `no-program`, `refused`, `timeout`. */
export const save = (netns: Netns | undefined, base: string, table: string): Promise<string> =>
  run(netns, `${base}-save`, ['-t', table], '')

/** Applies text by `NAME-restore --noflush`, whole or not at all. Throws `no-program`, `refused`, `timeout`. */
export const restore = async (netns: Netns | undefined, base: string, text: string): Promise<void> =>
  void (await run(netns, `${base}-restore`, ['--noflush', '-w', LOCK_S], text))

/** Runs `NAME --version`. */
export const versionOf = (base: string): Promise<string> => run(undefined, base, ['--version'], '')

/** A process is born in the namespace that its parent is in at that moment. */
function run(netns: Netns | undefined, program: string, args: readonly string[], input: string): Promise<string> {
  if (netns === undefined) return start(program, args, input)
  let started: Promise<string> | undefined
  inNetns(netns, () => void (started = start(program, args, input)))
  return started ?? Promise.reject(new Error('the excursion did not run'))
}

function start(program: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...args],
      {
        encoding: 'utf8',
        timeout: DEADLINE_MS,
        killSignal: 'SIGKILL',
        maxBuffer: MAX_OUTPUT,
        env: { PATH: searchPath(), LC_ALL: 'C' },
      },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(explain(program, error, stderr, input))
      },
    )
    // A program that ends before it has read everything breaks the pipe; its exit tells why.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}

function explain(program: string, error: ExecFileException, stderr: string, input: string): IptablesError {
  const options = { cause: error }
  if (error.code === 'ENOENT')
    return new IptablesError('no-program', `there is no program ${program}: install the package iptables`, options)
  if (error.killed === true)
    return new IptablesError('timeout', `${program} did not end within ${DEADLINE_MS / 1000} s`, options)
  const words = stderr.replaceAll(/\s+/g, ' ').trim()
  if (error.code === EXIT_BUSY && /lock/i.test(words))
    return new IptablesError('timeout', `others hold the lock of iptables for more than ${LOCK_S} s: ${words}`, options)
  const line = /line:? (\d+)/.exec(words)?.[1]
  const text = line === undefined ? undefined : input.split('\n')[Number(line) - 1]
  const place = text === undefined || text === 'COMMIT' ? '' : ` (${text.slice(0, 200)})`
  return new IptablesError(
    'refused',
    `${program}: ${(words === '' ? error.message : words).slice(0, 1000)}${place}`,
    options,
  )
}
