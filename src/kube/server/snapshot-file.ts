import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { isArray, isObject } from '../json.ts'
import type { ApiObject } from './object.ts'
import { parseMetadata } from './object.ts'
import type { Snapshot } from './store.ts'

/** A snapshot file that cannot be used. */
export class SnapshotError extends Error {
  readonly code: 'malformed' | 'unreadable'

  constructor(code: SnapshotError['code'], file: string, why: string) {
    super(`snapshot ${file} cannot be used: ${why} (move it away to start empty)`)
    this.name = 'SnapshotError'
    this.code = code
  }
}

function parseObject(value: unknown, file: string): ApiObject {
  if (isObject(value) && typeof value['apiVersion'] === 'string' && typeof value['kind'] === 'string') {
    const { apiVersion, kind } = value
    const metadata = parseMetadata(kind, value['metadata'])
    if (metadata.name !== '') return { ...value, apiVersion, kind, metadata }
  }
  throw new SnapshotError('malformed', file, 'it holds something that is no object of the API')
}

/**
 * Reads a snapshot; undefined where there is no file.
 * @throws SnapshotError
 */
export function readSnapshot(file: string): Snapshot | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new SnapshotError('unreadable', file, error instanceof Error ? error.message : String(error))
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new SnapshotError('malformed', file, error instanceof Error ? error.message : String(error))
  }
  if (
    !isObject(value) ||
    value['format'] !== 1 ||
    typeof value['resourceVersion'] !== 'number' ||
    !isObject(value['shelves'])
  ) {
    throw new SnapshotError('malformed', file, 'it is no snapshot of format 1')
  }
  const shelves = Object.entries(value['shelves']).map(([name, objects]) => {
    if (!isArray(objects)) throw new SnapshotError('malformed', file, `shelf ${name} is no list`)
    return [name, objects.map((object) => parseObject(object, file))] as const
  })
  return { format: 1, resourceVersion: value['resourceVersion'], shelves: Object.fromEntries(shelves) }
}

/** Writes a snapshot: a new file (mode 0600: there may be Secrets in it), synced, then renamed over the old one. */
export function writeSnapshot(file: string, snapshot: Snapshot): void {
  const temporary = `${file}.${process.pid}.tmp`
  const fd = openSync(temporary, 'w', 0o600)
  try {
    writeFileSync(fd, JSON.stringify(snapshot))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, file)
}
