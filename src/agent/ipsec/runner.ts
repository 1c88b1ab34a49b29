/**
 * Tells charon of peers: a key and a connection for each, and takes back what is ours and not wanted. A charon that was restarted knows nothing, and is told
 * all again.
 */

import type { IpsecConf } from '#flannel/ipsec/conf.ts'
import { connectionOf, PREFIX, section, sharedKey, textOf, type Connection } from '#flannel/ipsec/connection.ts'
import type { Lease } from '#flannel/lease.ts'
import type { Local } from '#flannel/local.ts'
import { RetrySchedule } from '#state/retry.ts'
import type { Clock } from '#sys/clock.ts'
import { ViciClient, ViciError } from '#vici/client.ts'
import { errorFields, type Log } from '../log.ts'

export interface IpsecRunnerOptions {
  readonly conf: IpsecConf
  /** charon's control socket. */
  readonly socket: string
  readonly clock: Clock
  readonly log: Log
  readonly onChange: (step: 'load' | 'unload', outcome: 'done' | 'failed') => void
  /** Why charon is not as it should be, or undefined. */
  readonly onState: (trouble: string | undefined) => void
}

/** Between two looks at what charon holds (ms). */
const LOOK = 30_000
const SESSION = '<session>'

export class IpsecRunner implements AsyncDisposable {
  readonly #options: IpsecRunnerOptions
  readonly #leases = new Map<string, Lease>()
  readonly #retries: RetrySchedule<string>
  readonly #look: Disposable
  /** What charon was told on this connection, by name. */
  readonly #loaded = new Map<string, string>()
  #wanted = new Map<string, Connection>()
  #local: Local | undefined
  #client: ViciClient | undefined
  #isListed = false
  #isTold = false
  #mustLook = true
  #working: Promise<void> | undefined
  #again = false
  #closed = false

