import { isObject } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import { badRequest } from './status.ts'

/** The part of `metav1.ObjectMeta` that the server itself reads. */
export interface Metadata extends JsonObject {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly generation?: number
  readonly generateName?: string
  readonly labels?: { readonly [key: string]: string }
  readonly annotations?: { readonly [key: string]: string }
  readonly finalizers?: readonly string[]
}

/** An object as it is stored: complete envelope, opaque rest. */
export interface ApiObject extends JsonObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: Metadata
}

const TEXT_FIELDS = [
  'name',
  'namespace',
  'generateName',
  'uid',
  'resourceVersion',
  'creationTimestamp',
  'deletionTimestamp',
  'selfLink',
] as const

function decodeError(kind: string, field: string, expected: string, value: Json): Error {
  const got = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
  return badRequest(
    `${kind} in version "v1" cannot be handled as a ${kind}: json: cannot unmarshal ${got} into field ${field} of type ${expected}`,
  )
}

function isTextMap(value: Json): value is { readonly [key: string]: string } {
  return isObject(value) && Object.values(value).every((item) => typeof item === 'string')
}

function isTextList(value: Json): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/**
 * Reads metadata that a client sent: types checked, nulls dropped (a null is the same as an absent field).
 * @throws ApiError 400 naming the field.
 */
export function parseMetadata(kind: string, value: Json | undefined): Metadata {
  if (value !== undefined && value !== null && !isObject(value))
    throw decodeError(kind, 'metadata', 'ObjectMeta', value)
  const entries = Object.entries(isObject(value) ? value : {}).filter(([, item]) => item !== null)
  const meta: JsonObject = Object.fromEntries(entries)
  for (const field of TEXT_FIELDS) {
    const item = meta[field]
    if (item !== undefined && typeof item !== 'string') throw decodeError(kind, `metadata.${field}`, 'string', item)
  }
  for (const field of ['labels', 'annotations'] as const) {
    const item = meta[field]
    if (item !== undefined && !isTextMap(item)) throw decodeError(kind, `metadata.${field}`, 'map[string]string', item)
  }
  const finalizers = meta['finalizers']
  if (finalizers !== undefined && !isTextList(finalizers)) {
    throw decodeError(kind, 'metadata.finalizers', '[]string', finalizers)
  }
  const owners = meta['ownerReferences']
  if (owners !== undefined && !(Array.isArray(owners) && owners.every(isObject))) {
    throw decodeError(kind, 'metadata.ownerReferences', '[]OwnerReference', owners)
  }
  const generation = meta['generation']
  if (generation !== undefined && typeof generation !== 'number') {
    throw decodeError(kind, 'metadata.generation', 'int64', generation)
  }
  const name = typeof meta['name'] === 'string' ? meta['name'] : ''
  return { ...meta, name }
}

/** The key of an object in its shelf: `namespace/name`, or the name alone where there are no namespaces. */
export function objectKey(namespace: string | undefined, name: string): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

/** An RFC 3339 time with whole seconds, as Kubernetes writes `metav1.Time`. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}
