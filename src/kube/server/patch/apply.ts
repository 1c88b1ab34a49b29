import { arrayAt, equal, isArray, isObject, objectAt, textAt, withPath } from '../../json.ts'
import type { Json, JsonObject } from '../../json.ts'
import { fieldsOf, fromFieldsV1, itemStep, pathKey, resolve, toFieldsV1, without } from './field-set.ts'
import type { FieldPath, FieldSet } from './field-set.ts'
import type { ListRules } from './list-rules.ts'

/** Who owns which fields of an object (`metadata.managedFields`). */
export interface Manager {
  readonly name: string
  readonly operation: 'Apply' | 'Update'
  readonly subresource: string
  readonly apiVersion: string
  readonly time: string
  readonly fields: FieldSet
}

/** A configuration that cannot be applied. */
export class ApplyError extends Error {
  readonly code = 'malformed'

  constructor(message: string) {
    super(message)
    this.name = 'ApplyError'
  }
}

/** A field that another manager owns with another value. */
export interface ApplyConflict {
  readonly manager: Manager
  readonly path: FieldPath
}

/** What applying comes to: the new object, or the conflicts that forbid it. */
export type Applied =
  | { readonly ok: true; readonly object: JsonObject; readonly managers: readonly Manager[] }
  | { readonly ok: false; readonly conflicts: readonly ApplyConflict[] }

const same = (a: Manager, b: Pick<Manager, 'name' | 'operation' | 'subresource'>): boolean =>
  a.name === b.name && a.operation === b.operation && a.subresource === b.subresource

const minus = (set: FieldSet, drop: (key: string) => boolean): FieldSet =>
  new Map([...set].filter(([key]) => !drop(key)))

/** Reads `metadata.managedFields`. */
export function managersOf(object: JsonObject): readonly Manager[] {
  return arrayAt(object, 'metadata', 'managedFields').map((entry) => ({
    name: textAt(entry, 'manager') ?? 'unknown',
    operation: textAt(entry, 'operation') === 'Apply' ? 'Apply' : 'Update',
    subresource: textAt(entry, 'subresource') ?? '',
    apiVersion: textAt(entry, 'apiVersion') ?? '',
    time: textAt(entry, 'time') ?? '',
    fields: fromFieldsV1(objectAt(entry, 'fieldsV1')),
  }))
}

/** `metadata.managedFields` of managers; those that own nothing are left out. */
export function toManagedFields(managers: readonly Manager[]): readonly JsonObject[] {
  return managers
    .filter((manager) => manager.fields.size > 0)
    .map((manager) => ({
      manager: manager.name,
      operation: manager.operation,
      apiVersion: manager.apiVersion,
      time: manager.time,
      fieldsType: 'FieldsV1',
      fieldsV1: toFieldsV1(manager.fields),
      ...(manager.subresource === '' ? {} : { subresource: manager.subresource }),
    }))
}

function overlay(live: Json | undefined, config: Json, names: string, rules: ListRules): Json {
  if (isObject(config)) {
    const out = new Map<string, Json>(isObject(live) ? Object.entries(live) : [])
    for (const [key, value] of Object.entries(config)) {
      out.set(key, overlay(out.get(key), value, names === '' ? key : `${names}.${key}`, rules))
    }
    return Object.fromEntries(out)
  }
  const rule = isArray(config) ? rules(names) : undefined
  if (!isArray(config) || rule === undefined || !isArray(live)) return config
  if (rule.kind === 'set') return [...live, ...config.filter((item) => !live.some((known) => equal(known, item)))]
  const out = [...live]
  for (const item of config) {
    const step = itemStep(item, rule.keys)
    const index = out.findIndex((known) => step !== undefined && itemStep(known, rule.keys) === step)
    if (index < 0) out.push(item)
    else out[index] = overlay(out[index], item, names, rules)
  }
  return out
}

/** Removes what a manager no longer applies and no other owns; a list item goes when nobody owns anything in it. */
function dropAbandoned(object: JsonObject, abandoned: FieldSet, kept: readonly FieldSet[]): JsonObject {
  let out: Json = object
  // Items before their fields: an item without its key could not be found any more.
  const ordered = [...abandoned.values()].toSorted((a, b) => a.length - b.length)
  for (const path of ordered) {
    const key = pathKey(path)
    const held = kept.some((set) => set.has(key) || [...set.keys()].some((other) => other.startsWith(`${key}\0`)))
    if (!held) out = without(out, path) ?? {}
  }
  return isObject(out) ? out : object
}

