/** The agent's side of the shim: a unix socket that answers CNI calls from this process's own plugins. */

import { mkdirSync } from 'node:fs'
import { chmod, lstat, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'

import { CniError, internalError, messageOf, tryAgain } from '#cni/errors.ts'
import { netnsIdentity, ownNetnsIdentity } from '#cni/netns.ts'
import { pluginHost, type HostBase } from '#cni/runtime/delegate.ts'
import type { PluginRegistry } from '#cni/runtime/find.ts'
import { failure, runPlugin, type Answer, type Call } from '#cni/shell.ts'
import { fromCaller } from './caller-path.ts'
import { decodeCall, encodeAnswer, encodeElsewhere, frameLength, ProtocolError, type CallFrame } from './protocol.ts'
import { createWork } from './work.ts'

export interface CniServerOptions {
  readonly socketPath: string
  readonly registry: PluginRegistry
  readonly host: HostBase
  /** uid and pid at the other end of a connection; without it the socket's mode alone keeps others out. */
  readonly peerOf?: (socket: Socket) => Peer | undefined
  /** Milliseconds after which a call is answered with code 11; its work goes on, and the attachment stays taken until it ends. */
  readonly deadlineMs?: number
  readonly maxRunning?: number
  readonly maxWaiting?: number
  /** Called after every answered call: metrics. */
  readonly onCall?: (call: CallReport) => void
}

export interface Peer {
  readonly uid: number
  readonly pid: number
}

export interface CallReport {
  readonly type: string
  readonly verb: string
  readonly exitCode: number
  readonly milliseconds: number
}

export interface CniServer {
  readonly socketPath: string
  /** Runs `job` in the queue of an attachment, as a call of it would run. Throws CniError 11 when too many wait. */
  alone<T>(of: AttachmentName, job: () => Promise<T>): Promise<T>
  /** Attachments (`NETWORK CONTAINER IFNAME`), and networks of a GC, that calls of this moment are about. */
  busy(): ReadonlySet<string>
  /** Takes no more calls, lets running ones finish (up to `graceMs`), removes the socket. */
  close(graceMs?: number): Promise<void>
}

export interface AttachmentName {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
}

/** Just below the shim's own patience for ADD and DEL, so that the agent's words arrive. */
const DEADLINE_MS = 55_000
/** For a shim to send its call, and to read the answer. */
const FRAME_DEADLINE_MS = 10_000

/** Listens. Throws CniError where another agent answers on the socket, or the path cannot be used. */
export async function startCniServer(options: CniServerOptions): Promise<CniServer> {
  const { socketPath } = options
  const work = createWork({ running: options.maxRunning ?? 64, waiting: options.maxWaiting ?? 1024 })
  const namespace = ownNetnsIdentity()
  const connections = new Set<Socket>()
  /** Calls that were read and are not answered yet. */
  const calls = new Set<Promise<void>>()

  async function answer(frame: CallFrame, peer: Peer | undefined): Promise<Answer | undefined> {
    const { HEDDLE_TYPE: type = '', HEDDLE_NETNS: netns, HEDDLE_TARGET: target, CNI_COMMAND: verb = '' } = frame.env
    // A caller in another network namespace means another "host" than this agent's.
    if (netns !== undefined && netns !== namespace) return undefined
    const plugin = options.registry.get(type)
    // The shim was installed under a name that this agent does not know; a newer standalone program may.
    if (plugin === undefined) return undefined
    const call = callOf(frame, peer)
    // The caller sees a namespace where this process sees none, or another: they have different mounts, or different process ids.
    if (target !== undefined && target !== identityOf(call.netnsPath ?? '')) return undefined
    const host = pluginHost(options.host, {
      registry: options.registry,
      env: call.env,
      deadlineMs: options.deadlineMs ?? DEADLINE_MS,
    })
    const job = (): Promise<Answer> => runPlugin(plugin, call, host)
    if (verb === 'VERSION' || verb === 'STATUS') return job()
    // A GC whose caller was killed goes on with a list that knows nothing of what is added now.
    const after = verb === 'GC' ? undefined : `GC ${networkOf(frame.stdin)}`
    return work.run(attachmentKey(frame), job, after)
  }

  async function serve(socket: Socket): Promise<void> {
    const peer = options.peerOf?.(socket)
    if (peer !== undefined && peer.uid !== 0 && peer.uid !== process.getuid?.()) {
      options.host.log('warn', 'refused a CNI call of another user', { uid: peer.uid, pid: peer.pid })
      socket.destroy()
      return
    }
    const started = performance.now()
    const bytes = await readFrame(socket)
    if (bytes === undefined) {
      socket.destroy()
      return
    }
    const call = reply(socket, decodeCall(bytes), peer, started)
    calls.add(call)
    try {
      await call
    } finally {
      calls.delete(call)
    }
  }

  async function reply(socket: Socket, frame: CallFrame, peer: Peer | undefined, started: number): Promise<void> {
    const result = await within(options.deadlineMs ?? DEADLINE_MS, answer(frame, peer))
    if (result === undefined) {
      socket.end(encodeElsewhere())
      return
    }
    socket.end(encodeAnswer(result))
    const { HEDDLE_TYPE: type = '', CNI_COMMAND: verb = '' } = frame.env
    options.onCall?.({ type, verb, exitCode: result.exitCode, milliseconds: performance.now() - started })
  }

  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket)
    // A shim that was killed is no error; its call runs to its end, and the runtime's DEL follows.
    socket.on('error', () => {})
    socket.once('close', () => connections.delete(socket))
    socket.setTimeout((options.deadlineMs ?? DEADLINE_MS) + FRAME_DEADLINE_MS, () => socket.destroy())
    serve(socket).catch((error: unknown) => {
      if (error instanceof ProtocolError && error.code === 'wrong-version') socket.end(encodeElsewhere())
      else socket.end(encodeAnswer(failure(error instanceof CniError ? error : internalError(messageOf(error)))))
      options.host.log('warn', `a CNI call failed: ${messageOf(error)}`)
    })
  })
  server.maxConnections = (options.maxRunning ?? 64) + (options.maxWaiting ?? 1024) + 64
  const inode = await listen(server, socketPath)

  return {
    socketPath,
    alone: ({ network, containerId, ifname }, job) => work.run(`${network} ${containerId} ${ifname}`, job),
    busy: () => new Set([...work.keys()].map((key) => (key.startsWith('GC ') ? key.slice(3) : key))),
    close: async (graceMs = 30_000) => {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
      })
      await Promise.race([Promise.allSettled(calls), pause(graceMs)])
      for (const socket of connections) socket.destroySoon()
      const force = setTimeout(() => {
        for (const socket of connections) socket.destroy()
      }, 1000)
      await closed
      clearTimeout(force)
      // A successor may have put its own in place already.
      const { ino } = await lstat(socketPath).catch(() => ({ ino: undefined }))
      if (ino === inode) await rm(socketPath, { force: true })
    },
  }
}

