/** Hands HTTP connections on to a server of this machine, and tells when somebody has written: for those inside, for whom 127.0.0.1 is somewhere else. */

import { connect, createServer, type Server, type Socket } from 'node:net'

const MAX_CONNECTIONS = 512
/** Both sides silent for so long: a client that has gone. */
const IDLE_MS = 120_000

const WRITES = /^(?:POST|PUT|DELETE) /

/** Where to listen: a socket that listens already, or a port of 127.0.0.1. */
export type Listen = { readonly fd: number } | { readonly port: number }

export interface ForwardOptions {
  readonly listen: readonly Listen[]
  /** On 127.0.0.1. */
  readonly to: number
  /** The answer to a request began that may have changed something. */
  readonly onWritten?: () => void
}

/** Resolves when it listens; disposing closes connections too. */
export async function forward({ listen, to, onWritten }: ForwardOptions): Promise<Disposable> {
  const open = new Set<Socket>()
  const keep = (socket: Socket, other: () => Socket): void => {
    open.add(socket)
    socket.setNoDelay(true)
    socket.setTimeout(IDLE_MS, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => {
      open.delete(socket)
      other().destroy()
    })
  }
  const serve = (client: Socket): void => {
    const server = connect({ host: '127.0.0.1', port: to, allowHalfOpen: true })
    keep(client, () => server)
    keep(server, () => client)
    let isWrite = false
    client.on('data', (chunk: Buffer) => {
      // A request begins a chunk: nobody sends the next one before the answer to the last.
      if (WRITES.test(chunk.toString('latin1', 0, 7))) isWrite = true
    })
    server.on('data', () => {
      if (isWrite) onWritten?.()
      isWrite = false
    })
    client.pipe(server)
    server.pipe(client)
  }
  const servers = await Promise.all(listen.map((at) => listening(at, serve)))
  return {
    [Symbol.dispose]() {
      for (const server of servers) server.close()
      for (const socket of open) socket.destroy()
    },
  }
}

async function listening(at: Listen, serve: (client: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, serve)
  server.maxConnections = MAX_CONNECTIONS
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen('fd' in at ? at : { host: '127.0.0.1', port: at.port }, resolve)
  await promise
  server.on('error', () => {})
  return server
}
