import type { ServerResponse } from 'node:http'
import type { Faults } from './faults.ts'
import { bookmark, watch } from './listing.ts'
import type { WatchEvent } from './listing.ts'
import type { Representation } from './negotiate.ts'
import type { ApiObject } from './object.ts'
import { listQuery, wantsBookmarks, watchTimeout } from './request.ts'
import type { RequestInfo } from './request.ts'
import { objectText, statusOf } from './respond.ts'
import type { ResourceType } from './resource.ts'
import type { Api } from './rest.ts'
import { partial, table } from './table.ts'
import type { IncludeObject } from './table.ts'

/** A watcher that lets this much pile up is cut off; it can come back with its last version. */
const BACKLOG_LIMIT = 16 * 1024 * 1024
const DEFAULT_TIMEOUT = 30 * 60_000

/** What a stream needs beside the request. */
export interface StreamOptions {
  readonly api: Api
  readonly faults: Faults
  readonly bookmarkInterval: number
  readonly now: () => number
}

/** The `includeObject` parameter of Tables. */
export function includeObject(info: RequestInfo): IncludeObject {
  const value = info.query.get('includeObject')
  return value === 'None' || value === 'Object' ? value : 'Metadata'
}

/**
 * Answers a watch: headers at once, an event per line, bookmarks, and the end when the client's timeoutSeconds are
 * over. Answers the function that ends it. Failures before the first event go out as an ERROR event, as they do there.
 */
export function streamWatch(
  response: ServerResponse,
  info: RequestInfo,
  type: ResourceType,
  representation: Representation,
  options: StreamOptions,
): () => void {
  const { api, faults } = options
  const include = includeObject(info)

  const bodyOf = (event: WatchEvent): string => {
    const object: ApiObject = event.object
    if (representation.as === 'Table') {
      const rows = event.type === 'BOOKMARK' ? [] : [object]
      const metadata = { resourceVersion: object.metadata.resourceVersion ?? '' }
      return JSON.stringify(
        table(type, rows, metadata, { include, version: representation.version, now: options.now() }),
      )
    }
    return representation.as === undefined ? objectText(object) : JSON.stringify(partial(object))
  }
  const line = (kind: string, body: string): void => {
    if (faults.active('silent', info)) return
    response.write(`{"type":"${kind}","object":${body}}\n`)
    if (response.writableLength > BACKLOG_LIMIT) response.destroy()
  }
  const send = (event: WatchEvent): void => {
    const body = bodyOf(event)
    line(event.type, body)
    if (faults.active('duplicate', info)) line(event.type, body)
  }

  response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' })
  response.flushHeaders()
  let running
  try {
    running = watch(api, type, listQuery(info), send)
  } catch (error) {
    line('ERROR', JSON.stringify(statusOf(error).status))
    response.end()
    return () => {}
  }
  for (const event of running.initial) send(event)
  const mark = (): void => {
    if (wantsBookmarks(info)) line('BOOKMARK', bodyOf(bookmark(type, api.store.version)))
  }
  const bookmarks = setInterval(mark, options.bookmarkInterval)
  let ended = false
  const stop = (): void => {
    if (ended) return
    ended = true
    clearInterval(bookmarks)
    clearTimeout(timer)
    running.stop()
  }
  const end = (): void => {
    stop()
    response.end()
  }
  const timer = setTimeout(
    () => {
      mark()
      // A silent connection stays as it is: half open, without an end.
      if (!faults.active('silent', info)) end()
    },
    watchTimeout(info) ?? DEFAULT_TIMEOUT,
  )
  response.on('close', stop)
  return end
}
