import { at, equal, isArray, isObject } from '../../json.ts'
import type { Json, JsonObject } from '../../json.ts'
import type { ListRules } from './list-rules.ts'

/**
 * One step of a field path, in the notation of `fieldsV1`: `f:name` for a field, `k:{"name":"x"}` for an item of a
 * keyed list, `v:"x"` for a value of a set.
 */
export type FieldPath = readonly string[]

/** A set of field paths, keyed by their text. */
export type FieldSet = ReadonlyMap<string, FieldPath>

/** The text of a path, as a key. */
export const pathKey = (path: FieldPath): string => path.join('\0')

/** Fields that nobody owns: identity, and what the server writes. */
const UNOWNED = new Set(
  ['f:apiVersion', 'f:kind'].concat(
    ['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp', 'selfLink', 'managedFields']
      .concat(['deletionTimestamp', 'deletionGracePeriodSeconds', 'generateName'])
      .map((field) => `f:metadata\0f:${field}`),
  ),
)

/** The step of a list item under a rule; undefined where the item lacks its keys. */
export function itemStep(item: Json, keys: readonly string[]): string | undefined {
  if (!isObject(item)) return undefined
  const entries = keys.flatMap((key) => {
    const value = item[key]
    return value === undefined ? [] : [[key, value] as const]
  })
  return entries.length === 0 ? undefined : `k:${JSON.stringify(Object.fromEntries(entries))}`
}

/** All fields that an object sets. Items of keyed lists count as fields of their own, beside what they hold. */
export function fieldsOf(object: JsonObject, rules: ListRules): FieldSet {
  const out = new Map<string, FieldPath>()
  const add = (path: FieldPath): void => {
    const key = pathKey(path)
    if (!UNOWNED.has(key)) out.set(key, path)
  }
  const walk = (value: Json, path: FieldPath, names: string): void => {
    if (isObject(value)) {
      const entries = Object.entries(value)
      if (entries.length === 0) add(path)
      for (const [key, item] of entries) walk(item, [...path, `f:${key}`], names === '' ? key : `${names}.${key}`)
      return
    }
    const rule = isArray(value) ? rules(names) : undefined
    if (!isArray(value) || rule === undefined) {
      add(path)
      return
    }
    for (const item of value) {
      const step = rule.kind === 'set' ? `v:${JSON.stringify(item)}` : itemStep(item, rule.keys)
      if (step === undefined) continue
      add([...path, step])
      if (rule.kind === 'map') walk(item, [...path, step], names)
    }
  }
  walk(object, [], '')
  out.delete('')
  return out
}

function matches(item: Json, step: string): boolean {
  const wanted: Json = JSON.parse(step.slice(2))
  if (step.startsWith('v:')) return equal(item, wanted)
  return isObject(wanted) && Object.entries(wanted).every(([key, value]) => equal(at(item, key), value))
}

/** The value at a field path. */
export function resolve(object: Json | undefined, path: FieldPath): Json | undefined {
  let here = object
  for (const step of path) {
    if (step.startsWith('f:')) here = at(here, step.slice(2))
    else here = isArray(here) ? here.find((item) => matches(item, step)) : undefined
    if (here === undefined) return undefined
  }
  return here
}

/** A copy without the value at a path; containers that this empties go too. */
export function without(value: Json, path: FieldPath): Json | undefined {
  const [step, ...rest] = path
  if (step === undefined) return undefined
  if (step.startsWith('f:')) {
    if (!isObject(value)) return value
    const name = step.slice(2)
    const child = Object.hasOwn(value, name) ? value[name] : undefined
    if (child === undefined) return value
    const left = without(child, rest)
    const out = new Map<string, Json>(Object.entries(value))
    if (left === undefined) out.delete(name)
    else out.set(name, left)
    return out.size === 0 ? undefined : Object.fromEntries(out)
  }
  if (!isArray(value)) return value
  const items = value.flatMap((item) => {
    if (!matches(item, step)) return [item]
    const left = without(item, rest)
    return left === undefined ? [] : [left]
  })
  return items.length === 0 ? undefined : items
}

interface Tree extends Map<string, Tree> {}

/** The nested form of a set, as `managedFields[].fieldsV1` holds it. */
export function toFieldsV1(set: FieldSet): JsonObject {
  const root: Tree = new Map()
  for (const path of set.values()) {
    let here = root
    for (const step of path) {
      const next = here.get(step) ?? new Map()
      here.set(step, next)
      here = next
    }
  }
  const print = (tree: Tree, path: FieldPath): JsonObject => {
    const own = tree.size > 0 && set.has(pathKey(path)) ? [['.', {}] as const] : []
    return Object.fromEntries([
      ...own,
      ...[...tree].map(([step, child]) => [step, print(child, [...path, step])] as const),
    ])
  }
  return print(root, [])
}

/** Reads `fieldsV1`. */
export function fromFieldsV1(fields: JsonObject): FieldSet {
  const out = new Map<string, FieldPath>()
  const walk = (node: JsonObject, path: FieldPath): void => {
    const entries = Object.entries(node)
    if (path.length > 0 && (entries.length === 0 || Object.hasOwn(node, '.'))) out.set(pathKey(path), path)
    for (const [step, child] of entries) if (step !== '.' && isObject(child)) walk(child, [...path, step])
  }
  walk(fields, [])
  return out
}

/** A path as errors name it: `.spec.containers[name="x"].image`. */
export function printPath(path: FieldPath): string {
  return path
    .map((step) => {
      if (step.startsWith('f:')) return `.${step.slice(2)}`
      if (step.startsWith('v:')) return `[=${step.slice(2)}]`
      const keys: Json = JSON.parse(step.slice(2))
      const parts = isObject(keys) ? Object.entries(keys).map(([key, value]) => `${key}=${JSON.stringify(value)}`) : []
      return `[${parts.join(',')}]`
    })
    .join('')
}
