/** The agent's side of the relay: starts it when one is wanted, takes over one that runs, knows what it was told. */

import type { Clock } from '#sys/clock.ts'
import type { Operation } from '#state/diff.ts'
import { keyOf, type Entry, type RelayEntry } from '#state/entry.ts'
import type { Change, Failure } from '#state/kernel.ts'
import { NodeState } from '#state/node-state.ts'
import type { Offloads } from '../udp/tunnel.ts'
import { RelayClient, RelayClientError, type RelayClientOptions } from './client.ts'
import type { NoteLevel } from './levels.ts'
import type { Event } from './protocol.ts'
import { killRelay, startRelay, type RelayProgram } from './start.ts'

export type RelayReport = Extract<Event, { event: 'counters' }>

export interface RelaySupervisorOptions {
  readonly socket: string
  /** Of our own program: a relay of another one is replaced. */
  readonly version: string
  readonly program: RelayProgram
  readonly clock: Clock
  readonly onNote: (level: NoteLevel, message: string, fields: Readonly<Record<string, string | number>>) => void
  readonly onCounters: (counters: RelayReport['counters'], offloads: Offloads | null) => void
  /** A relay was started (not taken over). */
  readonly onStart: () => void
}

export class RelaySupervisor implements Disposable {
  readonly #options: RelaySupervisorOptions
  #client: RelayClient | undefined
  /** What the relay holds. */
  #held = new NodeState()
  #changes: Change[] = []
  #changed: () => void = () => undefined

  private constructor(options: RelaySupervisorOptions) {
    this.#options = options
  }

  /** Takes over a relay that runs already. Never throws: without one there is nothing to take over. */
  static async open(options: RelaySupervisorOptions): Promise<RelaySupervisor> {
    const supervisor = new RelaySupervisor(options)
    try {
      await supervisor.#connect()
    } catch (error) {
      if (error instanceof RelayClientError && error.code !== 'relay-absent') await supervisor.#end(error.message)
    }
    return supervisor
  }

  get isConnected(): boolean {
    return this.#client !== undefined
  }

  entries(): MapIterator<Entry> {
    return this.#held.entries()
  }

  get(entry: Entry): Entry | undefined {
    return this.#held.get(keyOf(entry))
  }

  /** `changed` is called whenever `drain` has something to say. */
  watch(changed: () => void): void {
    this.#changed = changed
  }

  drain(): Change[] {
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  /** Operations on relays and their peers only, in their order. */
  async apply(operations: readonly Operation[]): Promise<Failure[]> {
    const failures: Failure[] = []
    const fail = (operation: Operation, error: unknown): void =>
      void failures.push({ operation, error: error instanceof Error ? error : new Error(String(error)) })
    for (const operation of operations) {
      if (operation.entry.kind !== 'relay' || operation.do === 'remove') continue
      try {
        await this.#configure(operation.entry)
      } catch (error) {
        fail(operation, error)
      }
    }
    const peers = operations.filter(({ entry }) => entry.kind === 'relaypeer')
    try {
      await this.#setPeers(peers)
    } catch (error) {
      // To a relay that is not there nothing needs to be taken away.
      for (const operation of peers) if (operation.do !== 'remove') fail(operation, error)
    }
    for (const operation of operations)
      if (operation.entry.kind === 'relay' && operation.do === 'remove') await this.#stop()
    return failures
  }

  /** Lets go of the relay, which goes on. */
  [Symbol.dispose](): void {
    this.#client?.[Symbol.dispose]()
    this.#client = undefined
  }

  async #configure(entry: RelayEntry): Promise<void> {
    const client = this.#client ?? (await this.#connectOrStart())
    const { dev, address, port, network, subnet, anySource } = entry
    this.#held.delete(keyOf(entry))
    await client.configure({ device: dev, address, port, network, subnet, anySource })
    this.#held.put(entry)
  }

  async #setPeers(operations: readonly Operation[]): Promise<void> {
    if (operations.length === 0) return
    const entries = operations.flatMap(({ do: verb, entry }) => (entry.kind === 'relaypeer' ? [{ verb, entry }] : []))
    if (this.#client === undefined) throw new RelayClientError('relay-absent', 'there is no relay to tell')
    const set = entries.filter(({ verb }) => verb !== 'remove').map(({ entry }) => [entry.dst, entry.via] as const)
    const remove = entries.filter(({ verb }) => verb === 'remove').map(({ entry }) => entry.dst)
    await this.#client.peers(
      set.map(([dst, via]) => [dst, via]),
      remove,
    )
    for (const { verb, entry } of entries) {
      if (verb === 'remove') this.#held.delete(keyOf(entry))
      else this.#held.put(entry)
    }
  }

  async #connectOrStart(): Promise<RelayClient> {
    try {
      return await this.#connect()
    } catch (error) {
      if (error instanceof RelayClientError && error.code !== 'relay-absent') await this.#end(error.message)
    }
    const client = await startRelay(this.#options.program, this.#clientOptions())
    this.#options.onStart()
    return this.#take(client)
  }

  async #connect(): Promise<RelayClient> {
    const client = await RelayClient.open(this.#clientOptions())
    const { version } = client.hello
    if (version === this.#options.version) return this.#take(client)
    await client.stop().catch(() => client[Symbol.dispose]())
    throw new RelayClientError('relay-other-version', `the relay that runs is of version ${version}`)
  }

  #take(client: RelayClient): RelayClient {
    this.#client = client
    const { conf, peers } = client.hello
    this.#held = new NodeState()
    if (conf === null && peers.length === 0) return client
    const dev = conf?.device ?? 'flannel0'
    if (conf !== null) {
      const { address, port, network, subnet, anySource } = conf
      this.#held.put({ kind: 'relay', dev, address, port, network, subnet, anySource })
    }
    for (const [dst, via] of peers) this.#held.put({ kind: 'relaypeer', relay: dev, dst, via })
    return client
  }

  #clientOptions(): RelayClientOptions {
    const { socket, clock, onNote, onCounters } = this.#options
    return {
      socket,
      clock,
      onEvent: (event) => {
        if (event.event === 'counters') onCounters(event.counters, event.offloads)
        else if (event.event === 'note') onNote(event.level, event.message, event.fields)
        else this.#lost(event.why)
      },
      onClosed: (why) => this.#gone(why),
    }
  }

  /** The tunnel broke, the relay and its peers are still there. */
  #lost(why: string): void {
    this.#options.onNote('warn', 'the relay carries nothing any more', { why })
    for (const entry of this.#held.entries()) if (entry.kind === 'relay') this.#forget(entry)
    this.#changed()
  }

  #gone(why: string): void {
    this.#client = undefined
    this.#options.onNote('warn', 'the relay is gone', { why })
    for (const entry of this.#held.entries()) this.#forget(entry)
    this.#changed()
  }

  #forget(entry: Entry): void {
    const key = keyOf(entry)
    this.#held.delete(key)
    this.#changes.push({ what: 'gone', key })
  }

  async #stop(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    this.#held = new NodeState()
    try {
      await client?.stop()
    } catch {
      await killRelay(this.#options.socket)
    }
    client?.[Symbol.dispose]()
  }

  async #end(why: string): Promise<void> {
    if (await killRelay(this.#options.socket)) this.#options.onNote('warn', 'ended a relay that is of no use', { why })
  }
}
