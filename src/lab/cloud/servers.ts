/** Servers of Debian's packages, in a folder of their own; they die with the process that started them. */

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
/** Debian's Python and programs, whatever else is first in PATH. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' })
const POLL_MS = 200
const LAST_WORDS = 2000

export interface ServerOptions {
  /** Milliseconds that a server, or a program that prepares one, may take. */
  readonly patienceMs: number
  /** Called when a server ends that nobody ended. */
  readonly onEnd?: (name: string) => void
}

/** Disposing it ends the servers; the folder stays. */
export class Servers implements AsyncDisposable {
  readonly directory: string
  readonly #options: ServerOptions
  readonly #children = new Map<string, ChildProcess>()
  #ending = false

  constructor(directory: string, options: ServerOptions) {
    this.directory = directory
    this.#options = options
  }

  /** Where a file of the servers is. */
  file(name: string): string {
    return join(this.directory, name)
  }

  /** A program that prepares something. Throws with its last words. */
  async prepare(program: string, args: readonly string[]): Promise<void> {
    await run(program, args, { env: environment(), timeout: this.#options.patienceMs, maxBuffer: 16 << 20 })
  }

  /** Python of Debian's, on one file. */
  python(script: string, file: string): Promise<void> {
    return this.prepare('/usr/bin/python3', ['-c', script, file])
  }

  /** Dies with this process, however that ends. Its output goes to `NAME.out`. */
  start(name: string, program: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): void {
    const log = openSync(this.file(`${name}.out`), 'a', 0o600)
    try {
      const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', program, ...args], {
        env: { ...environment(), ...more },
        stdio: ['ignore', log, log],
      })
      this.#children.set(name, child)
      child.once('error', () => this.#ended(name))
      child.once('exit', () => this.#ended(name))
    } finally {
      closeSync(log)
    }
  }

  #ended(name: string): void {
    if (!this.#ending) this.#options.onEnd?.(name)
  }

  /** Until the server answers. Throws with its last words when it ends or takes too long. */
  async until(name: string, url: string): Promise<void> {
    const end = performance.now() + this.#options.patienceMs
    while (performance.now() < end && this.#children.get(name)?.exitCode === null) {
      const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch(() => undefined)
      await answer?.body?.cancel()
      if (answer !== undefined && answer.status < 500) return
      await sleep(POLL_MS)
    }
    const words = readFileSync(this.file(`${name}.out`), 'utf8').slice(-LAST_WORDS)
    throw new Error(`${name} did not start, its last words were: ${words}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true
    await Promise.all(
      [...this.#children.values()].map(async (child) => {
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
      }),
    )
  }
}

/** A TCP port of 127.0.0.1 that nobody has. */
export async function freePort(): Promise<number> {
  const probe = createServer()
  probe.listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** Without it SQLite says "database is locked" to the second reader. */
export const WAL = `
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute('pragma journal_mode=WAL')`
