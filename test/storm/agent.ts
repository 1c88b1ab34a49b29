/** The agent in a storm: there, or killed and not yet there again. */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const SOCKET = '/run/heddle/cni.sock'
const START_LIMIT_MS = 60_000

export class StormAgent {
  readonly #heddle: string
  #child: ChildProcess | undefined

  constructor(projectRoot: string) {
    this.#heddle = join(projectRoot, 'dist', 'bin', 'heddle')
  }

  /** Starts it; resolves when it takes calls. */
  async start(): Promise<void> {
    const child = spawn(this.#heddle, ['agent', '--cni-only', '--log-level', 'error'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    this.#child = child
    const deadline = performance.now() + START_LIMIT_MS
    while (!(await answers())) {
      if (child.exitCode !== null) throw new Error(`the agent ended with code ${child.exitCode}`)
      if (performance.now() > deadline) throw new Error('the agent takes no calls')
      await sleep(20)
    }
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
}

function answers(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(SOCKET)
    const end = (is: boolean): void => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })
}
