/**
 * The extension backend at work: runs the operator's commands one after the other, in the order in which the cluster changes; what fails is tried
 * again. For each peer only the last word counts, so the queue is never longer than the cluster.
 */

import type { CommandLine, ExtensionConf } from '#flannel/extension/conf.ts'
import { ownVariables, peerVariables, type Variables } from '#flannel/extension/backend.ts'
import type { Lease } from '#flannel/lease.ts'
import type { Local } from '#flannel/local.ts'
import { RetrySchedule } from '#state/retry.ts'
import type { Clock } from '#sys/clock.ts'
import { errorFields, type Log } from '../log.ts'
import type { RunCommand } from './command.ts'
import type { ExtensionJournal, NotedPeer, PeerWords } from './journal.ts'

export interface ExtensionRunnerOptions {
  readonly conf: ExtensionConf
  readonly run: RunCommand
  readonly journal: ExtensionJournal
  readonly clock: Clock
  readonly log: Log
  /** After each command: which (`PostStartupCommand`) and how it ended. */
  readonly onCommand: (command: string, outcome: 'done' | 'failed') => void
  /** How many peers are not as they should be; undefined while PostStartupCommand has not succeeded. */
  readonly onProgress: (waiting: number | undefined) => void
}

/** The own node among the things to do; no Node has such a name. */
const SELF = ''

/** Peers between two writings of the record. */
const AT_ONCE = 64

interface Job {
  readonly name: string
  readonly add: boolean
  readonly words: PeerWords
}

export class ExtensionRunner implements AsyncDisposable {
  readonly #options: ExtensionRunnerOptions
  readonly #retries: RetrySchedule<string>
  /** What was told of each peer last. */
  readonly #wanted = new Map<string, PeerWords>()
  /** Peers that SubnetAddCommand was run for, or begun to be. */
  readonly #done: Map<string, NotedPeer>
  readonly #todo = new Set<string>()
  #local: Local | undefined
  #started: string | undefined
  #isListed = false
  #working: Promise<void> | undefined
  #closed = false

