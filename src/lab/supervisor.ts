/** Keeps agents running, as a kubelet keeps a DaemonSet's pod: whatever ends one, it is started again. */

import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { inNetns } from '#sys/netns.ts'
import { messageOf } from './error.ts'
import { processOf } from './process.ts'
import type { AgentProcess } from './record.ts'

export interface Supervised {
  readonly name: string
  readonly file: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Where the process lives. */
  readonly netns: string
  /** Its output is appended here. */
  readonly log: string
}

interface Running {
  readonly what: Supervised
  child: ChildProcess | undefined
  timer: NodeJS.Timeout | undefined
  restarts: number
  /** Failures in a row: a life of ten seconds forgets them. */
  failures: number
}

const FIRST_DELAY_MS = 100
const MAX_DELAY_MS = 5000
const STEADY_MS = 10_000

export class Supervisor implements AsyncDisposable {
  readonly #running = new Map<string, Running>()
  readonly #onChange: () => void
  #stopping = false

  /** `onChange` is called whenever a process was started or ended. */
  constructor(onChange: () => void = () => {}) {
    this.#onChange = onChange
  }

  start(what: Supervised): void {
    const running: Running = { what, child: undefined, timer: undefined, restarts: 0, failures: 0 }
    this.#running.set(what.name, running)
    mkdirSync(dirname(what.log), { recursive: true })
    this.#launch(running)
  }

  /** The processes that run now, by name. */
  processes(): Record<string, AgentProcess> {
    return Object.fromEntries(
      [...this.#running].flatMap(([name, { child, restarts }]) => {
        const id = child?.pid === undefined ? undefined : processOf(child.pid)
        return id === undefined ? [] : [[name, { ...id, restarts }]]
      }),
    )
  }

  /** Asks all to end and waits for that; what takes longer than three seconds is killed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true
    await Promise.all([...this.#running.values()].map(end))
  }

  #launch(running: Running): void {
    const { what } = running
    const born = Date.now()
    const log = openSync(what.log, 'a', 0o600)
    const again = (reason: string): void => {
      running.child = undefined
      if (!this.#stopping) this.#relaunch(running, reason, Date.now() - born)
      this.#onChange()
    }
    try {
      const child = inNetns(what.netns, () =>
        spawn(what.file, what.args, { env: what.env, stdio: ['ignore', log, log], detached: true }),
      )
      running.child = child
      child.once('error', (error) => again(error.message))
      child.once('exit', (code, signal) => again(signal ?? `exit code ${code}`))
      this.#onChange()
    } catch (error) {
      again(messageOf(error))
    } finally {
      closeSync(log)
    }
  }

  #relaunch(running: Running, reason: string, lifeMs: number): void {
    running.failures = lifeMs >= STEADY_MS ? 1 : running.failures + 1
    running.restarts++
    const delay = Math.min(FIRST_DELAY_MS * 2 ** (running.failures - 1), MAX_DELAY_MS)
    note(running.what.log, `the agent ended (${reason}): starting it again in ${delay} ms`)
    running.timer = setTimeout(() => this.#launch(running), delay)
  }
}

function note(log: string, text: string): void {
  const fd = openSync(log, 'a', 0o600)
  try {
    writeSync(fd, `${JSON.stringify({ time: new Date().toISOString(), from: 'keeper', msg: text })}\n`)
  } finally {
    closeSync(fd)
  }
}

const GRACE_MS = 3000

async function end({ child, timer }: Running): Promise<void> {
  clearTimeout(timer)
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise<void>((resolve) => void child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const kill = setTimeout(() => child.kill('SIGKILL'), GRACE_MS)
  await gone
  clearTimeout(kill)
}