/**
 * A configuration whose keyed lists have all their keys, defaults filled in.
 * @throws ApplyError where an item lacks a key, or two have the same ones.
 */
function keyed(config: JsonObject, rules: ListRules): JsonObject {
  const walk = (value: Json, names: string): Json => {
    if (isObject(value)) {
      const entries = Object.entries(value).map(
        ([key, item]) => [key, walk(item, names === '' ? key : `${names}.${key}`)] as const,
      )
      return Object.fromEntries(entries)
    }
    const rule = isArray(value) ? rules(names) : undefined
    if (!isArray(value) || rule?.kind !== 'map') return value
    const seen = new Set<string>()
    return value.map((item) => {
      const whole = isObject(item) ? { ...rule.defaults, ...item } : item
      const missing = isObject(whole) ? rule.keys.find((key) => whole[key] === undefined) : rule.keys[0]
      if (missing !== undefined) throw new ApplyError(`.${names}: an item of this list lacks its key "${missing}"`)
      const step = itemStep(whole, rule.keys) ?? ''
      if (seen.has(step)) throw new ApplyError(`.${names}: two items of this list have the keys ${step.slice(2)}`)
      seen.add(step)
      return walk(whole, names)
    })
  }
  const result = walk(config, '')
  return isObject(result) ? result : config
}

/**
 * Server-side apply: `config` becomes part of the object; what this manager applied before and left out now goes,
 * unless others own it; fields that others own with other values are conflicts unless forced.
 * @throws ApplyError
 */
export function applyConfig(
  live: JsonObject | undefined,
  config: JsonObject,
  by: Omit<Manager, 'fields' | 'operation'>,
  rules: ListRules,
  force: boolean,
): Applied {
  const wanted = keyed(withPath(config, ['metadata', 'managedFields'], undefined), rules)
  const fields = fieldsOf(wanted, rules)
  const me = { ...by, operation: 'Apply' as const }
  if (live === undefined) return { ok: true, object: wanted, managers: [{ ...me, fields }] }
  let known = managersOf(live)
  if (known.length === 0) {
    // Nobody applied so far: whatever there is belongs to those who wrote it, under one name.
    known = [{ ...me, name: 'before-first-apply', operation: 'Update', subresource: '', fields: fieldsOf(live, rules) }]
  }
  const others = known.filter((manager) => !same(manager, me))
  const conflicts = others.flatMap((manager) =>
    [...fields].flatMap(([key, path]) => {
      if (!manager.fields.has(key)) return []
      const [before, after] = [resolve(live, path), resolve(wanted, path)]
      // An item of a list is a field too, but holding it is no claim on what it contains.
      const container = (path.at(-1) ?? '').startsWith('k:')
      return container || before === undefined || equal(before, after) ? [] : [{ manager, path }]
    }),
  )
  if (conflicts.length > 0 && !force) return { ok: false, conflicts }
  const lost = new Set(conflicts.map(({ path }) => pathKey(path)))
  const remaining = others.map((manager) => ({ ...manager, fields: minus(manager.fields, (key) => lost.has(key)) }))
  const mine = known.find((manager) => same(manager, me))
  const abandoned = minus(mine?.fields ?? new Map(), (key) => fields.has(key))
  const merged = overlay(live, wanted, '', rules)
  const object = dropAbandoned(isObject(merged) ? merged : live, abandoned, [fields, ...remaining.map((m) => m.fields)])
  return { ok: true, object, managers: [...remaining, { ...me, fields }] }
}

/**
 * Ownership after an ordinary write to an object that has managers: the writer owns what it changed, and nobody owns
 * what is gone.
 */
export function afterUpdate(
  before: JsonObject,
  after: JsonObject,
  by: Omit<Manager, 'fields' | 'operation'>,
  rules: ListRules,
): readonly Manager[] {
  const fields = fieldsOf(after, rules)
  const changed = new Map(
    [...fields].filter(([, path]) => {
      const [old, now] = [resolve(before, path), resolve(after, path)]
      return (path.at(-1) ?? '').startsWith('k:') ? old === undefined : !equal(old, now)
    }),
  )
  const me = { ...by, operation: 'Update' as const }
  const known = managersOf(before)
  const rest = known.filter((manager) => !same(manager, me))
  const own = known.find((manager) => same(manager, me))?.fields ?? new Map<string, FieldPath>()
  const mine = new Map([...own, ...changed].filter(([key]) => fields.has(key)))
  return [
    ...rest.map((manager) => ({
      ...manager,
      fields: minus(manager.fields, (key) => changed.has(key) || !fields.has(key)),
    })),
    { ...me, fields: mine },
  ]
}