  private constructor(options: ExtensionRunnerOptions, done: Map<string, NotedPeer>) {
    this.#options = options
    this.#done = done
    this.#retries = new RetrySchedule(options.clock, (names) => {
      for (const name of names) this.#mark(name)
    })
  }

  static async open(options: ExtensionRunnerOptions): Promise<ExtensionRunner> {
    return new ExtensionRunner(options, await options.journal.read(options.log))
  }

  /** This node is other than before. */
  setLocal(local: Local): void {
    this.#local = local
    this.#mark(SELF)
  }

  /** A peer came or changed; without a lease it went. */
  setPeer(name: string, lease: Lease | undefined, local: Local): void {
    if (lease === undefined) this.#wanted.delete(name)
    else this.#wanted.set(name, peerVariables(local, lease))
    this.#mark(name)
  }

  /** From now on peers of a former life that nobody told of are gone. */
  removeLeftovers(): void {
    if (this.#isListed) return
    this.#isListed = true
    for (const name of this.#done.keys()) if (!this.#wanted.has(name)) this.#mark(name)
  }

  /** Resolves when nothing is to be done now; what failed may still wait for its next turn. */
  async settled(): Promise<void> {
    while (this.#working !== undefined) await this.#working
  }

  /** Runs ShutdownCommand. What is still to be done for peers is left to the next life. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#retries[Symbol.dispose]()
    await this.#working
    const { conf } = this.#options
    if (conf.shutdown !== undefined && this.#local !== undefined)
      await this.#command('ShutdownCommand', conf.shutdown, ownVariables(this.#local), '')
  }

  #mark(name: string): void {
    if (this.#closed) return
    this.#todo.add(name)
    this.#working ??= this.#work().finally(() => (this.#working = undefined))
  }

  async #work(): Promise<void> {
    // What is told in one go is done in one go.
    await Promise.resolve()
    while (!this.#closed) {
      // The own node first; peers wait until its commands have succeeded.
      if (this.#todo.delete(SELF)) this.#ended(SELF, await this.#start())
      else if (this.#started === undefined || this.#todo.size === 0) return
      else await this.#settleSome()
      this.#options.onProgress(this.#started === undefined ? undefined : this.#todo.size + this.#retries.size)
    }
  }

  #ended(name: string, isRight: boolean): void {
    if (isRight) this.#retries.forget(name)
    else this.#retries.add(name)
  }

  async #start(): Promise<boolean> {
    const { conf } = this.#options
    if (this.#local === undefined) return true
    const variables = ownVariables(this.#local)
    const text = JSON.stringify(variables)
    if (text === this.#started) return true
    if (conf.postStartup !== undefined && !(await this.#command('PostStartupCommand', conf.postStartup, variables, '')))
      return false
    this.#started = text
    return true
  }

  /** One command for each of some peers, noted before and after: whoever is killed in between leaves somebody who knows what was begun. */
  async #settleSome(): Promise<void> {
    const names = [...this.#todo].slice(0, AT_ONCE)
    for (const name of names) this.#todo.delete(name)
    const jobs = names.flatMap((name) => this.#job(name) ?? [])
    const busy = new Set(jobs.map(({ name }) => name))
    for (const name of names) if (!busy.has(name)) this.#retries.forget(name)
    if (jobs.length === 0) return
    for (const { name, words } of jobs) this.#done.set(name, { ...words, whole: false })
    if (!(await this.#note())) {
      for (const { name } of jobs) this.#retries.add(name)
      return
    }
    for (const job of jobs) {
      if (this.#closed) break
      this.#ended(job.name, await this.#do(job))
    }
    await this.#note()
  }

  /** What comes next for a peer. One that changes goes first as it was: commands such as `ip route add` do not replace. */
  #job(name: string): Job | undefined {
    const want = this.#wanted.get(name)
    const have = this.#done.get(name)
    if (have === undefined) return want === undefined ? undefined : { name, add: true, words: want }
    if (want === undefined) return this.#isListed ? { name, add: false, words: have } : undefined
    if (!isSame(want, have)) return { name, add: false, words: have }
    return have.whole ? undefined : { name, add: true, words: want }
  }

  async #do({ name, add, words }: Job): Promise<boolean> {
    const { conf } = this.#options
    const [which, line] = add
      ? (['SubnetAddCommand', conf.subnetAdd] as const)
      : (['SubnetRemoveCommand', conf.subnetRemove] as const)
    if (line !== undefined && !(await this.#command(which, line, words.variables, words.input, name))) return false
    if (add) this.#done.set(name, { ...words, whole: true })
    else {
      this.#done.delete(name)
      if (this.#wanted.has(name)) this.#todo.add(name)
    }
    return true
  }

  async #note(): Promise<boolean> {
    try {
      await this.#options.journal.write(this.#done)
      return true
    } catch (error) {
      this.#options.log.warn(errorFields(error), 'the record of peers cannot be written: their commands wait')
      return false
    }
  }

  async #command(
    which: string,
    line: CommandLine,
    variables: Variables,
    input: string,
    node?: string,
  ): Promise<boolean> {
    const { run, log, onCommand } = this.#options
    const about = { command: which, program: line[0], ...(node === undefined ? {} : { node }) }
    try {
      const { output } = await run(line, variables, input)
      onCommand(which, 'done')
      log.info({ ...about, output: output.slice(0, 200) }, 'ran a command of the extension backend')
      return true
    } catch (error) {
      onCommand(which, 'failed')
      log.warn({ ...about, ...errorFields(error) }, 'a command of the extension backend failed; trying again')
      return false
    }
  }
}

const isSame = (a: PeerWords, b: PeerWords): boolean =>
  a.input === b.input && JSON.stringify(a.variables) === JSON.stringify(b.variables)
