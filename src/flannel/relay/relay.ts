/**
 * The relay as a process: one tunnel, told by the agent what to carry. It outlives the agent: while nobody is connected it goes on as it was told.
 *
 * It ends when it is told to, on SIGTERM, or when its socket's file is gone, because then nobody can ever speak to it again.
 */

import { chmodSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'

import { nativeSys } from '#sys/addon.ts'
import { tryLockFile, type FileLock } from '#sys/flock.ts'
import { newCounters } from '../udp/counters.ts'
import { PeerIndex } from '../udp/peers.ts'
import { Tunnel, type TunnelConf } from '../udp/tunnel.ts'
import type { NoteLevel } from './levels.ts'
import { lockOf } from './start.ts'
import { line, LineReader, parseRequest, PROTOCOL, type Event, type Request } from './protocol.ts'

export interface RelayOptions {
  readonly socket: string
  readonly version: string
  /** Which offloads to ask for. */
  readonly offload: { readonly device: boolean; readonly socket: boolean }
  /** Ends after so long without an agent; never when undefined. For tests, whose agents do not come back. */
  readonly lingerMs?: number
}

export class RelayError extends Error {
  override readonly name = 'RelayError'
  readonly code = 'relay-running'
}

const TICK_MS = 1000
/** Notes that are kept while nobody listens. */
const MAX_NOTES = 50

export class Relay implements Disposable {
  readonly done: Promise<void>
  readonly #options: RelayOptions
  readonly #peers = new PeerIndex()
  readonly #counters = newCounters()
  readonly #lock: FileLock
  readonly #server: Server
  readonly #tick: NodeJS.Timeout
  readonly #file: bigint
  readonly #notes: Event[] = []
  readonly #finish: () => void
  #conf: TunnelConf | undefined
  #tunnel: Tunnel | undefined
  #agent: Socket | undefined
  #aloneSince = performance.now()

  private constructor(options: RelayOptions, lock: FileLock, server: Server) {
    this.#options = options
    this.#lock = lock
    this.#server = server
    this.#file = statSync(options.socket, { bigint: true }).ino
    const { promise, resolve } = Promise.withResolvers<void>()
    this.done = promise
    this.#finish = resolve
    server.on('connection', (socket) => this.#welcome(socket))
    this.#tick = setInterval(() => this.#onTick(), TICK_MS)
  }

  /** Listens. Throws `RelayError` when another relay has the place. */
  static async open(options: RelayOptions): Promise<Relay> {
    const { socket } = options
    mkdirSync(dirname(socket), { recursive: true, mode: 0o700 })
    const lock = tryLockFile(lockOf(socket))
    if (lock === undefined)
      throw new RelayError(`another relay holds ${lockOf(socket)}: it ends when it is told to stop`)
    writeFileSync(lockOf(socket), `${process.pid}\n`)
    rmSync(socket, { force: true })
    const server = createServer()
    const before = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(socket, resolve)
      })
    } finally {
      process.umask(before)
    }
    chmodSync(socket, 0o600)
    return new Relay(options, lock, server)
  }

  /** Ends everything but the device, which stays for the next. */
  [Symbol.dispose](): void {
    clearInterval(this.#tick)
    this.#tunnel?.[Symbol.dispose]()
    this.#tunnel = undefined
    this.#agent?.destroy()
    this.#server.close()
    if (this.#hasFile()) rmSync(this.#options.socket, { force: true })
    this.#lock[Symbol.dispose]()
    this.#finish()
  }

  /** The last who comes is the agent; one before it is gone or hangs. Only the same user can reach the socket. */
  #welcome(socket: Socket): void {
    this.#agent?.destroy()
    this.#agent = socket
    const reader = new LineReader()
    socket.setEncoding('utf8')
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (this.#agent !== socket) return
      this.#agent = undefined
      this.#aloneSince = performance.now()
    })
    socket.on('data', (chunk: string) => {
      try {
        for (const text of reader.take(chunk)) this.#answer(parseRequest(text))
      } catch (error) {
        this.#note('error', `what the agent said cannot be understood: ${messageOf(error)}`)
        socket.destroy()
      }
    })
    this.#tell({
      event: 'hello',
      protocol: PROTOCOL,
      version: this.#options.version,
      pid: process.pid,
      conf: this.#tunnel === undefined ? null : (this.#conf ?? null),
      peers: [...this.#peers.peers()].map(({ subnet, address }) => [subnet, address]),
    })
    for (const note of this.#notes.splice(0)) this.#tell(note)
  }

  #answer(request: Request): void {
    const { id } = request
    try {
      this.#do(request)
      this.#tell({ event: 'answer', id, error: null })
    } catch (error) {
      const code: unknown = error instanceof Error ? Object.getOwnPropertyDescriptor(error, 'code')?.value : undefined
      const known = typeof code === 'string' ? code : 'failed'
      this.#tell({ event: 'answer', id, error: { code: known, message: messageOf(error) } })
    }
    if (request.do === 'stop') this.#agent?.end(() => this[Symbol.dispose]())
  }

  #do(request: Request): void {
    switch (request.do) {
      case 'configure':
        this.#configure(request.conf)
        return
      case 'peers':
        for (const subnet of request.remove) this.#peers.delete(subnet)
        for (const [subnet, address] of request.set) this.#peers.set(subnet, address)
        return
      case 'stop':
        return
      default:
        request satisfies never
    }
  }

  #configure(conf: TunnelConf): void {
    this.#tunnel?.[Symbol.dispose]()
    this.#tunnel = undefined
    this.#conf = conf
    this.#tunnel = new Tunnel({
      conf,
      peers: this.#peers,
      counters: this.#counters,
      offload: this.#options.offload,
      sys: nativeSys(),
      onLost: (why) => {
        this.#tunnel = undefined
        this.#tell({ event: 'lost', why })
      },
      onNote: (message, fields) => this.#note('warn', message, fields),
    })
    const { tcp, udp, send, receive } = this.#tunnel.offloads()
    const say = (on: boolean): string => (on ? 'on' : 'off')
    this.#note('info', 'the relay carries packets', {
      device: conf.device,
      address: `${conf.address}:${conf.port}`,
      tcpSegments: say(tcp),
      udpSegments: say(udp),
      sendTrains: say(send),
      receiveTrains: say(receive),
    })
  }

  #onTick(): void {
    const { lingerMs } = this.#options
    if (!this.#hasFile()) return this[Symbol.dispose]()
    if (this.#agent === undefined) {
      if (lingerMs !== undefined && performance.now() - this.#aloneSince > lingerMs) this[Symbol.dispose]()
      return
    }
    this.#tell({ event: 'counters', counters: this.#counters, offloads: this.#tunnel?.offloads() ?? null })
  }

  #hasFile(): boolean {
    return statSync(this.#options.socket, { bigint: true, throwIfNoEntry: false })?.ino === this.#file
  }

  #note(level: NoteLevel, message: string, fields: Readonly<Record<string, string | number>> = {}): void {
    const note: Event = { event: 'note', level, message, fields }
    if (this.#agent !== undefined) this.#tell(note)
    else if (this.#notes.push(note) > MAX_NOTES) this.#notes.shift()
  }

  #tell(event: Event): void {
    const agent = this.#agent
    if (agent === undefined || agent.destroyed) return
    // An agent that does not read is stopped or hangs; it may connect again.
    if (agent.writableLength > 1 << 20) agent.destroy()
    else agent.write(line(event))
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
