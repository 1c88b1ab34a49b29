import { isObject, textAt, withPath } from '../json.ts'
import type { Json } from '../json.ts'
import { CRDS } from './builtin.ts'
import { establishedStatus, typesOf, validateCrd } from './crd.ts'
import type { ApiObject } from './object.ts'
import { objectKey, timestamp } from './object.ts'
import { afterUpdate, managersOf, toManagedFields } from './patch/apply.ts'
import type { Manager } from './patch/apply.ts'
import { applied, PATCH, patched, rulesOf, writer } from './patching.ts'
import { parseObject, prepareCreate, prepareUpdate, unchanged } from './prepare.ts'
import type { WriteOptions } from './prepare.ts'
import { Registry } from './registry.ts'
import type { ResourceType } from './resource.ts'
import { validate } from './schema.ts'
import { alreadyExists, badRequest, conflict, forbidden, invalid, noSuchPath, notFound } from './status.ts'
import type { FieldError } from './status.ts'
import type { Store } from './store.ts'
import { invalidValue, validateMetadata } from './validation.ts'

/** Where an object is: its type, namespace (undefined for cluster-wide kinds), and name. */
export interface Target {
  readonly type: ResourceType
  readonly namespace: string | undefined
  readonly name: string
  readonly subresource?: string
}

/** What a deletion may be bound to. */
export interface DeleteOptions {
  readonly uid?: string
  readonly resourceVersion?: string
  readonly dryRun?: boolean
}

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease']

/** The API's verbs on a store: what a kube-apiserver's registry layer does between HTTP and etcd. */
export class Api {
  readonly store: Store
  readonly registry = new Registry()
  readonly #now: () => number
  /** Namespaces and definitions that go as soon as they are empty. */
  readonly #draining = new Map<string, { readonly type: ResourceType; readonly name: string }>()

  constructor(store: Store, now: () => number = Date.now) {
    this.store = store
    this.#now = now
    this.reload()
  }

  /** Takes over what the store holds, after a restore: kinds of definitions, unfinished deletions, first namespaces. */
  reload(): void {
    const crds = this.#crdType()
    for (const { object } of this.store.list(CRDS)) this.registry.define(object.metadata.name, typesOf(object))
    for (const name of NAMESPACES) {
      const type = this.#namespaceType()
      if (this.store.get('namespaces', name) !== undefined) continue
      this.create({ type, namespace: undefined, name }, { metadata: { name } })
    }
    for (const type of [this.#namespaceType(), crds]) {
      for (const { object } of this.store.list(type.shelf)) {
        if (object.metadata.deletionTimestamp !== undefined) this.#drain(type, object.metadata.name)
      }
    }
  }

  #typeOf(group: string, version: string, plural: string): ResourceType {
    const type = this.registry.find(group, version, plural)
    if (type === undefined) throw noSuchPath()
    return type
  }

