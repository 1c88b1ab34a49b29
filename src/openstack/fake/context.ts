import type { Clock } from '#sys/clock.ts'
import type { Asked } from './addresses.ts'
import { badInput, neutron } from './failure.ts'
import type { Base, Caller, Cloud } from './model.ts'

/** How the fake cloud is to be. */
export interface FakeOptions {
  /** Milliseconds that a token lives. Default an hour. */
  readonly tokenMs?: number
  /**
   * Milliseconds between what a write has read and what it writes. 0 (default): one writer at a time, as with SQLite. More: as with several
   * API workers on a database, where If-Match lets all of those through that read the same.
   */
  readonly writeMs?: number
  /** Extra routes of a router. Default 30. */
  readonly maxRoutes?: number
  /** What says that it is reached: `RoutesExhausted` (400, to 2026.1), or `OverQuota` (409, later). */
  readonly routesError?: 'RoutesExhausted' | 'OverQuota'
  /** Address pairs of a port. Default 10. */
  readonly maxPairs?: number
  /** Lists of ports are made with their tags (ML2's extension driver tag_ports_during_bulk_creation). Default false, as in Debian's. */
  readonly bulkTags?: boolean
  /** Milliseconds until Nova has attached or detached a card. Default 0. */
  readonly attachMs?: number
  readonly clock?: Clock
  readonly random?: () => number
}

/** One request to Neutron or Nova, taken apart. */
export interface Ask {
  readonly method: string
  readonly path: readonly string[]
  readonly query: URLSearchParams
  readonly body: unknown
  readonly ifMatch: string | undefined
  readonly caller: Caller
}

export interface Answer {
  readonly status: number
  readonly body?: object | null
  readonly headers?: { readonly [name: string]: string }
}

/** What the parts of the fake share. */
export interface Context {
  readonly cloud: Cloud
  readonly clock: Clock
  readonly random: () => number
  readonly options: FakeOptions
  readonly base: () => string
}

export type { Asked }

/** The entry that a body must have, `{"port": {…}}`. */
export function entryOf(body: unknown, key: string): { readonly [name: string]: unknown } {
  const entry: unknown = isRecord(body) ? body[key] : undefined
  if (isRecord(entry)) return entry
  throw badInput(`Unable to find '${key}' in request body`)
}

export const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** @throws Failure for names that the resource does not have */
export function onlyKnown(entry: { readonly [name: string]: unknown }, known: readonly string[]): void {
  const unknown = Object.keys(entry).filter((name) => !known.includes(name))
  if (unknown.length > 0) throw badInput(`Unrecognized attribute(s) '${unknown.join(', ')}'`)
}

export function textIn(entry: { readonly [name: string]: unknown }, key: string): string | undefined {
  const value = entry[key]
  if (value === undefined) return undefined
  if (typeof value === 'string') return value
  throw badInput(`Invalid input for ${key}. Reason: '${JSON.stringify(value)}' is not a valid string.`)
}

export function listIn(
  entry: { readonly [name: string]: unknown },
  key: string,
): readonly { readonly [name: string]: unknown }[] | undefined {
  const value = entry[key]
  if (value === undefined) return undefined
  if (Array.isArray(value) && value.every(isRecord)) return value
  throw badInput(`Invalid input for ${key}. Reason: '${JSON.stringify(value)}' is not a list.`)
}

/** Whether the caller may see it: others' objects are just not there. */
export const sees = (caller: Caller, object: Base, shared = false): boolean =>
  caller.admin || shared || object.project === caller.project

/** If-Match of a revision. What cannot be read is ignored, as by Neutron. @throws Failure 412 */
export function checkRevision(object: Base, ifMatch: string | undefined): void {
  const wanted = /^revision_number=(\d+)$/.exec(ifMatch ?? '')?.[1]
  if (wanted === undefined || Number(wanted) === object.revision) return
  const message = `Constrained to ${wanted}, but current revision is ${object.revision}`
  throw neutron(412, 'RevisionNumberConstraintFailed', message)
}

/** What every object shows of itself. */
export const baseView = (object: Base): object => ({
  id: object.id,
  name: object.name,
  project_id: object.project,
  tenant_id: object.project,
  description: object.description,
  tags: object.tags,
  revision_number: object.revision,
  created_at: object.created,
  updated_at: object.created,
})