  constructor(options: IpsecRunnerOptions) {
    this.#options = options
    this.#retries = new RetrySchedule(options.clock, () => this.#wake())
    this.#look = options.clock.interval(LOOK, () => {
      this.#mustLook = true
      this.#wake()
    })
  }

  /** Without charon no packet leaves for a peer, encrypted or not. */
  get absent(): string | undefined {
    return this.#isTold || this.#local === undefined ? undefined : 'charon has not been told of peers yet'
  }

  setLocal(local: Local): void {
    this.#local = local
    this.#wake()
  }

  setPeer(name: string, lease: Lease | undefined): void {
    if (lease === undefined) this.#leases.delete(name)
    else this.#leases.set(name, lease)
    this.#wake()
  }

  /** From now on connections of a former life that nobody told of may go. */
  removeLeftovers(): void {
    if (this.#isListed) return
    this.#isListed = true
    this.#mustLook = true
    this.#wake()
  }

  /** Connections and tunnels stay in charon: traffic outlives the agent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#look[Symbol.dispose]()
    this.#retries[Symbol.dispose]()
    this.#client?.[Symbol.dispose]()
    await this.#working
  }

  #wake(): void {
    if (this.#closed) return
    this.#again = true
    this.#working ??= this.#work().finally(() => (this.#working = undefined))
  }

  async #work(): Promise<void> {
    // What is told in one go is done in one go.
    await Promise.resolve()
    while (this.#again && !this.#closed) {
      this.#again = false
      try {
        if (await this.#settle()) this.#retries.forget(SESSION)
        else this.#retries.add(SESSION)
      } catch (error) {
        if (this.#closed) return
        this.#forget()
        this.#options.onState(errorFields(error).error)
        this.#options.log.warn(errorFields(error), 'charon could not be told of peers; trying again')
        this.#retries.add(SESSION)
      }
    }
  }

  #forget(): void {
    this.#client?.[Symbol.dispose]()
    this.#client = undefined
    this.#loaded.clear()
    this.#mustLook = true
  }

  /** False where charon has refused something. */
  async #settle(): Promise<boolean> {
    const own = this.#local?.[4]
    if (own === undefined) return true
    const { conf, onState } = this.#options
    this.#wanted = new Map(
      [...this.#leases.values()].flatMap((lease) => {
        const connection = connectionOf(own, lease, conf)
        return connection === undefined ? [] : [[connection.name, connection] as const]
      }),
    )
    const client = await this.#open()
    const held = this.#mustLook ? await this.#held(client) : undefined
    this.#mustLook = false
    for (const name of this.#loaded.keys()) if (held?.has(name) === false) this.#loaded.delete(name)
    const unwanted = new Set([...this.#loaded.keys(), ...(this.#isListed ? (held ?? []) : [])])
    for (const name of unwanted) if (!this.#wanted.has(name)) await this.#unload(client, name)
    let failed = 0
    for (const connection of this.#wanted.values()) if (!(await this.#load(client, connection))) failed++
    this.#isTold = true
    onState(failed === 0 ? undefined : `charon has refused ${failed} of ${this.#wanted.size} connections`)
    return failed === 0
  }

  async #open(): Promise<ViciClient> {
    if (this.#client !== undefined) return this.#client
    const client = await ViciClient.open(this.#options.socket)
    this.#client = client
    client.closed.catch(() => {
      if (this.#client !== client) return
      this.#forget()
      this.#wake()
    })
    return client
  }

  /** Names of our connections in charon. */
  async #held(client: ViciClient): Promise<ReadonlySet<string>> {
    const conns = await client.list('list-conns', 'list-conn')
    return new Set(conns.flatMap((conn) => [...conn.keys()]).filter((name) => name.startsWith(PREFIX)))
  }

  /** False where charon refuses this one. Throws where it is away. */
  async #load(client: ViciClient, connection: Connection): Promise<boolean> {
    const text = textOf(connection)
    if (this.#loaded.get(connection.name) === text) return true
    const { conf, onChange, log } = this.#options
    try {
      // Changed settings do not reach tunnels that are up.
      if (this.#loaded.has(connection.name)) await this.#unload(client, connection.name)
      await client.call('load-shared', sharedKey(connection, conf))
      await client.call('load-conn', connection.settings)
    } catch (error) {
      onChange('load', 'failed')
      if (!(error instanceof ViciError) || error.code !== 'refused') throw error
      log.warn({ connection: connection.name, ...errorFields(error) }, 'charon has refused a connection; trying again')
      return false
    }
    this.#loaded.set(connection.name, text)
    onChange('load', 'done')
    log.info({ connection: connection.name, owners: connection.owners }, 'told charon of a peer')
    if (connection.isCaller) await this.#call(client, connection.name)
    return true
  }

  /** Dials, and does not wait: a peer that is not there yet is dialled again by the first packet for it. */
  async #call(client: ViciClient, name: string): Promise<void> {
    try {
      await client.call('initiate', section({ child: name, ike: name, timeout: '-1' }))
    } catch (error) {
      if (!(error instanceof ViciError) || error.code !== 'refused') throw error
      this.#options.log.debug({ connection: name, ...errorFields(error) }, 'the tunnel comes with the first packet')
    }
  }

  async #unload(client: ViciClient, name: string): Promise<void> {
    this.#loaded.delete(name)
    // In this order: a connection that is gone is not dialled again. Each may be gone already.
    for (const [command, message] of [
      ['unload-conn', section({ name })],
      ['unload-shared', section({ id: name })],
      ['terminate', section({ ike: name, force: 'yes', timeout: '-1' })],
    ] as const)
      try {
        await client.call(command, message)
      } catch (error) {
        if (!(error instanceof ViciError) || error.code !== 'refused') throw error
        this.#options.log.debug({ connection: name, command, ...errorFields(error) }, 'there was nothing to take back')
      }
    this.#options.onChange('unload', 'done')
    this.#options.log.info({ connection: name }, 'charon has forgotten a peer')
  }
}
