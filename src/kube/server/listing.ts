import type { ApiObject } from './object.ts'
import { objectKey } from './object.ts'
import type { Api } from './rest.ts'
import type { ResourceType } from './resource.ts'
import { fieldSelector, labelSelector, pinnedName } from './selectors.ts'
import type { Predicate } from './selectors.ts'
import { badRequest, expired, invalid, tooLargeVersion } from './status.ts'
import type { ApiError } from './status.ts'
import type { StoreEvent } from './store.ts'

/** The parameters of a list or watch, as the query has them. */
export interface ListQuery {
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  readonly limit?: number
  readonly continue?: string
  readonly resourceVersion?: string
  readonly resourceVersionMatch?: string
  readonly sendInitialEvents?: boolean
}

/** One page of a list. */
export interface Page {
  readonly items: readonly ApiObject[]
  readonly resourceVersion: string
  readonly continue?: string
  readonly remaining?: number
}

/** What a watch sends. */
export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'
  readonly object: ApiObject
}

function selection(query: ListQuery, type: ResourceType): Predicate {
  const labels = labelSelector(query.labelSelector ?? '')
  const fields = fieldSelector(query.fieldSelector ?? '', type.fields)
  const { namespace } = query
  return (object) =>
    (namespace === undefined || object.metadata.namespace === namespace) && labels(object) && fields(object)
}

function badOption(field: string, why: string): ApiError {
  return invalid('ListOptions', 'meta.k8s.io', '', [
    { field, reason: 'FieldValueForbidden', message: `Forbidden: ${why}` },
  ])
}

/** A resourceVersion as a number; undefined for none. @throws ApiError 400 */
export function parseVersion(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(`Invalid value: "${text}": resourceVersion must be a number that this server gave`)
  return Number(text)
}

interface Token {
  readonly version: number
  readonly start: string
}

const tokenText = (token: Token): string =>
  Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: token.version, start: token.start })).toString('base64url')

function parseToken(text: string): Token {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (typeof parsed === 'object' && parsed !== null && 'rv' in parsed && 'start' in parsed) {
      const { rv, start } = parsed
      if (typeof rv === 'number' && typeof start === 'string') return { version: rv, start }
    }
  } catch {
    // Falls through to the one answer for all malformed tokens.
  }
  throw badRequest('continue key is not valid: it must be the unchanged one of an earlier list')
}

function exactVersion(query: ListQuery, current: number): number {
  const version = parseVersion(query.resourceVersion)
  const match = query.resourceVersionMatch ?? ''
  if (match !== '' && version === undefined)
    throw badOption('resourceVersionMatch', 'resourceVersionMatch is forbidden unless resourceVersion is provided')
  if (match !== '' && match !== 'Exact' && match !== 'NotOlderThan')
    throw badOption('resourceVersionMatch', 'supported values are Exact and NotOlderThan')
  if (version === undefined || version === 0) {
    if (match === 'Exact')
      throw badOption('resourceVersionMatch', 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    return current
  }
  if (version > current) throw tooLargeVersion(version, current)
  return match === 'Exact' || (match === '' && query.limit !== undefined) ? version : current
}

/**
 * One page of a list. Later pages show the state of the first one.
 * @throws ApiError 400, 410 (the state of the first page is out of the history), 504 (a version from the future)
 */
export function list(api: Api, type: ResourceType, query: ListQuery): Page {
  const { store } = api
  const selected = selection(query, type)
  const token = query.continue === undefined || query.continue === '' ? undefined : parseToken(query.continue)
  if (token !== undefined && (query.resourceVersion ?? '') !== '' && query.resourceVersion !== '0') {
    throw badRequest('specifying resource version is not allowed when using continue')
  }
  const version = token?.version ?? exactVersion(query, store.version)
  const name = pinnedName(query.fieldSelector ?? '')
  if (name !== undefined && version === store.version && (query.namespace !== undefined || !type.namespaced)) {
    const found = store.get(type.shelf, objectKey(query.namespace, name))
    const items = found !== undefined && selected(found) ? [api.view(type, found)] : []
    return { items, resourceVersion: String(version) }
  }
  let entries
  try {
    entries = store.list(type.shelf, version)
  } catch (error) {
    if (token === undefined) throw error
    throw expired(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.',
    )
  }
  const limit = query.limit !== undefined && query.limit > 0 ? query.limit : Number.POSITIVE_INFINITY
  const items: ApiObject[] = []
  let last = ''
  let remaining = 0
  for (const { key, object } of entries) {
    if (token !== undefined && key <= token.start) continue
    if (!selected(object)) continue
    if (items.length < limit) {
      items.push(api.view(type, object))
      last = key
    } else remaining += 1
  }
  const plain = (query.labelSelector ?? '') === '' && (query.fieldSelector ?? '') === ''
  return {
    items,
    resourceVersion: String(version),
    ...(remaining === 0 ? {} : { continue: tokenText({ version, start: last }) }),
    ...(remaining === 0 || !plain ? {} : { remaining }),
  }
}

/** What a selection sees of a change: an object that begins to match is added, one that ceases to is deleted. */
function seen(event: StoreEvent, selected: Predicate): WatchEvent | undefined {
  const before = event.previous !== undefined && selected(event.previous)
  const now = event.type !== 'DELETED' && selected(event.object)
  if (now) return { type: before ? 'MODIFIED' : 'ADDED', object: event.object }
  if (!before) return undefined
  // The last state that matched, under the version of the change.
  const object =
    event.type === 'DELETED'
      ? event.object
      : { ...event.previous, metadata: { ...event.previous.metadata, resourceVersion: String(event.version) } }
  return { type: 'DELETED', object }
}

/** A bookmark: a version up to which a watcher has seen everything. */
export function bookmark(type: ResourceType, version: number, initialEnd = false): WatchEvent {
  const apiVersion = type.group === '' ? type.version : `${type.group}/${type.version}`
  const plain = { name: '', resourceVersion: String(version) }
  const metadata = initialEnd ? { ...plain, annotations: { 'k8s.io/initial-events-end': 'true' } } : plain
  return { type: 'BOOKMARK', object: { kind: type.kind, apiVersion, metadata } }
}

/**
 * Watches a kind. Answers what happened up to now and calls `send` for all that follows.
 * @throws ApiError 400, 410, 504
 */
export function watch(
  api: Api,
  type: ResourceType,
  query: ListQuery,
  send: (event: WatchEvent) => void,
): { readonly initial: readonly WatchEvent[]; readonly stop: () => void } {
  const selected = selection(query, type)
  const { store } = api
  const version = parseVersion(query.resourceVersion)
  const view = (event: WatchEvent): WatchEvent => ({ type: event.type, object: api.view(type, event.object) })
  if (query.sendInitialEvents !== undefined && query.resourceVersionMatch !== 'NotOlderThan') {
    throw badOption('resourceVersionMatch', 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan')
  }
  if (version !== undefined && version > store.version) throw tooLargeVersion(version, store.version)
  const fromState = query.sendInitialEvents ?? (version === undefined || version === 0)
  const initial: WatchEvent[] = []
  if (fromState) {
    for (const { object } of store.list(type.shelf)) if (selected(object)) initial.push(view({ type: 'ADDED', object }))
  } else {
    for (const change of store.since(type.shelf, version ?? store.version)) {
      const event = seen(change, selected)
      if (event !== undefined) initial.push(view(event))
    }
  }
  if (query.sendInitialEvents === true) initial.push(bookmark(type, store.version, true))
  const stop = store.subscribe(type.shelf, (change) => {
    const event = seen(change, selected)
    if (event !== undefined) send(view(event))
  })
  return { initial, stop }
}
