import type { KubeClient } from './client.ts'
import { parseJson } from './body.ts'
import { errorOfAnswer, errorOfFailure, KubeError } from './errors.ts'
import { at, textAt } from './json.ts'
import { LineSplitter } from './lines.ts'
import { resourcePath } from './path.ts'
import { isStored } from './resource.ts'
import type { KubeObject, Resource, Stored } from './resource.ts'
import { abortError } from './transport.ts'

/** A change, or a version up to which all changes were seen. */
export type WatchEvent<T extends KubeObject> =
  | { readonly type: 'added' | 'modified' | 'deleted'; readonly object: Stored<T>; readonly resourceVersion: string }
  | { readonly type: 'bookmark'; readonly resourceVersion: string; readonly initialEventsEnd: boolean }

/** How one watch is to be. */
export interface WatchOptions {
  readonly resourceVersion: string
  readonly signal: AbortSignal
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Seconds after which the server ends the watch. Default: random, 5 to 10 minutes, so that not all come back at once. */
  readonly timeoutSeconds?: number
  /** Milliseconds without a byte after which the connection counts as dead. Default 2 minutes (bookmarks come each minute). */
  readonly idleTimeout?: number
  readonly random?: () => number
}

function parseEvent<T extends KubeObject>(line: string, object: string): WatchEvent<T> {
  let event
  try {
    event = parseJson(line)
  } catch (cause) {
    throw new KubeError('bad-response', `a line of the watch is not JSON: ${line.slice(0, 80)}`, { object, cause })
  }
  const type = textAt(event, 'type')
  const body = at(event, 'object')
  if (type === 'ERROR') {
    const code = at(body, 'code')
    throw errorOfAnswer(typeof code === 'number' ? code : 500, body, object)
  }
  const resourceVersion = textAt(body, 'metadata', 'resourceVersion') ?? ''
  if (type === 'BOOKMARK' && resourceVersion !== '') {
    const end = textAt(body, 'metadata', 'annotations', 'k8s.io/initial-events-end')
    return { type: 'bookmark', resourceVersion, initialEventsEnd: end === 'true' }
  }
  if ((type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') && isStored<T>(body)) {
    const kinds = { ADDED: 'added', MODIFIED: 'modified', DELETED: 'deleted' } as const
    return { type: kinds[type], object: body, resourceVersion }
  }
  throw new KubeError('bad-response', `a line of the watch is no event: ${line.slice(0, 80)}`, { object })
}

/**
 * Watches a kind from a version on, over one connection. Ends when the server ends it (its timeout); the caller goes on
 * from the last version it saw.
 * @throws KubeError `gone` when the version is too old (list anew), `timeout` when the connection fell silent,
 * `bad-response`, `unreachable`, `aborted` …
 */
export async function* watch<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  options: WatchOptions,
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  const object = `WATCH ${resource.plural}`
  const { signal, idleTimeout = 120_000, random = Math.random } = options
  const query = {
    watch: true,
    allowWatchBookmarks: true,
    resourceVersion: options.resourceVersion,
    timeoutSeconds: options.timeoutSeconds ?? 300 + Math.floor(random() * 300),
    labelSelector: options.labelSelector,
    fieldSelector: options.fieldSelector,
  }
  const response = await client.stream(resourcePath(resource, options.namespace), query, object, signal)
  const lines = new LineSplitter()
  const silent = new KubeError('timeout', `the connection was silent for ${idleTimeout} ms`, { object })
  const watchdog = setTimeout(() => response.destroy(silent), idleTimeout)
  try {
    for await (const chunk of response) {
      watchdog.refresh()
      const bytes: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk))
      for (const line of lines.push(bytes)) yield parseEvent<T>(line, object)
    }
  } catch (error) {
    throw signal.aborted ? abortError({ signal, object }) : errorOfFailure(error, object)
  } finally {
    clearTimeout(watchdog)
    response.destroy()
  }
}
