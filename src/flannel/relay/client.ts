/** The agent's end of the socket to the relay. */

import { connect, type Socket } from 'node:net'

import type { Clock } from '#sys/clock.ts'
import type { TunnelConf } from '../udp/tunnel.ts'
import { line, LineReader, parseEvent, PROTOCOL, type Event, type PeerPair, type Request } from './protocol.ts'

export class RelayClientError extends Error {
  override readonly name = 'RelayClientError'
  /** `relay-…`: about the relay; else the code of what the relay could not do, such as EADDRINUSE. */
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

type Hello = Extract<Event, { event: 'hello' }>
type Ask<R = Request> = R extends Request ? Omit<R, 'id'> : never

export interface RelayClientOptions {
  readonly socket: string
  readonly clock: Clock
  /** What the relay tells by itself, `lost` and `closed` included. */
  readonly onEvent: (event: Exclude<Event, { event: 'hello' | 'answer' }>) => void
  /** The relay is gone, or says nothing any more. */
  readonly onClosed: (why: string) => void
}

const HELLO_MS = 5000
const ANSWER_MS = 5000
/** It speaks every second; a machine may be busy. */
const SILENCE_MS = 10_000

export class RelayClient implements Disposable {
  readonly hello: Hello
  readonly #socket: Socket
  readonly #options: RelayClientOptions
  readonly #waiting = new Map<number, (error: Error | undefined) => void>()
  readonly #watchdog: Disposable
  #heard: number
  #next = 1
  #why = 'the connection to the relay was closed'
  #isOpen = true

  private constructor(socket: Socket, hello: Hello, options: RelayClientOptions) {
    this.#socket = socket
    this.hello = hello
    this.#options = options
    this.#heard = options.clock.now()
    socket.on('close', () => this.#closed())
    this.#watchdog = options.clock.interval(SILENCE_MS / 2, () => {
      if (options.clock.now() - this.#heard < SILENCE_MS) return
      this.#why = `the relay has said nothing for ${SILENCE_MS / 1000} s`
      socket.destroy()
    })
  }

  /** Connects to a running relay. Throws `RelayClientError` `relay-absent`, `relay-silent`, `relay-other-version`. */
  static async open(options: RelayClientOptions): Promise<RelayClient> {
    const socket = connect(options.socket)
    socket.setEncoding('utf8')
    const reader = new LineReader()
    let client: RelayClient | undefined
    const hello = Promise.withResolvers<Hello>()
    const take = (event: Event): void => {
      if (event.event === 'hello') hello.resolve(event)
      else client?.take(event)
    }
    // What follows the greeting in the same chunk comes before the client is there.
    const early: Event[] = []
    socket.on('data', (chunk: string) => {
      try {
        for (const text of reader.take(chunk)) {
          const event = parseEvent(text)
          if (client === undefined && event.event !== 'hello') early.push(event)
          else take(event)
        }
      } catch (error) {
        hello.reject(error instanceof Error ? error : new Error(String(error)))
        socket.destroy()
      }
    })
    socket.on('error', (error) => {
      hello.reject(new RelayClientError('relay-absent', `no relay answers at ${options.socket}: ${error.message}`))
    })
    socket.on('close', () =>
      hello.reject(new RelayClientError('relay-absent', `the relay at ${options.socket} closed`)),
    )
    const late = setTimeout(() => {
      hello.reject(
        new RelayClientError('relay-silent', `the relay at ${options.socket} did not greet within ${HELLO_MS} ms`),
      )
    }, HELLO_MS)
    try {
      const greeting = await hello.promise
      if (greeting.protocol !== PROTOCOL)
        throw new RelayClientError(
          'relay-other-version',
          `the relay speaks protocol ${greeting.protocol}, we ${PROTOCOL}`,
        )
      client = new RelayClient(socket, greeting, options)
      for (const event of early) client.take(event)
      return client
    } catch (error) {
      socket.destroy()
      throw error
    } finally {
      clearTimeout(late)
    }
  }

  configure(conf: TunnelConf): Promise<void> {
    return this.#ask({ do: 'configure', conf })
  }

  peers(set: readonly PeerPair[], remove: readonly PeerPair[0][]): Promise<void> {
    return this.#ask({ do: 'peers', set: [...set], remove: [...remove] })
  }

  /** Resolves when it has ended. */
  async stop(): Promise<void> {
    const gone = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    await this.#ask({ do: 'stop' })
    await gone
  }

  /** Lets go of the relay, which goes on. */
  [Symbol.dispose](): void {
    this.#isOpen = false
    this.#socket.destroy()
    this.#watchdog[Symbol.dispose]()
  }

  take(event: Event): void {
    this.#heard = this.#options.clock.now()
    if (event.event === 'hello') return
    if (event.event !== 'answer') return this.#options.onEvent(event)
    const waiting = this.#waiting.get(event.id)
    this.#waiting.delete(event.id)
    waiting?.(
      event.error === null ? undefined : new RelayClientError(event.error.code, `the relay: ${event.error.message}`),
    )
  }

  #ask(request: Ask): Promise<void> {
    const id = this.#next++
    return new Promise<void>((resolve, reject) => {
      if (!this.#isOpen || this.#socket.destroyed) return reject(new RelayClientError('relay-absent', this.#why))
      const late = setTimeout(() => {
        this.#waiting.delete(id)
        this.#why = `the relay did not answer within ${ANSWER_MS} ms`
        reject(new RelayClientError('relay-silent', this.#why))
        this.#socket.destroy()
      }, ANSWER_MS)
      this.#waiting.set(id, (error) => {
        clearTimeout(late)
        if (error === undefined) resolve()
        else reject(error)
      })
      this.#socket.write(line({ ...request, id }))
    })
  }

  #closed(): void {
    this.#watchdog[Symbol.dispose]()
    for (const waiting of this.#waiting.values()) waiting(new RelayClientError('relay-absent', this.#why))
    this.#waiting.clear()
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#options.onClosed(this.#why)
  }
}
