/** The place where a benchmark happens: network namespaces, a folder, processes. Disposing it removes all of it. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import { createNetnsOnPool, deleteNetns } from '#sys/netns.ts'
import { run, spawnIn, type RunOptions } from './process.ts'

const PREFIX = 'heddle-bench-'
const NETNS_DIR = '/run/netns'

export interface Namespace {
  readonly name: string
  readonly path: string
  /** Runs a program there. */
  readonly run: (file: string, ...args: readonly string[]) => Promise<string>
}

let beds = 0

export class Bed implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`))
  /** For what lies below /run on a node: in memory, as there. */
  readonly memory = mkdtempSync(join(memoryFolder(), `${PREFIX}${process.pid}-`))
  readonly #signal: AbortSignal
  readonly #prefix = `${PREFIX}${process.pid}-${++beds}-`
  readonly #namespaces: string[] = []
  readonly #children: ChildProcess[] = []

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /** A new network namespace with its loopback up. */
  async namespace(label: string): Promise<Namespace> {
    const name = `${this.#prefix}${label}`
    const path = join(NETNS_DIR, name)
    this.#namespaces.push(path)
    await createNetnsOnPool(path)
    const made: Namespace = {
      name,
      path,
      run: (file, ...args) => this.run(file, args, { netns: path }),
    }
    await made.run('ip', 'link', 'set', 'lo', 'up')
    return made
  }

  /** Pods' namespaces, many at once and bare: a plugin finds them so. */
  async pods(label: string, count: number): Promise<readonly string[]> {
    const paths = Array.from({ length: count }, (_, i) => join(NETNS_DIR, `${this.#prefix}${label}-${i}`))
    this.#namespaces.push(...paths)
    for (let i = 0; i < count; i += 16) await Promise.all(paths.slice(i, i + 16).map((path) => createNetnsOnPool(path)))
    return paths
  }

  run(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    return run(file, args, { signal: this.#signal, ...options })
  }

  /** A process that lives until the bed goes. What it writes to stderr is kept for `lastWords`. */
  start(netns: Pick<Namespace, 'path'>, file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Started {
    const child = spawnIn(netns.path, file, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#children.push(child)
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => (said = (said + chunk).slice(-8000)))
    }
    child.on('error', (error) => (said += String(error)))
    return { child, lastWords: () => said.trim().split('\n').slice(-12).join('\n') }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(end))
    for (const path of this.#namespaces) deleteNetns(path)
    for (const directory of [this.directory, this.memory]) rmSync(directory, { recursive: true, force: true })
  }
}

export interface Started {
  readonly child: ChildProcess
  readonly lastWords: () => string
}

/** Asks, and after three seconds does not. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
  })
  child.kill('SIGTERM')
  const hard = setTimeout(() => child.kill('SIGKILL'), 3000)
  await gone
  clearTimeout(hard)
}

/** Agents, namespaces and folders of benches that were killed: each of them has the dead bench's pid in its name or arguments. */
export function removeLeftovers(): void {
  for (const pid of names('/proc').filter((name) => /^\d+$/.test(name))) {
    const args = argumentsOf(pid)
    // Agents alone: everything else ends with what it talks to.
    if (args.includes('\0agent\0') && isOrphaned(args)) process.kill(Number(pid), 'SIGKILL')
  }
  for (const name of names(NETNS_DIR).filter(isOrphaned)) deleteNetns(join(NETNS_DIR, name))
  for (const folder of [tmpdir(), memoryFolder()])
    for (const name of names(folder).filter(isOrphaned)) rmSync(join(folder, name), { recursive: true, force: true })
}

/** statfs(2): TMPFS_MAGIC. */
const TMPFS = 0x0102_1994

function memoryFolder(): string {
  const shared = '/dev/shm'
  return existsSync(shared) && statfsSync(shared).type === TMPFS ? shared : tmpdir()
}

const names = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])

function isOrphaned(text: string): boolean {
  const pid = /heddle-bench-(\d+)-/.exec(text)?.[1]
  return pid !== undefined && !existsSync(`/proc/${pid}`)
}

function argumentsOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It ended meanwhile.
    return ''
  }
}
