import { randomBytes, randomUUID } from 'node:crypto'
import { arrayAt, equal, isObject, objectAt, textAt, withKeys } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import { crdDefaults } from './crd.ts'
import { CRDS } from './builtin.ts'
import type { ApiObject, Metadata } from './object.ts'
import { parseMetadata, timestamp } from './object.ts'
import type { ResourceType } from './resource.ts'
import { groupVersion } from './resource.ts'
import { prune, withDefaults } from './schema.ts'
import { badRequest, forbidden } from './status.ts'

/** What a writer may say about a write. */
export interface WriteOptions {
  readonly dryRun?: boolean
  readonly fieldManager?: string
  readonly fieldValidation?: 'Ignore' | 'Warn' | 'Strict'
  readonly force?: boolean
  /** Receives texts for the Warning header. */
  readonly warn?: (text: string) => void
}

const SUFFIX_LENGTH = 5
/** The letters of generated names: no vowels, nothing that looks like another (apimachinery `rand.String`). */
const LETTERS = 'bcdfghjklmnpqrstvwxz2456789'

function suffix(): string {
  return [...randomBytes(SUFFIX_LENGTH)].map((byte) => LETTERS[byte % LETTERS.length] ?? 'x').join('')
}

/** Drops fields that are null: in an API object they mean the same as absent ones. */
function withoutNulls(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]) => (item === null ? [] : [[key, withoutNulls(item)] as const])),
  )
}

/**
 * Reads an object that a client sent for a type: envelope checked, unknown fields of custom kinds pruned, defaults in.
 * @throws ApiError 400
 */
export function parseObject(type: ResourceType, body: Json, options: WriteOptions = {}): ApiObject {
  if (!isObject(body)) throw badRequest(`the request body must be a JSON object of kind ${type.kind}`)
  const expected = groupVersion(type)
  const apiVersion = textAt(body, 'apiVersion') ?? (type.custom ? '' : expected)
  const kind = textAt(body, 'kind') ?? (type.custom ? '' : type.kind)
  if (apiVersion !== expected) {
    throw badRequest(
      `the API version in the data (${apiVersion}) does not match the expected API version (${expected})`,
    )
  }
  if (kind !== type.kind)
    throw badRequest(`the kind in the data (${kind}) does not match the expected kind (${type.kind})`)
  const metadata = parseMetadata(type.kind, body['metadata'])
  if (!type.custom) {
    const plain = withoutNulls(body)
    return complete(type, { ...(isObject(plain) ? plain : {}), apiVersion, kind, metadata })
  }
  const { apiVersion: _a, kind: _k, metadata: _m, ...content } = body
  const { value, dropped } = prune(content, type.schema ?? { 'x-kubernetes-preserve-unknown-fields': true })
  if (dropped.length > 0 && options.fieldValidation !== 'Ignore') {
    const unknown = dropped.map((path) => `unknown field "${path}"`)
    if (options.fieldValidation === 'Strict') throw badRequest(`strict decoding error: ${unknown.join(', ')}`)
    for (const text of unknown) options.warn?.(text)
  }
  return complete(type, { ...(isObject(value) ? value : {}), apiVersion, kind, metadata })
}

/** Defaults of the kind, or of its schema. */
function complete(type: ResourceType, object: ApiObject): ApiObject {
  if (type.shelf === CRDS) return crdDefaults(object)
  if (type.schema === undefined) return object
  const { apiVersion, kind, metadata, ...content } = object
  const filled = withDefaults(content, type.schema)
  return { ...(isObject(filled) ? filled : content), apiVersion, kind, metadata }
}

/** The namespace that a write goes to: path and object must agree. */
function namespaceOf(type: ResourceType, namespace: string | undefined, metadata: Metadata): string | undefined {
  if (!type.namespaced) return undefined
  if (metadata.namespace !== undefined && metadata.namespace !== '' && metadata.namespace !== namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
  }
  return namespace
}

