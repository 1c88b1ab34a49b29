import { equal, isArray, isObject } from '../../json.ts'
import type { Json, JsonObject } from '../../json.ts'
import type { ListRules } from './list-rules.ts'

/** A strategic merge patch that cannot be applied. */
export class StrategicPatchError extends Error {
  readonly code: 'malformed' | 'no-merge-key'

  constructor(code: StrategicPatchError['code'], message: string) {
    super(message)
    this.name = 'StrategicPatchError'
    this.code = code
  }
}

const DIRECTIVE = '$patch'
const RETAIN = '$retainKeys'
const ORDER = '$setElementOrder/'
const REMOVE = '$deleteFromPrimitiveList/'

const child = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`)

function directive(patch: JsonObject, path: string): 'merge' | 'replace' | 'delete' {
  const value = patch[DIRECTIVE] ?? 'merge'
  if (value === 'merge' || value === 'replace' || value === 'delete') return value
  throw new StrategicPatchError('malformed', `unknown $patch directive ${JSON.stringify(value)} at "${path}"`)
}

function listOf(value: Json, what: string): readonly Json[] {
  if (!isArray(value)) throw new StrategicPatchError('malformed', `${what} must be a list`)
  return value
}

/** Sorts items as the patch asks; those that it does not name keep their place behind the item they followed. */
function inOrder(items: readonly Json[], order: readonly Json[], same: (item: Json, wanted: Json) => boolean): Json[] {
  const rank = (item: Json): number => order.findIndex((wanted) => same(item, wanted))
  let last = -1
  const ranked = items.map((item) => {
    const found = rank(item)
    if (found >= 0) last = found
    return { item, rank: last, named: found >= 0 }
  })
  return ranked.toSorted((a, b) => a.rank - b.rank || Number(b.named) - Number(a.named)).map(({ item }) => item)
}

function mergeSet(before: readonly Json[], patch: readonly Json[]): Json[] {
  const out = [...before]
  for (const item of patch) if (!out.some((known) => equal(known, item))) out.push(item)
  return out
}

function keyOf(item: Json, key: string, path: string): Json {
  if (!isObject(item)) throw new StrategicPatchError('malformed', `items of "${path}" must be objects`)
  const value = item[key]
  if (value === undefined) {
    throw new StrategicPatchError('no-merge-key', `an item of "${path}" does not have its merge key "${key}"`)
  }
  return value
}

function mergeMapList(
  before: readonly Json[],
  patch: readonly Json[],
  key: string,
  path: string,
  rules: ListRules,
): Json[] {
  const replace = patch.some((item) => isObject(item) && item[DIRECTIVE] === 'replace')
  if (replace) {
    return patch
      .filter((item) => !(isObject(item) && item[DIRECTIVE] !== undefined))
      .map((item) => clean(item, path, rules))
  }
  let out = [...before]
  for (const item of patch) {
    if (!isObject(item)) throw new StrategicPatchError('malformed', `items of "${path}" must be objects`)
    const value = keyOf(item, key, path)
    const matches = (known: Json): boolean => isObject(known) && equal(known[key], value)
    if (directive(item, path) === 'delete') {
      out = out.filter((known) => !matches(known))
      continue
    }
    const index = out.findIndex(matches)
    const known = out[index]
    const merged = mergeObject(isObject(known) ? known : {}, item, path, rules)
    if (index < 0) out.push(merged)
    else out[index] = merged
  }
  return out
}

/** A value of the patch that meets nothing: its directives are carried out on emptiness and disappear. */
function clean(value: Json, path: string, rules: ListRules): Json {
  if (isObject(value)) return mergeObject({}, value, path, rules)
  if (isArray(value)) return mergeList([], value, path, rules)
  return value
}

function mergeList(before: readonly Json[], patch: readonly Json[], path: string, rules: ListRules): Json[] {
  const rule = rules(path)
  if (rule?.kind === 'map') return mergeMapList(before, patch, rule.key, path, rules)
  if (rule?.kind === 'set') return mergeSet(before, patch)
  return [...patch]
}

function applyListDirectives(out: Map<string, Json>, patch: JsonObject, path: string, rules: ListRules): void {
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(REMOVE)) continue
    const field = key.slice(REMOVE.length)
    const drop = listOf(value, key)
    const items = out.get(field)
    if (isArray(items))
      out.set(
        field,
        items.filter((item) => !drop.some((gone) => equal(gone, item))),
      )
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(ORDER)) continue
    const field = key.slice(ORDER.length)
    const order = listOf(value, key)
    const items = out.get(field)
    if (!isArray(items)) continue
    const rule = rules(child(path, field))
    const same = (item: Json, wanted: Json): boolean =>
      rule?.kind === 'map'
        ? isObject(item) && isObject(wanted) && item[rule.key] !== undefined && equal(item[rule.key], wanted[rule.key])
        : equal(item, wanted)
    out.set(field, inOrder(items, order, same))
  }
}

function mergeObject(before: JsonObject, patch: JsonObject, path: string, rules: ListRules): JsonObject {
  const how = directive(patch, path)
  if (how === 'delete') return {}
  const out = new Map<string, Json>(how === 'replace' ? [] : Object.entries(before))
  const retain = patch[RETAIN]
  if (retain !== undefined) {
    const kept = listOf(retain, RETAIN)
    for (const key of out.keys()) if (!kept.includes(key)) out.delete(key)
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key === DIRECTIVE || key === RETAIN || key.startsWith(ORDER) || key.startsWith(REMOVE)) continue
    const here = child(path, key)
    const known = out.get(key)
    if (value === null) out.delete(key)
    else if (isObject(value)) {
      if (directive(value, here) === 'delete') out.delete(key)
      else out.set(key, mergeObject(isObject(known) ? known : {}, value, here, rules))
    } else if (isArray(value)) out.set(key, mergeList(isArray(known) ? known : [], value, here, rules))
    else out.set(key, value)
  }
  applyListDirectives(out, patch, path, rules)
  return Object.fromEntries(out)
}

/**
 * Strategic merge patch: a merge patch in which lists with a merge key are merged item by item, with the directives
 * `$patch`, `$retainKeys`, `$setElementOrder/` and `$deleteFromPrimitiveList/` (sig-api-machinery, strategic merge
 * patch). Neither input is changed.
 * @throws StrategicPatchError
 */
export function strategicPatch(target: JsonObject, patch: JsonObject, rules: ListRules): JsonObject {
  return mergeObject(target, patch, '', rules)
}
