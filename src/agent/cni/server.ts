/** The agent's side of the shim: a unix socket that answers CNI calls from this process's own plugins. */

import { CniError, internalError, messageOf, tryAgain } from '#cni/errors.ts'
import { netnsIdentity, ownNetnsIdentity } from '#cni/netns.ts'
import { pluginHost, type HostBase } from '#cni/runtime/delegate.ts'
import type { PluginRegistry } from '#cni/runtime/find.ts'
import { failure, runPlugin, type Answer, type Call } from '#cni/shell.ts'
import { fromCaller } from './caller-path.ts'
import { Connection } from './connection.ts'
import { listen } from './listener.ts'
import { decodeCall, encodeAnswer, encodeElsewhere, ProtocolError, type CallFrame } from './protocol.ts'
import { createWork } from './work.ts'

export interface CniServerOptions {
  readonly socketPath: string
  readonly registry: PluginRegistry
  readonly host: HostBase
  /** uid and pid at the other end of a connection; without it the socket's mode alone keeps others out. */
  readonly peerOf?: (fd: number) => Peer | undefined
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
/** For answers that are being sent when the server closes. */
const FAREWELL_MS = 1000

/** Listens. Throws CniError where another agent answers on the socket, or the path cannot be used. */
export async function startCniServer(options: CniServerOptions): Promise<CniServer> {
  const { socketPath } = options
  const work = createWork({ running: options.maxRunning ?? 64, waiting: options.maxWaiting ?? 1024 })
  const namespace = ownNetnsIdentity()
  const connections = new Set<Connection>()
  const maxConnections = (options.maxRunning ?? 64) + (options.maxWaiting ?? 1024) + 64
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

  async function serve(connection: Connection): Promise<void> {
    const peer = options.peerOf?.(connection.fd)
    if (peer !== undefined && peer.uid !== 0 && peer.uid !== process.getuid?.()) {
      options.host.log('warn', 'refused a CNI call of another user', { uid: peer.uid, pid: peer.pid })
      connection[Symbol.dispose]()
      return
    }
    const started = performance.now()
    const bytes = await connection.frame()
    if (bytes === undefined) {
      connection[Symbol.dispose]()
      return
    }
    const call = reply(connection, decodeCall(bytes), peer, started)
    calls.add(call)
    try {
      await call
    } finally {
      calls.delete(call)
    }
  }

  async function reply(
    connection: Connection,
    frame: CallFrame,
    peer: Peer | undefined,
    started: number,
  ): Promise<void> {
    const result = await within(options.deadlineMs ?? DEADLINE_MS, answer(frame, peer))
    if (result === undefined) {
      connection.answer(encodeElsewhere())
      return
    }
    connection.answer(encodeAnswer(result))
    const { HEDDLE_TYPE: type = '', CNI_COMMAND: verb = '' } = frame.env
    options.onCall?.({ type, verb, exitCode: result.exitCode, milliseconds: performance.now() - started })
  }

  /** A shim that was killed is no error; its call runs to its end, and the runtime's DEL follows. */
  function take(fd: number): void {
    const connection = new Connection(fd, () => connections.delete(connection))
    if (connections.size >= maxConnections) return connection[Symbol.dispose]()
    connections.add(connection)
    serve(connection).catch((error: unknown) => {
      if (error instanceof ProtocolError && error.code === 'wrong-version') connection.answer(encodeElsewhere())
      else connection.answer(encodeAnswer(failure(error instanceof CniError ? error : internalError(messageOf(error)))))
      options.host.log('warn', `a CNI call failed: ${messageOf(error)}`)
    })
  }

  const listener = await listen(socketPath, take)

  return {
    socketPath,
    alone: ({ network, containerId, ifname }, job) => work.run(`${network} ${containerId} ${ifname}`, job),
    busy: () => new Set([...work.keys()].map((key) => (key.startsWith('GC ') ? key.slice(3) : key))),
    close: async (graceMs = 30_000) => {
      listener.stop()
      await Promise.race([Promise.allSettled(calls), pause(graceMs)])
      const farewell = performance.now() + FAREWELL_MS
      while ([...connections].some((connection) => connection.isAnswering) && performance.now() < farewell)
        await pause(5)
      for (const connection of connections) connection[Symbol.dispose]()
      await listener.remove()
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
