/** A connection to the system's message bus: calls methods, one after the other. Like `busctl call`. */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

import { MAX_MESSAGE, messageLength, readReply, writeCall, type Call, type Reply, type Value } from './wire.ts'

export type DbusErrorCode =
  /** There is no bus, or it does not let us in. */
  | 'no-bus'
  /** No answer in time. */
  | 'timeout'
  /** The service answered with an error; `remote` is its name. */
  | 'refused'
  /** The connection broke, or spoke something else than D-Bus. */
  | 'broken'

export class DbusError extends Error {
  override readonly name = 'DbusError'
  readonly code: DbusErrorCode
  /** `org.freedesktop.DBus.Error.ServiceUnknown`, … */
  readonly remote: string | undefined

  constructor(
    code: DbusErrorCode,
    message: string,
    details: { readonly remote?: string; readonly cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.remote = details.remote
  }
}

/** Where the system's bus listens. Source: D-Bus Specification, "Standard Message Bus". */
export const SYSTEM_BUS = '/run/dbus/system_bus_socket'

const DEADLINE_MS = 10_000
const MAX_LINE = 1024

export class Bus implements Disposable {
  readonly #socket: Socket
  #received: Buffer = Buffer.alloc(0)
  #serial = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      if (this.#received.length > 2 * MAX_MESSAGE) socket.destroy()
    })
    socket.on('error', () => undefined)
  }

  /** Connects and introduces itself with the process's user id. Throws DbusError `no-bus`, `timeout`, `broken`. */
  static async open(path: string = SYSTEM_BUS): Promise<Bus> {
    const socket = connect({ path })
    const bus = new Bus(socket)
    try {
      const signal = AbortSignal.timeout(DEADLINE_MS)
      await once(socket, 'connect', { signal })
      const user = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex')
      socket.write(`\0AUTH EXTERNAL ${user}\r\n`)
      const answer = await bus.#line(signal)
      if (!answer.startsWith('OK ')) throw new DbusError('no-bus', `the bus at ${path} does not let us in: ${answer}`)
      socket.write('BEGIN\r\n')
      await bus.call({ ...BUS, member: 'Hello', args: [] })
      return bus
    } catch (error) {
      bus[Symbol.dispose]()
      if (error instanceof DbusError) throw error
      const why = error instanceof Error ? error.message : String(error)
      throw new DbusError('no-bus', `no message bus answers at ${path}: ${why}`, { cause: error })
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  /** Whether a service is there, without starting it. */
  async hasOwner(name: string): Promise<boolean> {
    const [owned] = await this.call({ ...BUS, member: 'NameHasOwner', args: [name] })
    return owned === true
  }

  /** Calls a method; what it returned. Throws DbusError. */
  async call(call: Call): Promise<readonly Value[]> {
    const serial = ++this.#serial
    this.#socket.write(writeCall(serial, call))
    const signal = AbortSignal.timeout(DEADLINE_MS)
    for (;;) {
      const reply = await this.#reply(signal, call)
      if (reply?.to !== serial) continue
      if (reply.type === 'return') return reply.body
      const [text] = reply.body
      throw new DbusError('refused', typeof text === 'string' ? text : reply.error, { remote: reply.error })
    }
  }

  /** The next message; undefined for one that is no answer. */
  async #reply(signal: AbortSignal, call: Call): Promise<Reply | undefined> {
    try {
      let length = messageLength(this.#received)
      while (length === undefined || this.#received.length < length) {
        await this.#more(signal)
        length = messageLength(this.#received)
      }
      const reply = readReply(this.#received.subarray(0, length))
      this.#received = this.#received.subarray(length)
      return reply
    } catch (error) {
      this.#socket.destroy()
      if (signal.aborted)
        throw new DbusError(
          'timeout',
          `${call.destination} did not answer ${call.member} within ${DEADLINE_MS / 1000} s`,
        )
      throw new DbusError('broken', `the connection to the message bus broke during ${call.member}`, { cause: error })
    }
  }

  async #line(signal: AbortSignal): Promise<string> {
    for (;;) {
      const end = this.#received.indexOf('\r\n')
      if (end >= 0) {
        const line = this.#received.toString('latin1', 0, end)
        this.#received = this.#received.subarray(end + 2)
        return line
      }
      if (this.#received.length > MAX_LINE) throw new DbusError('broken', 'the message bus answers with no line')
      await this.#more(signal)
    }
  }

  async #more(signal: AbortSignal): Promise<void> {
    if (this.#socket.destroyed || this.#socket.readableEnded) throw new Error('the connection was closed')
    const over = new AbortController()
    try {
      const ended = once(this.#socket, 'close', { signal: over.signal }).then(() => {
        throw new Error('the connection was closed')
      })
      await Promise.race([once(this.#socket, 'data', { signal }), ended])
    } finally {
      over.abort()
    }
  }
}

const BUS = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const
