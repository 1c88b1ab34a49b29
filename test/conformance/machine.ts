/**
 * A machine of its own for one case: private network and mount namespaces with an empty /run and /var/lib, so that whatever a plugin leaves,
 * wherever it keeps its state, can be seen, and goes with the machine. It lives as long as one process, which ends with this one.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { slowness } from '../slow.ts'
import { run, type Ran } from './process.ts'

const COMMAND_MS = 20_000 * slowness

/** What the suite itself could not do, as opposed to what a plugin did wrong. */
export class Broken extends Error {
  override readonly name = 'Broken'
}

/** Folders that a machine has for itself. Plugins cannot be run from below these. */
export const OWN_FOLDERS = ['/run', '/var/lib'] as const

export class Machine implements AsyncDisposable {
  readonly #holder: ChildProcess
  readonly #others: ChildProcess[] = []
  #pods = 0
  /** Paths of the pods' namespaces, as the machine sees them. */
  readonly pods = new Set<string>()

  private constructor(holder: ChildProcess) {
    this.#holder = holder
  }

  static async make(): Promise<Machine> {
    const holder = spawn('unshare', ['--mount', '--net', '--propagation', 'private', 'cat'], {
      stdio: ['pipe', 'ignore', 'ignore'],
      // An interrupt from the terminal is for the suite alone; the holder ends when its input does.
      detached: true,
    })
    await once(holder, 'spawn')
    const machine = new Machine(holder)
    try {
      await machine.#entered()
      await machine.do('mount', '-t', 'sysfs', 'sysfs', '/sys')
      for (const folder of OWN_FOLDERS) await machine.do('mount', '-t', 'tmpfs', 'tmpfs', folder)
      await machine.do('ip', 'link', 'set', 'lo', 'up')
      return machine
    } catch (error) {
      await machine[Symbol.asyncDispose]()
      throw error
    }
  }

  /** unshare has made the namespaces when it has become cat. */
  async #entered(): Promise<void> {
    const deadline = Date.now() + COMMAND_MS
    const own = readlinkSync('/proc/self/ns/mnt')
    for (;;) {
      const { pid = 0, exitCode } = this.#holder
      if (exitCode !== null) throw new Broken(`unshare ended with code ${exitCode}: making a namespace needs root`)
      if (readlinkSync(`/proc/${pid}/ns/mnt`) !== own && readlinkSync(`/proc/${pid}/exe`).endsWith('/cat')) return
      if (Date.now() > deadline) throw new Broken('unshare made no namespace')
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  /** The command that runs another one on this machine, or in one of its pods. */
  entry(pod?: string): readonly string[] {
    const proc = `/proc/${this.#holder.pid ?? 0}`
    return ['nsenter', `--mount=${proc}/ns/mnt`, `--net=${pod === undefined ? `${proc}/ns/net` : `${proc}/root${pod}`}`]
  }

  /** What `path` of this machine is called outside of it. */
  outside(path: string): string {
    return `/proc/${this.#holder.pid ?? 0}/root${path}`
  }

  run(command: readonly string[], input = '', pod?: string): Promise<Ran> {
    return run([...this.entry(pod), ...command], { input, deadlineMs: COMMAND_MS })
  }

  /** Runs a command on the machine; its output. Throws Broken when it fails. */
  async do(...command: string[]): Promise<string> {
    return this.#do(command)
  }

  /** Runs a command in a pod's namespace; its output. Throws Broken when it fails. */
  async in(pod: string, ...command: string[]): Promise<string> {
    return this.#do(command, pod)
  }

  async #do(command: readonly string[], pod?: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, '', pod)
    if (code !== 0) throw new Broken(`${command.join(' ')} ended with code ${code}: ${stderr.trim().slice(0, 300)}`)
    return stdout
  }

  /** Makes a pod: the path of its namespace. */
  async pod(): Promise<string> {
    const name = `pod${++this.#pods}`
    await this.do('ip', 'netns', 'add', name)
    this.pods.add(`/run/netns/${name}`)
    return `/run/netns/${name}`
  }

  /** As a runtime does that is done with it. */
  async removePod(path: string): Promise<void> {
    this.pods.delete(path)
    await this.do('ip', 'netns', 'delete', path.slice('/run/netns/'.length))
  }

  /** Starts a process that lives no longer than the machine. */
  start(command: readonly string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
    const [file = '', ...args] = [...this.entry(), ...command]
    const child = spawn(file, args, { env, stdio: ['ignore', 'ignore', 'pipe'], detached: true })
    child.on('error', () => {})
    child.stderr.on('data', () => {})
    this.#others.push(child)
    return child
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#others, this.#holder].map(end))
  }
}

/** By SIGKILL: nothing of it is needed any more. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}
