/** A connection to strongSwan's charon: one command after the other, each with a deadline. */

import { connect, type Socket } from 'node:net'

import { isList, type ViciSection, type ViciValue } from './message.ts'
import { encodePacket, PacketStream, type Packet, type PacketType } from './packet.ts'

/** `away`: charon does not run, or went; `silent`: no answer in time; `refused`: it said no; `unknown`: this charon has no such command. */
export type ViciErrorCode = 'away' | 'silent' | 'refused' | 'unknown'

export class ViciError extends Error {
  override readonly name = 'ViciError'
  readonly code: ViciErrorCode

  constructor(code: ViciErrorCode, message: string, remedy: string) {
    super(`${message}; ${remedy}`)
    this.code = code
  }
}

const DEADLINE = 10_000
const MAX_WAITING = 64
const MAX_EVENTS = 100_000
const START = 'check that strongSwan runs (charon-systemd, or charon) and that its plugin vici listens there'

interface Waiting {
  readonly types: readonly PacketType[]
  readonly event: string | undefined
  readonly events: ViciSection[]
  readonly resolve: (packet: Packet) => void
}

export class ViciClient implements Disposable {
  readonly #socket: Socket
  readonly #path: string
  readonly #closed = Promise.withResolvers<never>()
  #trouble: Error | undefined
  #waiting: Waiting | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #queued = 0

  private constructor(path: string, socket: Socket) {
    this.#path = path
    this.#socket = socket
    const stream = new PacketStream()
    this.#closed.promise.catch(() => undefined)
    socket.on('data', (chunk) => {
      try {
        for (const packet of stream.feed(chunk)) this.#take(packet)
      } catch (error) {
        this.#end(error instanceof Error ? error : new Error(String(error)))
      }
    })
    socket.on('error', (error) => this.#end(new ViciError('away', `${path}: ${error.message}`, START)))
    socket.on('close', () => this.#end(new ViciError('away', `${path}: charon has closed the connection`, START)))
  }

  /** Throws ViciError `away`. */
  static async open(path: string): Promise<ViciClient> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const socket = connect(path)
    socket.setTimeout(DEADLINE, () => socket.destroy(new Error('no connection in time')))
    socket.once('error', (error) => reject(new ViciError('away', `${path}: ${error.message}`, START)))
    socket.once('connect', () => resolve())
    await promise
    socket.setTimeout(0)
    return new ViciClient(path, socket)
  }

  /** Rejects when the connection ends. */
  get closed(): Promise<never> {
    return this.#closed.promise
  }

  /** The answer. Throws ViciError; an answer that says `success = no` is `refused`. */
  async call(command: string, message: ViciSection = new Map(), deadline = DEADLINE): Promise<ViciSection> {
    return this.#inTurn(async () => succeeded(command, await this.#request(command, message, undefined, [], deadline)))
  }

  /** Like `call`, for commands that tell by events: `list-conns` by `list-conn`. */
  async list(command: string, event: string, message: ViciSection = new Map()): Promise<readonly ViciSection[]> {
    return this.#inTurn(async () => {
      const events: ViciSection[] = []
      await this.#exchange(
        encodePacket('register', event),
        event,
        ['confirm', 'unknownEvent'],
        undefined,
        events,
        DEADLINE,
      )
      try {
        succeeded(command, await this.#request(command, message, event, events, DEADLINE))
      } finally {
        if (this.#trouble === undefined)
          await this.#exchange(
            encodePacket('unregister', event),
            event,
            ['confirm', 'unknownEvent'],
            undefined,
            [],
            DEADLINE,
          )
      }
      return events
    })
  }

  [Symbol.dispose](): void {
    this.#end(new ViciError('away', `${this.#path}: the connection is closed`, START))
    this.#socket.destroy()
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#queued >= MAX_WAITING)
      throw new ViciError('silent', `${this.#queued} commands wait for charon`, 'try again')
    this.#queued++
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => undefined)
    try {
      return await result
    } finally {
      this.#queued--
    }
  }

  async #request(
    command: string,
    message: ViciSection,
    event: string | undefined,
    events: ViciSection[],
    deadline: number,
  ): Promise<ViciSection> {
    const packet = encodePacket('request', command, message)
    return (await this.#exchange(packet, command, ['response', 'unknownCommand'], event, events, deadline)).message
  }

  async #exchange(
    packet: Buffer,
    what: string,
    types: readonly PacketType[],
    event: string | undefined,
    events: ViciSection[],
    deadline: number,
  ): Promise<Packet> {
    if (this.#trouble !== undefined) throw this.#trouble
    const { promise, resolve } = Promise.withResolvers<Packet>()
    this.#waiting = { types, event, events, resolve }
    this.#socket.write(packet)
    const timer = setTimeout(
      () => this.#end(new ViciError('silent', `charon has not answered ${what} within ${deadline / 1000} s`, START)),
      deadline,
    )
    try {
      const answer = await Promise.race([promise, this.#closed.promise])
      if (answer.type.startsWith('unknown'))
        throw new ViciError('unknown', `charon knows no ${what}`, 'install a newer strongSwan')
      return answer
    } finally {
      clearTimeout(timer)
      this.#waiting = undefined
    }
  }

  #take(packet: Packet): void {
    const waiting = this.#waiting
    if (packet.type === 'event') {
      if (waiting?.event === packet.name && waiting.events.length < MAX_EVENTS) waiting.events.push(packet.message)
    } else if (waiting?.types.includes(packet.type) === true) waiting.resolve(packet)
    else this.#end(new ViciError('refused', 'charon has sent an answer that nobody asked for', 'it is connected anew'))
  }

  #end(error: Error): void {
    if (this.#trouble !== undefined) return
    this.#trouble = error
    this.#closed.reject(error)
    this.#socket.destroy()
  }
}

function succeeded(command: string, answer: ViciSection): ViciSection {
  const { success, errmsg } = { success: answer.get('success'), errmsg: answer.get('errmsg') }
  if (success === undefined || success === 'yes') return answer
  throw new ViciError('refused', `charon has refused ${command}: ${said(errmsg)}`, 'its own log says more')
}

const said = (value: ViciValue | undefined): string =>
  value === undefined || typeof value !== 'string' || isList(value)
    ? 'it does not say why'
    : value.replaceAll(/[\p{C}\s]+/gu, ' ').slice(0, 200)
