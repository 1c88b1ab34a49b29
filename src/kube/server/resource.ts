import type { Json } from '../json.ts'
import type { ApiObject } from './object.ts'
import type { Schema } from './schema.ts'
import type { FieldError } from './status.ts'

/** One column of `kubectl get`: the definition that goes into a Table, and how a cell comes from an object. */
export interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date'
  readonly format?: string
  readonly description?: string
  /** 0 is always shown, anything above only with `-o wide`. */
  readonly priority?: number
  readonly cell: (object: ApiObject, now: number) => Json
}

/** One served version of a kind: its place in the API and how its objects behave. */
export interface ResourceType {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly namespaced: boolean
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  /** The shelf that holds the objects; versions of one kind share it. */
  readonly shelf: string
  /** There is a /status subresource, and the main resource leaves `status` alone. */
  readonly status: boolean
  /** `status` of a new object is dropped (kubelets may register Nodes with one). */
  readonly dropStatusOnCreate: boolean
  /** metadata.generation counts changes outside metadata and status. */
  readonly generation: boolean
  /** PUT without a resourceVersion overwrites whatever there is. */
  readonly unconditionalUpdate: boolean
  /** PUT creates what does not exist. */
  readonly createOnUpdate: boolean
  /** Comes from a CustomResourceDefinition. */
  readonly custom: boolean
  /** Names of the kind must be DNS labels, not only subdomains. */
  readonly labelNames: boolean
  readonly columns: readonly Column[]
  /** Fields for field selectors, beside metadata.name and metadata.namespace. */
  readonly fields: { readonly [field: string]: readonly string[] }
  readonly schema?: Schema
  /** Fills what a client may leave out. */
  readonly defaults?: (object: ApiObject) => ApiObject
  /** Refuses values; `previous` is undefined on create. */
  readonly validate?: (object: ApiObject, previous: ApiObject | undefined) => readonly FieldError[]
  /** Where versions differ in their fields: to and from the stored form. */
  readonly convert?: {
    readonly toStored: (object: ApiObject) => ApiObject
    readonly fromStored: (object: ApiObject) => ApiObject
  }
}

/** `v1` or `group/version`. */
export function groupVersion(type: { readonly group: string; readonly version: string }): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`
}

/** Name of a shelf: `nodes`, `leases.coordination.k8s.io`. */
export function shelfName(group: string, plural: string): string {
  return group === '' ? plural : `${plural}.${group}`
}