/** Gives a new object what the server decides: name, uid, times; takes what a client cannot set. */
export function prepareCreate(
  type: ResourceType,
  namespace: string | undefined,
  object: ApiObject,
  now: number,
): ApiObject {
  const given = object.metadata
  if ((given.resourceVersion ?? '') !== '')
    throw badRequest('resourceVersion should not be set on objects to be created')
  const name = given.name === '' && (given.generateName ?? '') !== '' ? `${given.generateName}${suffix()}` : given.name
  const space = namespaceOf(type, namespace, given)
  const metadata: Metadata = {
    ...withKeys(given, {
      selfLink: undefined,
      resourceVersion: undefined,
      deletionTimestamp: undefined,
      deletionGracePeriodSeconds: undefined,
      generation: type.generation ? 1 : undefined,
      namespace: space,
    }),
    name,
    uid: randomUUID(),
    creationTimestamp: timestamp(now),
  }
  const whole: ApiObject = { ...object, metadata }
  const bare = type.dropStatusOnCreate ? dropStatus(whole) : whole
  return type.defaults === undefined ? bare : type.defaults(bare)
}

function dropStatus(object: ApiObject): ApiObject {
  const { status: _, ...rest } = object
  return { ...rest, apiVersion: object.apiVersion, kind: object.kind, metadata: object.metadata }
}

/** The fields of metadata that only the server writes. */
const SYSTEM = [
  'uid',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'selfLink',
  'generateName',
  'generation',
  'namespace',
]

function withStatusOf(object: ApiObject, from: ApiObject): ApiObject {
  const bare = dropStatus(object)
  return from['status'] === undefined ? bare : { ...bare, status: from['status'] }
}

/** Fits a changed object to its predecessor: system fields kept, status and the rest kept apart, generation counted. */
export function prepareUpdate(
  type: ResourceType,
  subresource: string,
  previous: ApiObject,
  object: ApiObject,
): ApiObject {
  namespaceOf(type, previous.metadata.namespace, object.metadata)
  const system = Object.fromEntries(SYSTEM.map((field) => [field, previous.metadata[field]] as const))
  const metadata: Metadata = { ...withKeys(object.metadata, system), name: previous.metadata.name }
  let next: ApiObject = { ...object, metadata }
  if (subresource === 'status') {
    // Built-in kinds take labels and annotations along with a status; custom resources do not.
    const kept: ApiObject = {
      ...previous,
      metadata: type.custom ? { ...previous.metadata, ...managedOf(metadata) } : metadata,
    }
    next = object['status'] === undefined ? dropStatus(kept) : { ...kept, status: object['status'] }
  } else if (type.status) next = withStatusOf(next, previous)
  if (type.defaults !== undefined) next = type.defaults(next)
  if (previous.metadata.deletionTimestamp !== undefined) {
    const before = new Set<Json>(arrayAt(previous, 'metadata', 'finalizers'))
    const added = arrayAt(next, 'metadata', 'finalizers').filter((finalizer) => !before.has(finalizer))
    if (added.length > 0) {
      throw forbidden(
        type,
        metadata.name,
        `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
      )
    }
  }
  if (!type.generation || equal(content(type, previous), content(type, next))) return next
  return { ...next, metadata: { ...next.metadata, generation: (previous.metadata.generation ?? 0) + 1 } }
}

const managedOf = (metadata: Metadata): JsonObject =>
  metadata['managedFields'] === undefined ? {} : { managedFields: metadata['managedFields'] }

/** What the generation counts: all but envelope, metadata and (where it is a subresource) status. */
function content(type: ResourceType, object: ApiObject): JsonObject {
  return withKeys(object, {
    apiVersion: undefined,
    kind: undefined,
    metadata: undefined,
    ...(type.status ? { status: undefined } : {}),
  })
}

/** True when two states differ in nothing but resourceVersion and managedFields' times. */
export function unchanged(a: ApiObject, b: ApiObject): boolean {
  const plain = (object: ApiObject): JsonObject => {
    const managed = arrayAt(object, 'metadata', 'managedFields').map((entry) =>
      isObject(entry) ? withKeys(entry, { time: undefined }) : entry,
    )
    return {
      ...object,
      metadata: withKeys(objectAt(object, 'metadata'), { resourceVersion: undefined, managedFields: managed }),
    }
  }
  return equal(plain(a), plain(b))
}