function identityOf(path: string): string | undefined {
  try {
    return netnsIdentity(path)
  } catch {
    return undefined
  }
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms).unref()
  })

/** Calls of one attachment wait for each other, and all of a network's for a GC of before. GC waits for other GCs only: plugins lock their own state. */
function attachmentKey({ env, stdin }: CallFrame): string {
  const { CNI_CONTAINERID: id = '', CNI_IFNAME: ifname = '', CNI_COMMAND: verb = '' } = env
  return verb === 'GC' ? `GC ${networkOf(stdin)}` : `${networkOf(stdin)} ${id} ${ifname}`
}

/** The network's name without parsing twice: the text between the quotes behind `"name"`. A wrong guess only makes calls wait, or not. */
const networkOf = (stdin: string): string => /"name"\s*:\s*"([^"\\]*)"/.exec(stdin)?.[1] ?? ''

/** The call as the plugin shell takes it, with the caller's paths made to mean the same here. */
function callOf({ env, stdin }: CallFrame, peer: Peer | undefined): Call {
  const {
    HEDDLE_TYPE: type = '',
    HEDDLE_PID: pid = '',
    HEDDLE_CWD: cwd = '/',
    CNI_NETNS: netns = '',
    CNI_PATH: path = '',
  } = env
  // The kernel's word for the pid counts: the caller may live in another pid namespace (0: one that is not seen from here).
  const caller = { pid: peer?.pid || Number(pid), cwd }
  const dirs = path.split(':').map((dir) => fromCaller(dir, caller))
  const known = Object.entries(env).filter(([key]) => !key.startsWith('HEDDLE_'))
  return {
    env: { ...Object.fromEntries(known), CNI_PATH: dirs.join(':') },
    stdin: () => stdin,
    netnsPath: fromCaller(netns, caller),
    about: `CNI plugin ${type} (Heddle)`,
  }
}

/** The first complete frame; undefined when the caller went away before. Throws ProtocolError. */
function readFrame(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const timer = setTimeout(() => socket.destroy(), FRAME_DEADLINE_MS)
    const settle = (act: () => void): void => {
      clearTimeout(timer)
      act()
    }
    socket.on('data', (chunk) => {
      const first = chunks[0]
      // The length must lie in the first chunk, however small the sender's pieces are.
      if (first !== undefined && first.length < 4) chunks[0] = Buffer.concat([first, chunk])
      else chunks.push(chunk)
      size += chunk.length
      try {
        const length = frameLength(chunks[0] ?? chunk)
        if (length !== undefined && size >= length) settle(() => resolve(Buffer.concat(chunks).subarray(0, length)))
      } catch (error) {
        settle(() => reject(error))
      }
    })
    socket.once('close', () => settle(() => resolve(undefined)))
    socket.once('end', () => settle(() => resolve(undefined)))
  })
}

async function within<T>(deadlineMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(
        tryAgain(
          `the call did not end within ${deadlineMs / 1000} s and goes on in the agent`,
          'the runtime will try again',
        ),
      )
    }, deadlineMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Listens on a fresh name and moves it into place, so that a socket is never there with the wrong mode, nor missing while an agent takes over. */
async function listen(server: Server, socketPath: string): Promise<number> {
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 })
  await removeStale(socketPath)
  const fresh = `${socketPath}.${process.pid}`
  await rm(fresh, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new CniError('ioFailure', `cannot listen on ${socketPath}: ${messageOf(error)}`, undefined, { cause: error }),
      )
    })
    server.listen({ path: fresh, backlog: 4096 }, () => {
      resolve()
    })
  })
  await chmod(fresh, 0o600)
  await rename(fresh, socketPath)
  return (await lstat(socketPath)).ino
}

/** A socket that nobody answers on may go; another agent's must not. */
async function removeStale(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new CniError(
      'ioFailure',
      `${socketPath} is there and is no socket`,
      'remove it, or choose another path with --socket',
    )
  }
  const isAlive = await new Promise<boolean>((resolve) => {
    const probe = connect(socketPath)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (isAlive) {
    throw new CniError(
      'ioFailure',
      `another agent answers on ${socketPath}`,
      'stop it, or choose another path with --socket',
    )
  }
}
