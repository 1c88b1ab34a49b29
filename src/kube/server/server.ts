import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Faults } from './faults.ts'
import { createHandler } from './http.ts'
import { Api } from './rest.ts'
import { readSnapshot, writeSnapshot } from './snapshot-file.ts'
import { Store } from './store.ts'

/** Where to listen: an address, or an open socket (one that was bound in another network namespace, say). */
export type Listen = { readonly host: string; readonly port: number } | { readonly fd: number }

/** How the API server is to be. */
export interface ApiServerOptions {
  /** Default: any free port on 127.0.0.1. */
  readonly listen?: readonly Listen[]
  /** Bearer tokens and the users they stand for. Without it everyone is let in. */
  readonly tokens?: ReadonlyMap<string, string>
  /** Serve HTTPS; kubectl sends tokens over nothing else. */
  readonly tls?: { readonly key: string; readonly cert: string }
  /** Content is read from here at start, and written when it has changed. */
  readonly snapshotFile?: string
  /** Milliseconds between a change and its snapshot. Default 250. */
  readonly snapshotDelay?: number
  /** Changes per kind that watches can go back to. Default 4096. */
  readonly historyLimit?: number
  /** Milliseconds between the bookmarks of a watch. Default 15 s. */
  readonly bookmarkInterval?: number
  readonly now?: () => number
}

/** A running API server. */
export interface ApiServer extends AsyncDisposable {
  /** The base URL of each listener, in the order of `listen`. */
  readonly urls: readonly string[]
  readonly store: Store
  /** The verbs of the API, without HTTP. */
  readonly api: Api
  readonly faults: Faults
  /** Ends all watches in order, as their timeouts do; clients come back by themselves. */
  endWatches(): void
  /** Saves (where there is a snapshot file), ends all watches and connections, and stops listening. */
  close(): Promise<void>
}

function urlOf(server: Server, scheme: string): string {
  const address: AddressInfo | string | null = server.address()
  if (address === null || typeof address === 'string') return `${scheme}://localhost`
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${scheme}://${host}:${address.port}`
}

function listening(server: Server, where: Listen): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(where, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

/** Saves the store some time after it changed; many changes make one file. */
function saveOnChange(
  store: Store,
  file: string,
  delay: number,
): { readonly save: () => void; readonly stop: () => void } {
  let saved = store.version
  const save = (): void => {
    if (store.version === saved) return
    saved = store.version
    writeSnapshot(file, store.snapshot())
  }
  const timer = setInterval(save, delay)
  timer.unref()
  return { save, stop: () => clearInterval(timer) }
}

/**
 * Starts an in-memory Kubernetes API on real HTTP.
 * @throws SnapshotError where the snapshot file cannot be used; Node's error where an address cannot be listened on.
 */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const now = options.now ?? Date.now
  const store = new Store(options.historyLimit)
  const { snapshotFile } = options
  const snapshot = snapshotFile === undefined ? undefined : readSnapshot(snapshotFile)
  if (snapshot !== undefined) store.restore(snapshot)
  const api = new Api(store, now)
  const faults = new Faults()
  const watches = new Set<() => void>()
  const handler = createHandler({
    api,
    faults,
    tokens: options.tokens,
    bookmarkInterval: options.bookmarkInterval ?? 15_000,
    now,
    watches,
  })
  const saver = snapshotFile === undefined ? undefined : saveOnChange(store, snapshotFile, options.snapshotDelay ?? 250)
  const { tls } = options
  const servers: Server[] = []
  const endWatches = (): void => {
    for (const end of watches) end()
  }
  const close = async (): Promise<void> => {
    saver?.stop()
    try {
      saver?.save()
    } finally {
      endWatches()
      await Promise.all(servers.map(closed))
    }
  }
  try {
    for (const where of options.listen ?? [{ host: '127.0.0.1', port: 0 }]) {
      const server =
        tls === undefined ? createServer(handler) : createTlsServer({ key: tls.key, cert: tls.cert }, handler)
      // Longer than clients keep idle connections, so that they are not closed under a request.
      server.keepAliveTimeout = 120_000
      await listening(server, where)
      servers.push(server)
    }
  } catch (error) {
    await close()
    throw error
  }
  const urls = servers.map((server) => urlOf(server, tls === undefined ? 'http' : 'https'))
  return { urls, store, api, faults, endWatches, close, [Symbol.asyncDispose]: close }
}