  #namespaceType(): ResourceType {
    return this.#typeOf('', 'v1', 'namespaces')
  }

  #crdType(): ResourceType {
    return this.#typeOf('apiextensions.k8s.io', 'v1', 'customresourcedefinitions')
  }

  /** An object as one version serves it. */
  view(type: ResourceType, object: ApiObject): ApiObject {
    return type.convert === undefined ? object : type.convert.fromStored(object)
  }

  #stored(target: Target): ApiObject {
    const found = this.store.get(target.type.shelf, objectKey(target.namespace, target.name))
    if (found === undefined) throw notFound(target.type, target.name)
    return found
  }

  /** True where there is an object to read or replace. */
  has(target: Target): boolean {
    return this.store.get(target.type.shelf, objectKey(target.namespace, target.name)) !== undefined
  }

  /** @throws ApiError 404 */
  get(target: Target): ApiObject {
    return this.view(target.type, this.#stored(target))
  }

  #validate(type: ResourceType, object: ApiObject, previous: ApiObject | undefined): void {
    const errors: FieldError[] = [...validateMetadata(type, object)]
    if (type.schema !== undefined) {
      const { apiVersion: _a, kind: _k, metadata: _m, ...content } = object
      errors.push(...validate(content, type.schema))
    }
    if (type.shelf === CRDS) {
      errors.push(
        ...validateCrd(object, previous, (group, plural) =>
          this.registry.all().some((other) => other.group === group && other.plural === plural),
        ),
      )
    }
    errors.push(...(type.validate?.(object, previous) ?? []))
    if (errors.length > 0) throw invalid(type.kind, type.group, object.metadata.name, errors)
  }

  #toStored(type: ResourceType, object: ApiObject): ApiObject {
    return type.convert === undefined ? object : type.convert.toStored(object)
  }

  #create(target: Target, object: ApiObject, options: WriteOptions, managers: readonly Manager[] = []): ApiObject {
    const { type, namespace } = target
    if (namespace !== undefined) this.#openNamespace(type, namespace, object.metadata.name)
    let fresh = prepareCreate(type, namespace, this.#toStored(type, object), this.#now())
    this.#validate(type, fresh, undefined)
    const key = objectKey(namespace, fresh.metadata.name)
    if (this.store.get(type.shelf, key) !== undefined) throw alreadyExists(type, fresh.metadata.name)
    if (type.shelf === CRDS) fresh = { ...fresh, status: establishedStatus(fresh, this.#now()) }
    if (managers.length > 0) fresh = withManagers(fresh, managers)
    if (options.dryRun === true) return this.view(type, fresh)
    const stored = this.store.put(type.shelf, key, fresh)
    if (type.shelf === CRDS) this.registry.define(stored.metadata.name, typesOf(stored))
    return this.view(type, stored)
  }

  /**
   * Creates an object; `target.name` counts for nothing (the object names itself).
   * @throws ApiError 400, 403 (namespace going), 404 (no namespace), 409, 422
   */
  create(target: Target, body: Json, options: WriteOptions = {}): ApiObject {
    return this.#create(target, parseObject(target.type, body, options), options)
  }

  #openNamespace(type: ResourceType, namespace: string, name: string): void {
    const found = this.store.get('namespaces', namespace)
    if (found === undefined) throw notFound(this.#namespaceType(), namespace)
    if (found.metadata.deletionTimestamp === undefined) return
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`
    const message = `namespace ${namespace} is being terminated`
    throw forbidden(type, name, why, [{ reason: 'NamespaceTerminating', message, field: 'metadata.namespace' }])
  }

  #checkVersion(target: Target, previous: ApiObject, object: ApiObject, unconditional: boolean): void {
    const { type, name } = target
    const { resourceVersion = '', uid } = object.metadata
    if (resourceVersion === '' || resourceVersion === '0') {
      if (unconditional) return
      throw invalid(type.kind, type.group, name, [
        invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
      ])
    }
    if (resourceVersion !== previous.metadata.resourceVersion) throw conflict(type, name)
    if (uid !== undefined && uid !== previous.metadata.uid) throw uidConflict(target, uid, previous)
  }

  #write(
    target: Target,
    previous: ApiObject,
    object: ApiObject,
    options: WriteOptions,
    managers?: readonly Manager[],
  ): ApiObject {
    const { type, subresource = '' } = target
    let next = prepareUpdate(type, subresource, previous, this.#toStored(type, object))
    const owners =
      managers ??
      (managersOf(previous).length === 0
        ? []
        : afterUpdate(previous, next, writer(type, subresource, options, this.#now()), rulesOf(type)))
    next = withManagers(next, owners)
    this.#validate(type, next, previous)
    if (type.shelf === CRDS && subresource === '') next = { ...next, status: establishedStatus(next, this.#now()) }
    if (unchanged(previous, next)) return this.view(type, previous)
    if (options.dryRun === true) return this.view(type, next)
    const key = objectKey(previous.metadata.namespace, previous.metadata.name)
    const stored = this.store.put(type.shelf, key, next)
    if (type.shelf === CRDS) this.registry.define(stored.metadata.name, typesOf(stored))
    if (stored.metadata.deletionTimestamp !== undefined && (stored.metadata.finalizers ?? []).length === 0) {
      if (this.#draining.has(drainKey(type, stored.metadata.name))) this.#settle()
      else return this.view(type, this.#remove(type, stored))
    }
    return this.view(type, stored)
  }

  /**
   * Replaces an object, or only its status where the target says so.
   * @throws ApiError 400, 404, 409, 422
   */
  update(target: Target, body: Json, options: WriteOptions = {}): ApiObject {
    const object = parseObject(target.type, body, options)
    if (object.metadata.name !== target.name) {
      throw badRequest(
        `the name of the object (${object.metadata.name}) does not match the name on the URL (${target.name})`,
      )
    }
    const previous = this.store.get(target.type.shelf, objectKey(target.namespace, target.name))
    if (previous === undefined) {
      if (target.type.createOnUpdate && target.subresource === undefined) return this.#create(target, object, options)
      throw notFound(target.type, target.name)
    }
    this.#checkVersion(target, previous, object, target.type.unconditionalUpdate)
    return this.#write(target, previous, object, options)
  }

  /**
   * Changes an object by a patch; apply patches create what is missing.
   * @throws ApiError 400, 404, 409, 415, 422
   */
  patch(target: Target, mediaType: string, patch: Json, options: WriteOptions = {}): ApiObject {
    const { type, name } = target
    if (mediaType === PATCH.apply) return this.#apply(target, patch, options)
    const previous = this.#stored(target)
    const result = patched(type, this.view(type, previous), mediaType, patch)
    const object = parseObject(type, result, options)
    if (object.metadata.name !== name) {
      throw invalid(type.kind, type.group, name, [
        invalidValue('metadata.name', object.metadata.name, 'field is immutable'),
      ])
    }
    this.#checkVersion(target, previous, object, true)
    return this.#write(target, previous, object, options)
  }

  #apply(target: Target, patch: Json, options: WriteOptions): ApiObject {
    const { type, namespace, name, subresource = '' } = target
    if (!isObject(patch)) throw badRequest('the configuration to apply must be an object')
    if (patch['apiVersion'] === undefined || patch['kind'] === undefined) {
      throw badRequest('apiVersion and kind must be set in an apply patch')
    }
    const given = textAt(patch, 'metadata', 'name') ?? name
    if (given !== name)
      throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`)
    const previous = this.store.get(type.shelf, objectKey(namespace, name))
    if (previous === undefined && subresource !== '') throw notFound(type, name)
    const config = withPath(patch, ['metadata', 'name'], name)
    const live = previous === undefined ? undefined : this.view(type, previous)
    const { object, managers } = applied(type, live, config, subresource, options, this.#now())
    const parsed = parseObject(type, object, options)
    if (previous === undefined) return this.#create(target, parsed, options, managers)
    this.#checkVersion(target, previous, parsed, true)
    return this.#write(target, previous, parsed, options, managers)
  }

  /** Removes an object from the store, and with it what waited for its end. */
  #remove(type: ResourceType, object: ApiObject): ApiObject {
    const gone = this.store.remove(type.shelf, objectKey(object.metadata.namespace, object.metadata.name))
    if (type.shelf === CRDS) this.registry.define(object.metadata.name, [])
    this.#settle()
    return gone ?? object
  }

  /**
   * Deletes an object: at once, or, where finalizers hold it (or a namespace or definition still has content), by
   * marking it. Graceful deletion is not awaited: there is no kubelet to end it.
   * @throws ApiError 404, 409 (preconditions)
   */
  delete(target: Target, options: DeleteOptions = {}): { readonly object: ApiObject; readonly gone: boolean } {
    const { type, name } = target
    const previous = this.#stored(target)
    const { uid, resourceVersion } = options
    if (uid !== undefined && uid !== previous.metadata.uid) throw uidConflict(target, uid, previous)
    if (resourceVersion !== undefined && resourceVersion !== previous.metadata.resourceVersion) {
      throw conflict(
        type,
        name,
        `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${previous.metadata.resourceVersion}). The object might have been modified`,
      )
    }
    const drains = type.shelf === 'namespaces' || type.shelf === CRDS
    const held = drains || (previous.metadata.finalizers ?? []).length > 0
    if (options.dryRun === true) return { object: this.view(type, previous), gone: !held }
    if (!held) return { object: this.view(type, this.#remove(type, previous)), gone: true }
    let object = previous
    if (previous.metadata.deletionTimestamp === undefined) {
      const metadata = {
        ...previous.metadata,
        deletionTimestamp: timestamp(this.#now()),
        deletionGracePeriodSeconds: 0,
      }
      const marked = { ...previous, metadata }
      object = this.store.put(
        type.shelf,
        objectKey(metadata.namespace, name),
        type.shelf === 'namespaces' ? { ...marked, status: { phase: 'Terminating' } } : marked,
      )
    }
    if (drains) this.#drain(type, name)
    return {
      object: this.view(type, object),
      gone: this.store.get(type.shelf, objectKey(target.namespace, name)) === undefined,
    }
  }

  /** Deletes the content of a namespace or of a definition's kind, then (when nothing is left) the thing itself. */
  #drain(type: ResourceType, name: string): void {
    this.#draining.set(drainKey(type, name), { type, name })
    for (const [owned, object] of this.#content(type, name)) {
      // Something deleted earlier in this loop may have taken this one along.
      const { namespace, name } = object.metadata
      if (this.store.get(owned.shelf, objectKey(namespace, name)) !== undefined)
        this.delete({ type: owned, namespace, name })
    }
    this.#settle()
  }

  #content(type: ResourceType, name: string): readonly (readonly [ResourceType, ApiObject])[] {
    if (type.shelf === CRDS) {
      const [owned] = this.registry.all().filter((other) => other.custom && other.shelf === name)
      return owned === undefined ? [] : this.store.list(owned.shelf).map(({ object }) => [owned, object] as const)
    }
    return this.registry
      .namespaced()
      .flatMap((owned) =>
        this.store
          .list(owned.shelf)
          .flatMap(({ object }) => (object.metadata.namespace === name ? [[owned, object] as const] : [])),
      )
  }

  #settle(): void {
    for (const [key, { type, name }] of this.#draining) {
      const object = this.store.get(type.shelf, name)
      if (
        object !== undefined &&
        ((object.metadata.finalizers ?? []).length > 0 || this.#content(type, name).length > 0)
      )
        continue
      this.#draining.delete(key)
      if (object !== undefined) this.#remove(type, object)
    }
  }
}

const drainKey = (type: ResourceType, name: string): string => `${type.shelf}/${name}`

function withManagers(object: ApiObject, managers: readonly Manager[]): ApiObject {
  const { managedFields: _, ...metadata } = object.metadata
  const fields = toManagedFields(managers)
  const name = object.metadata.name
  return {
    ...object,
    metadata: fields.length === 0 ? { ...metadata, name } : { ...metadata, name, managedFields: fields },
  }
}

function uidConflict(target: Target, uid: string, previous: ApiObject): Error {
  const why = `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${previous.metadata.uid ?? ''}`
  return conflict(target.type, target.name, why)
}
