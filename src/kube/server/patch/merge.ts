import { isObject } from '../../json.ts'
import type { Json } from '../../json.ts'

/** JSON merge patch (RFC 7386): null removes, objects merge, everything else replaces. Neither input is changed. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch
  const out = new Map<string, Json>(isObject(target) ? Object.entries(target) : [])
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) out.delete(key)
    else out.set(key, mergePatch(out.get(key), value))
  }
  return Object.fromEntries(out)
}

/** The merge patch that makes `to` of `from`. Nulls inside `to` cannot be expressed (RFC 7386, section 1). */
export function mergeDiff(from: Json | undefined, to: Json): Json {
  if (!isObject(from) || !isObject(to)) return to
  const out = new Map<string, Json>()
  for (const key of Object.keys(from)) if (!Object.hasOwn(to, key)) out.set(key, null)
  for (const [key, value] of Object.entries(to)) {
    const before = Object.hasOwn(from, key) ? from[key] : undefined
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(value)) continue
    out.set(key, before === undefined ? value : mergeDiff(before, value))
  }
  return Object.fromEntries(out)
}
