/** A JSON value. Everything that travels between client, server and store is one of these, and none is ever mutated. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject

/** A JSON object. Read fields with `o['name']`: the answer may be undefined, as it may on the wire. */
export interface JsonObject {
  readonly [key: string]: Json
}

/** True for JSON objects (not null, not arrays). */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** True for arrays; narrows readonly arrays too, which `Array.isArray` does not. */
export function isArray(value: unknown): value is readonly Json[] {
  return Array.isArray(value)
}

/** Follows field names from a value; undefined when a step is missing or no object. */
export function at(value: Json | undefined, ...path: readonly string[]): Json | undefined {
  let here = value
  for (const key of path) {
    if (!isObject(here) || !Object.hasOwn(here, key)) return undefined
    here = here[key]
  }
  return here
}

/** The string at a path, or undefined when there is none. */
export function textAt(value: Json | undefined, ...path: readonly string[]): string | undefined {
  const found = at(value, ...path)
  return typeof found === 'string' ? found : undefined
}

/** A value as text: scalars as they are, nothing as nothing, the rest as JSON. */
export function textOf(value: Json | undefined): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** The object at a path; an empty one when there is none. */
export function objectAt(value: Json | undefined, ...path: readonly string[]): JsonObject {
  const found = at(value, ...path)
  return isObject(found) ? found : {}
}

/** The array at a path; an empty one when there is none. */
export function arrayAt(value: Json | undefined, ...path: readonly string[]): readonly Json[] {
  const found = at(value, ...path)
  return isArray(found) ? found : []
}

/** Deep equality; the order of object keys does not count, that of array items does. */
export function equal(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true
  if (isArray(a)) {
    return isArray(b) && a.length === b.length && a.every((item, index) => equal(item, b[index]))
  }
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  if (keys.length !== Object.keys(b).length) return false
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]))
}

/**
 * A copy with some keys set, or removed where the value is undefined.
 * Built through entries, so that a key named `__proto__` stays data.
 */
export function withKeys(object: JsonObject, changes: { readonly [key: string]: Json | undefined }): JsonObject {
  const out = new Map<string, Json>(Object.entries(object))
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) out.delete(key)
    else out.set(key, value)
  }
  return Object.fromEntries(out)
}

/** A copy with the value at a path set (making objects on the way), or removed where it is undefined. */
export function withPath(object: JsonObject, path: readonly string[], value: Json | undefined): JsonObject {
  const [key, ...rest] = path
  if (key === undefined) return object
  if (rest.length === 0) return withKeys(object, { [key]: value })
  const child = objectAt(object, key)
  if (value === undefined && !Object.hasOwn(object, key)) return object
  return withKeys(object, { [key]: withPath(child, rest, value) })
}
