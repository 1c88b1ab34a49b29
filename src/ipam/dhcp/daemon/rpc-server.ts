/** The daemon's socket: Go's net/rpc, for the reference's plugin and for ours. */

import { mkdirSync } from 'node:fs'
import { chmod, lstat, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'

import { CniError, ioFailure, messageOf, toCniError, tryAgain } from '#cni/errors.ts'
import { encodeResult } from '#cni/result/encode.ts'
import { GobEncoder, GobError, type GobType, type GobValue } from '../wire/gob.ts'
import {
  answerType,
  CONNECTED,
  emptyType,
  errorValue,
  readCall,
  responseType,
  resultType,
  resultValue,
  type CallArgs,
} from '../wire/rpc.ts'
import type { DhcpDaemon } from './daemon.ts'
import type { Log } from './deps.ts'
import { RpcStream, write } from './rpc-stream.ts'

export interface RpcServerOptions {
  readonly socketPath: string
  readonly daemon: DhcpDaemon
  readonly log: Log
  /** An open listening socket (systemd's socket activation) instead of the path. */
  readonly fd?: number | undefined
  /** uid at the other end; without it the socket's mode alone keeps others out. */
  readonly uidOf?: ((socket: Socket) => number | undefined) | undefined
}

/** Plugins that are served at the same time. */
const MAX_CONNECTIONS = 1024
/** ms for a plugin to send its call. */
const CALL_MS = 10_000
/** ms without a word in either direction: longer than any call waits for a server. */
const IDLE_MS = 900_000
/** Calls on one connection: a plugin makes one, or two when it asks what the daemon can. */
const MAX_CALLS = 16

export class RpcServer implements AsyncDisposable {
  readonly #server: Server
  readonly #options: RpcServerOptions
  readonly #sockets = new Set<Socket>()
  #inode: number | undefined

  private constructor(options: RpcServerOptions) {
    this.#options = options
    this.#server = createServer((socket) => this.#serve(socket))
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** Throws CniError 5 where somebody answers on the socket already, or it cannot be made. */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    const made = new RpcServer(options)
    try {
      if (options.fd !== undefined) await listening(made.#server, { fd: options.fd })
      else made.#inode = await listenAt(made.#server, options.socketPath)
    } catch (error) {
      made.#server.close()
      if (error instanceof CniError) throw error
      throw ioFailure(`cannot listen on ${options.socketPath}`, messageOf(error), { cause: error })
    }
    return made
  }

  /** Takes no more calls, cuts those that run, removes the socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve()
      })
    })
    for (const socket of this.#sockets) socket.destroy()
    await closed
    if (this.#inode === undefined) return
    const { ino } = await lstat(this.#options.socketPath).catch(() => ({ ino: undefined }))
    // A successor may have put its own in place already.
    if (ino === this.#inode) await rm(this.#options.socketPath, { force: true })
  }

  #serve(socket: Socket): void {
    const { uidOf, log } = this.#options
    this.#sockets.add(socket)
    socket.on('error', () => {})
    const uid = uidOf?.(socket)
    if (uid !== undefined && uid !== 0 && uid !== process.getuid?.()) {
      log('warn', `dhcp: a call of user ${uid} is refused`)
      socket.destroy()
    }
    const gone = new AbortController()
    const stream = new RpcStream()
    const encoder = new GobEncoder()
    const state: { isConnected: boolean; request: { method: string; seq: number } | undefined; calls: number } = {
      isConnected: false,
      request: undefined,
      calls: 0,
    }
    const deadline = setTimeout(() => socket.destroy(), CALL_MS)
    socket.setTimeout(IDLE_MS, () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(deadline)
      this.#sockets.delete(socket)
      gone.abort(new Error('the plugin went away'))
    })
    const take = (): void => {
      if (!state.isConnected) {
        const head = stream.head()
        if (head === undefined) return
        if (!head.startsWith('CONNECT /_goRPC_ ')) {
          socket.end('HTTP/1.0 405 Method Not Allowed\r\n\r\n')
          return
        }
        state.isConnected = true
        write(socket, CONNECTED)
      }
      for (let value = stream.next(); value !== undefined; value = stream.next()) {
        const { request } = state
        if (request === undefined) {
          state.request = requestOf(value)
          continue
        }
        state.request = undefined
        clearTimeout(deadline)
        if (++state.calls > MAX_CALLS) throw new GobError('too-long', `more than ${MAX_CALLS} calls`)
        const body = value
        void this.#answer(request, body, gone.signal, (reply) => {
          write(socket, encoder.encode(responseType, reply.head))
          write(socket, encoder.encode(reply.type, reply.body))
        })
      }
    }
    socket.on('data', (chunk: Buffer) => {
      try {
        stream.push(chunk)
        take()
      } catch (error) {
        log('warn', `dhcp: a call that cannot be read: ${messageOf(error)}`)
        socket.destroy()
      }
    })
  }

  async #answer(
    { method, seq }: { readonly method: string; readonly seq: number },
    body: GobValue,
    signal: AbortSignal,
    reply: (answer: { head: GobValue; type: GobType; body: GobValue }) => void,
  ): Promise<void> {
    const head = (error = ''): GobValue =>
      new Map<string, GobValue>([
        ['ServiceMethod', method],
        ['Seq', seq],
        ['Error', error],
      ])
    const [service] = method.split('.')
    try {
      const call = readCall(body)
      const { type, value } = await this.#run(method, call, signal)
      reply({ head: head(), type, body: value })
    } catch (thrown) {
      const error = toCniError(thrown)
      if (service === 'Heddle') reply({ head: head(), type: answerType, body: errorValue(error) })
      else reply({ head: head(error.message), type: emptyType, body: new Map() })
    }
  }

  async #run(method: string, call: CallArgs, signal: AbortSignal): Promise<{ type: GobType; value: GobValue }> {
    const { daemon } = this.#options
    const done = { type: answerType, value: new Map<string, GobValue>() }
    switch (method) {
      case 'DHCP.Allocate':
        return { type: resultType, value: resultValue(await daemon.allocate(call, signal)) }
      case 'DHCP.Release':
        await daemon.release(call)
        return { type: emptyType, value: new Map() }
      case 'Heddle.Allocate': {
        const result = JSON.stringify(encodeResult(await daemon.allocate(call, signal), '1.1.0'))
        return { type: answerType, value: new Map([['Result', result]]) }
      }
      case 'Heddle.Release':
        await daemon.release(call)
        return done
      case 'Heddle.Check':
        await daemon.check(call)
        return done
      case 'Heddle.Status':
        daemon.status()
        return done
      case 'Heddle.Collect':
        await daemon.collect(call)
        return done
      default:
        throw tryAgain(`rpc: can't find method ${method.slice(0, 64)}`)
    }
  }
}

function requestOf(value: GobValue): { method: string; seq: number } {
  const method = value instanceof Map ? value.get('ServiceMethod') : undefined
  // Go leaves out a number that is 0.
  const seq = value instanceof Map ? (value.get('Seq') ?? 0) : undefined
  if (typeof method !== 'string' || typeof seq !== 'number') throw new GobError('malformed', 'no request')
  return { method, seq }
}

function listening(server: Server, where: { readonly path: string } | { readonly fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...where, backlog: 1024 }, () => {
      resolve()
    })
  })
}

/** On a fresh name first, so that the socket never has the wrong mode. The inode of the socket. */
async function listenAt(server: Server, path: string): Promise<number> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const found = await lstat(path).catch(() => undefined)
  if (found !== undefined && !found.isSocket())
    throw ioFailure(`${path} is there and is no socket`, 'remove it, or choose another path')
  if (found !== undefined && (await isAnswered(path)))
    throw ioFailure(`another DHCP daemon answers on ${path}`, 'stop it, or choose another path')
  const fresh = `${path}.${process.pid}`
  await rm(fresh, { force: true })
  await listening(server, { path: fresh })
  await chmod(fresh, 0o600)
  await rename(fresh, path)
  return (await lstat(path)).ino
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
}
