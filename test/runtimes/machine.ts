/**
 * A machine for a container runtime: namespaces of its own for network, mounts and processes, /run and /var/lib in memory. Whatever a runtime leaves behind
 * there (processes that nobody waits for, mounts, namespaces, links) ends with its first process, and that ends with the test, killed or not.
 */

import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync, closeSync, mkdtempSync, readFileSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

import { slowness } from '../slow.ts'
import { pauseProgram } from './pause.ts'

const run = promisify(execFile)
const COMMAND_LIMIT_MS = 60_000 * slowness
const CGROUPS = '/sys/fs/cgroup'

export class Machine implements AsyncDisposable {
  /** A folder of the test, seen from inside and outside. */
  readonly folder: string
  /** The name of the cgroups that runtimes of this machine make, below the root of each hierarchy. */
  readonly cgroup: string
  readonly #unshare: ChildProcess
  readonly #init: number
  readonly #started: ChildProcess[] = []

  private constructor(folder: string, unshare: ChildProcess, init: number) {
    this.folder = folder
    this.#unshare = unshare
    this.#init = init
    this.cgroup = `${PREFIX}${process.pid}-${unshare.pid ?? 0}`
  }

  static async open(): Promise<Machine> {
    removeCgroups(isStale)
    // What tests that were killed left.
    for (const name of readdirSync(tmpdir()))
      if (isStale(name)) rmSync(join(tmpdir(), name), { recursive: true, force: true })
    const namespaces = ['--mount', '--net', '--pid', '--ipc', '--uts', '--fork', '--kill-child', '--mount-proc']
    const unshare = spawn('unshare', [...namespaces, pauseProgram(), '--until-eof'], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    const folder = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`))
    const machine = new Machine(folder, unshare, await onlyChild(unshare))
    try {
      for (const mount of ['/run', '/var/lib', '/var/tmp']) machine.exec('mount', '-t', 'tmpfs', 'tmpfs', mount)
      machine.exec('ip', 'link', 'set', 'lo', 'up')
      machine.exec('mkdir', '-p', '/run/cni/net.d', '/run/tmp')
      return machine
    } catch (error) {
      await machine[Symbol.asyncDispose]()
      throw error
    }
  }

  /** What programs of this machine are told. */
  readonly env: Readonly<NodeJS.ProcessEnv> = {
    PATH: process.env['PATH'],
    HOME: '/run',
    TMPDIR: '/run/tmp',
  }

  #enter(command: readonly string[], netns?: string): readonly string[] {
    const inside = netns === undefined ? command : ['nsenter', `--net=${netns}`, ...command]
    return ['--target', String(this.#init), '--mount', '--net', '--pid', '--ipc', '--uts', '--', ...inside]
  }

  /** Runs a command inside; its output. */
  exec(...command: readonly string[]): string {
    return execFileSync('nsenter', this.#enter(command), {
      encoding: 'utf8',
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: COMMAND_LIMIT_MS,
    })
  }

  /** Runs a command inside, in one of its namespaces if it is given; its output. */
  async run(
    command: readonly string[],
    netns?: string,
    env: NodeJS.ProcessEnv = {},
    limitMs: number = COMMAND_LIMIT_MS,
  ): Promise<string> {
    const options = { env: { ...this.env, ...env }, timeout: limitMs, maxBuffer: 1 << 26 }
    const { stdout } = await run('nsenter', [...this.#enter(command, netns)], options)
    return stdout
  }

  /** Runs a command inside with something on standard input; its output. */
  async feed(input: string, command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const options = { env: { ...this.env, ...env }, timeout: COMMAND_LIMIT_MS }
    const running = run('nsenter', [...this.#enter(command)], options)
    running.child.stdin?.end(input)
    return (await running).stdout
  }

  /** Starts a program inside that lives as long as the machine, unless it is stopped. Its output goes to a file of `folder`. */
  start(name: string, command: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const log = openSync(join(this.folder, `${name}.log`), 'a')
    try {
      const child = spawn('nsenter', [...this.#enter(command)], {
        env: { ...this.env, ...env },
        stdio: ['ignore', log, log],
      })
      this.#started.push(child)
      return child
    } finally {
      closeSync(log)
    }
  }

  /** The last lines of what a program that was started said. */
  logOf(name: string, lines = 20): string {
    return readFileSync(join(this.folder, `${name}.log`), 'utf8')
      .split('\n')
      .slice(-lines)
      .join('\n')
  }

  /** A path of inside as one that can be used from here. */
  path(inside: string): string {
    return `/proc/${this.#init}/root${inside}`
  }

  /** Process ids (inside) of the processes whose command line holds a text. */
  pidsOf(text: string): readonly number[] {
    const proc = this.path('/proc')
    return readdirSync(proc)
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(join(proc, pid, 'cmdline'), 'utf8').includes(text)
        } catch {
          return false
        }
      })
      .map(Number)
  }

  /** Like `kill -9` from inside. */
  kill(pid: number): void {
    this.exec('kill', '-9', String(pid))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = [this.#unshare, ...this.#started]
      .filter((child) => !hasEnded(child))
      .map((child) => once(child, 'exit'))
    this.#unshare.stdin?.end()
    await Promise.race([Promise.all(ended), sleep(10_000, undefined, { ref: false })])
    this.#unshare.kill('SIGKILL')
    for (const child of this.#started) child.kill('SIGKILL')
    removeCgroups((name) => name === this.cgroup)
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

async function onlyChild(parent: ChildProcess): Promise<number> {
  const deadline = performance.now() + 10_000 * slowness
  while (!hasEnded(parent) && performance.now() < deadline) {
    const pid = Number(readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim())
    // It has its own mounts from the moment on that it runs the program.
    if (pid > 0 && readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'pause') return pid
    await sleep(10)
  }
  parent.kill('SIGKILL')
  throw new Error('unshare started no first process')
}

/** Polls until something holds; throws when it does not in time. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms * slowness
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms * slowness} ms: ${what}`)
    await sleep(25)
  }
}

/** Of what a machine has outside of itself, before the process that made it: cgroups and a folder. */
const PREFIX = 'heddle-runtimes-'

/** Was it made by a test that runs no more? */
function isStale(name: string): boolean {
  const [, pid] = new RegExp(`^${PREFIX}(\\d+)-`).exec(name) ?? []
  return pid !== undefined && statSync(`/proc/${pid}`, { throwIfNoEntry: false }) === undefined
}

/** Removes cgroups by name from every hierarchy; nothing runs in them any more. */
function removeCgroups(which: (name: string) => boolean): void {
  const hierarchies = [CGROUPS, ...foldersOf(CGROUPS)]
  for (const hierarchy of hierarchies) {
    for (const group of foldersOf(hierarchy)) if (which(group.slice(hierarchy.length + 1))) removeCgroup(group)
  }
}

function removeCgroup(path: string): void {
  for (const inner of foldersOf(path)) removeCgroup(inner)
  try {
    rmdirSync(path)
  } catch {
    // A process of it is still ending: the next run removes it.
  }
}

function foldersOf(path: string): readonly string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(path, entry.name))
  } catch {
    return []
  }
}
