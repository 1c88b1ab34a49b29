/** The daemon's socket. */

import { mkdirSync } from 'node:fs'
import { chmod, lstat, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'

import { CniError, ioFailure, messageOf, toCniError, tryAgain } from '#cni/errors.ts'
import type { Engine } from './engine.ts'
import { grantsOf } from './grant.ts'
import type { Log } from './keeper.ts'
import { answerOf, lineOf, MAX_LINE, readCall, type Answer, type Call } from './wire.ts'
import { checkFailed } from '../check-failed.ts'

export interface IpamServerOptions {
  readonly socketPath: string
  readonly engine: Engine
  readonly log: Log
  /** uid at the other end; without it the socket's mode alone keeps others out. */
  readonly uidOf?: ((socket: Socket) => number | undefined) | undefined
  /** After each answered call: metrics. */
  readonly onCall?: ((verb: Call['verb'], ok: boolean, ms: number) => void) | undefined
}

const MAX_CONNECTIONS = 1024
/** ms for a plugin to send its call, and to read the answer. */
const CALL_MS = 10_000
/** ms for everything: longer than any ADD waits. */
const WHOLE_MS = 70_000

export class IpamServer implements AsyncDisposable {
  readonly #options: IpamServerOptions
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #inode: number | undefined

  private constructor(options: IpamServerOptions) {
    this.#options = options
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket))
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** Throws CniError 11 where somebody answers on the socket already, 5 where it cannot be made. */
  static async listen(options: IpamServerOptions): Promise<IpamServer> {
    const made = new IpamServer(options)
    const { socketPath } = options
    try {
      made.#inode = await listenAt(made.#server, socketPath)
    } catch (error) {
      made.#server.close()
      if (error instanceof CniError) throw error
      throw ioFailure(`cannot listen on ${socketPath}`, messageOf(error), { cause: error })
    }
    return made
  }

  #accept(socket: Socket): void {
    const { uidOf, log } = this.#options
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
    const uid = uidOf?.(socket)
    if (uid !== undefined && uid !== 0 && uid !== process.getuid?.()) {
      log('warn', 'refused a call of another user', { uid })
      socket.destroy()
      return
    }
    const timer = setTimeout(() => socket.destroy(), WHOLE_MS).unref()
    socket.once('close', () => clearTimeout(timer))
    const gone = new AbortController()
    socket.once('close', () => gone.abort())
    let text = ''
    const late = setTimeout(() => socket.destroy(), CALL_MS).unref()
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end < 0 && text.length <= MAX_LINE) return
      clearTimeout(late)
      socket.removeAllListeners('data')
      // What comes behind the call is not for us; it must be read all the same, or the close is not heard of.
      socket.resume()
      void this.#answer(text.slice(0, end < 0 ? 0 : end), gone.signal).then((answer) => socket.end(lineOf(answer)))
    })
  }

  async #answer(line: string, signal: AbortSignal): Promise<Answer> {
    const started = performance.now()
    let verb: Call['verb'] | undefined
    let answer: Answer
    try {
      const call = readCall(line)
      verb = call.verb
      answer = await this.#serve(call, signal)
    } catch (error) {
      if (!(error instanceof CniError)) this.#options.log('error', `a call failed: ${messageOf(error)}`, {})
      answer = answerOf(toCniError(error))
    }
    if (verb !== undefined) this.#options.onCall?.(verb, answer.ok, performance.now() - started)
    return answer
  }

  async #serve(call: Call, signal: AbortSignal): Promise<Answer> {
    const { engine } = this.#options
    switch (call.verb) {
      case 'ADD': {
        const addresses = await engine.allocate(call, signal)
        if (engine.facts === undefined) throw tryAgain('the port of this node is not found yet')
        return { ok: true, grants: grantsOf(addresses, engine.facts) }
      }
      case 'DEL':
        await engine.release(call)
        return { ok: true, grants: [] }
      case 'CHECK': {
        const held = engine.heldBy(call)
        if (held.length === 0 || engine.facts === undefined)
          throw checkFailed(`neutron-ipam: container ${call.containerId} interface ${call.ifname} holds no address`)
        return { ok: true, grants: grantsOf(held, engine.facts) }
      }
      case 'STATUS':
        engine.status()
        return { ok: true, grants: [] }
      case 'GC':
        await engine.collect(call.network, call.valid)
        return { ok: true, grants: [] }
      default:
        throw new Error('no such verb')
    }
  }

  /** Takes no more calls, cuts those that run, removes the socket unless a successor's is there. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
    const { socketPath } = this.#options
    const { ino } = await lstat(socketPath).catch(() => ({ ino: undefined }))
    if (ino === this.#inode) await rm(socketPath, { force: true })
  }
}

/** On a fresh name first, so that the socket is never there with another mode than 0600. */
async function listenAt(server: Server, path: string): Promise<number> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  if (await answers(path))
    throw tryAgain(`another daemon answers on ${path}`, 'stop it, or give this one another socket')
  const fresh = `${path}.${process.pid}`
  await rm(fresh, { force: true })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ path: fresh, backlog: 1024 }, resolve)
  await promise
  await chmod(fresh, 0o600)
  await rename(fresh, path)
  return (await lstat(path)).ino
}

async function answers(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return false
  if (!found.isSocket())
    throw ioFailure(`${path} is there and is no socket`, 'remove it, or give the daemon another path')
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
}
