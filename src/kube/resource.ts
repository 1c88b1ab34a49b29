import type { ObjectMeta } from 'kubernetes-types/meta/v1.js'
import { isObject, textAt } from './json.ts'

declare const of: unique symbol

/** What all objects of the API have in common. */
export interface KubeObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata?: ObjectMeta
}

/** A kind and its place in the API. `T` is what its objects look like; nothing of it exists at run time. */
export interface Resource<T extends KubeObject> {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
  readonly [of]?: T
}

/** An object as the server answers it: with a name, a uid and a resourceVersion. All else is as hostile as any input. */
export type Stored<T extends KubeObject> = T & {
  readonly metadata: { readonly name: string; readonly uid: string; readonly resourceVersion: string }
}

/** True where a value has the envelope of a stored object. It is not looked into any further. */
export function isStored<T extends KubeObject>(value: unknown): value is Stored<T> {
  if (!isObject(value)) return false
  return ['name', 'uid', 'resourceVersion'].every((field) => {
    const text = textAt(value, 'metadata', field)
    return text !== undefined && text !== ''
  })
}

/** `namespace/name`, or the name alone for cluster-wide kinds: the key in caches and queues. */
export function keyOf(object: { readonly metadata?: { readonly name?: string; readonly namespace?: string } }): string {
  const { name = '', namespace } = object.metadata ?? {}
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}
