/** The plugin's end of the daemon's socket. */

import { connect, type Socket } from 'node:net'

import { CniError, decodingFailure, ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { hasCode } from '#sys/errno.ts'
import { GobEncoder, type GobStruct, type GobValue } from './wire/gob.ts'
import { callType, callValue, CONNECT, requestType, type CallArgs } from './wire/rpc.ts'
import { RpcStream, write } from './daemon/rpc-stream.ts'

/** Nobody listens there. */
export class NoDaemonError extends Error {
  override readonly name = 'NoDaemonError'
  readonly code = 'no-daemon'
}

export interface RpcReply {
  /** The daemon's own words where it refused; '' for success. */
  readonly error: string
  readonly body: GobValue
}

/** Where a method is not known, the reference's daemon says so in its way. */
export const isUnknownMethod = ({ error }: RpcReply): boolean => /^rpc: can't find (service|method)/.test(error)

/** ms for a daemon to accept and greet. */
const GREETING_MS = 5000

/** One connection to a daemon. Calls one after the other. */
export class RpcClient implements Disposable {
  readonly #socket: Socket
  readonly #stream = new RpcStream()
  readonly #encoder = new GobEncoder()
  readonly #path: string
  #seq = 0
  #wake: (() => void) | undefined
  #failure: Error | undefined

  private constructor(path: string, socket: Socket) {
    this.#path = path
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#stream.push(chunk)
      this.#wake?.()
    })
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('the daemon closed the connection')))
  }

  /** Throws `NoDaemonError`, or CniError 11 for a daemon that accepts and says nothing. */
  static async open(path: string): Promise<RpcClient> {
    const socket = await connected(path)
    const client = new RpcClient(path, socket)
    try {
      write(socket, CONNECT)
      const head = await client.#until(() => client.#stream.head(), GREETING_MS)
      if (!/^HTTP\/1\.[01] 200 /.test(head))
        throw decodingFailure(`${path} is no DHCP daemon's socket`, `it says ${JSON.stringify(head.slice(0, 64))}`)
      return client
    } catch (error) {
      client[Symbol.dispose]()
      throw error
    }
  }

  /** Throws CniError 11 when no answer comes within `ms`, or the daemon goes away. */
  async call(method: string, args: CallArgs, ms: number): Promise<RpcReply> {
    const request: GobStruct = new Map<string, GobValue>([
      ['ServiceMethod', method],
      ['Seq', this.#seq++],
    ])
    write(this.#socket, this.#encoder.encode(requestType, request))
    write(this.#socket, this.#encoder.encode(callType, callValue(args)))
    const deadline = performance.now() + ms
    const head = await this.#until(() => this.#stream.next(), ms)
    const body = await this.#until(() => this.#stream.next(), deadline - performance.now())
    const error = head instanceof Map ? head.get('Error') : undefined
    return { error: typeof error === 'string' ? error : '', body }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#wake?.()
  }

  async #until<T>(look: () => T | undefined, ms: number): Promise<T> {
    const deadline = performance.now() + ms
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (this.#failure !== undefined)
        throw tryAgain(`the DHCP daemon at ${this.#path} went away`, messageOf(this.#failure))
      const left = deadline - performance.now()
      if (left <= 0)
        throw tryAgain(`the DHCP daemon at ${this.#path} did not answer in time`, 'the runtime will try again')
      await this.#more(left)
    }
  }

  #more(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ms)
    this.#wake = resolve
    return promise.finally(() => {
      clearTimeout(timer)
      this.#wake = undefined
    })
  }
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const timer = setTimeout(() => {
      socket.destroy()
      reject(tryAgain(`the DHCP daemon at ${path} accepts no connection`))
    }, GREETING_MS)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      const isAbsent = hasCode(error, 'ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'ENOTSOCK')
      reject(isAbsent ? new NoDaemonError(path) : ioFailure(`${path} cannot be reached`, messageOf(error)))
    })
  })
}

/** A refusal of the reference's daemon, which has no codes. */
export const refusal = ({ error }: RpcReply): CniError => new CniError('internal', error)
