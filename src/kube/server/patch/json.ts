import { equal, isArray, isObject } from '../../json.ts'
import type { Json, JsonObject } from '../../json.ts'

/** A JSON patch that cannot be applied; the server turns it into 400 or 422. */
export class JsonPatchError extends Error {
  readonly code: 'malformed' | 'not-applicable' | 'test-failed' | 'too-large'

  constructor(code: JsonPatchError['code'], message: string) {
    super(message)
    this.name = 'JsonPatchError'
    this.code = code
  }
}

const MAX_OPERATIONS = 10_000
/** Copies add up to at most this many characters: doubling a value 30 times is a bomb, not a patch. */
const MAX_COPIED = 3 * 1024 * 1024

const missing = (pointer: string): JsonPatchError =>
  new JsonPatchError('not-applicable', `there is nothing at ${pointer === '' ? 'the root' : pointer}`)

/** The reference tokens of a JSON pointer (RFC 6901). */
export function parsePointer(pointer: string): readonly string[] {
  if (pointer === '') return []
  if (!pointer.startsWith('/')) throw new JsonPatchError('malformed', `"${pointer}" is no JSON pointer: begin with /`)
  return pointer
    .slice(1)
    .split('/')
    .map((token) => {
      if (/~(?![01])/.test(token)) throw new JsonPatchError('malformed', `"${pointer}" has a ~ without 0 or 1 after it`)
      return token.replaceAll('~1', '/').replaceAll('~0', '~')
    })
}

function indexOf(token: string, limit: number, pointer: string): number {
  if (!/^(?:0|[1-9]\d*)$/.test(token)) {
    throw new JsonPatchError('not-applicable', `"${token}" in ${pointer} is no array index`)
  }
  const index = Number(token)
  if (index > limit) throw missing(pointer)
  return index
}

function read(document: Json, pointer: string): Json {
  let here = document
  for (const token of parsePointer(pointer)) {
    let next: Json | undefined
    if (isArray(here)) next = here[indexOf(token, here.length - 1, pointer)]
    else if (isObject(here) && Object.hasOwn(here, token)) next = here[token]
    if (next === undefined) throw missing(pointer)
    here = next
  }
  return here
}

type Edit = { readonly kind: 'add' | 'replace'; readonly value: Json } | { readonly kind: 'remove' }

function edit(here: Json, tokens: readonly string[], pointer: string, change: Edit): Json {
  const [token, ...rest] = tokens
  if (token === undefined) {
    // Removing the whole document is not defined by the RFC; an API object cannot vanish by a patch.
    if (change.kind === 'remove') throw new JsonPatchError('not-applicable', 'the whole document cannot be removed')
    return change.value
  }
  if (isArray(here)) {
    const out = [...here]
    if (rest.length === 0 && change.kind === 'add') {
      out.splice(token === '-' ? here.length : indexOf(token, here.length, pointer), 0, change.value)
      return out
    }
    const index = indexOf(token, here.length - 1, pointer)
    const child = here[index]
    if (child === undefined) throw missing(pointer)
    if (rest.length === 0 && change.kind === 'remove') out.splice(index, 1)
    else out[index] = edit(child, rest, pointer, change)
    return out
  }
  if (!isObject(here)) throw missing(pointer)
  const out = new Map<string, Json>(Object.entries(here))
  const child = out.get(token)
  if (rest.length === 0 && change.kind === 'add') out.set(token, change.value)
  else if (child === undefined) throw missing(pointer)
  else if (rest.length === 0 && change.kind === 'remove') out.delete(token)
  else out.set(token, edit(child, rest, pointer, change))
  return Object.fromEntries(out)
}

function pointerField(operation: JsonObject, field: 'path' | 'from'): string {
  const value = operation[field]
  if (typeof value !== 'string') {
    throw new JsonPatchError('malformed', `operation ${JSON.stringify(operation['op'])} needs a string "${field}"`)
  }
  return value
}

function valueField(operation: JsonObject): Json {
  const value = operation['value']
  if (value === undefined) {
    throw new JsonPatchError('malformed', `operation ${JSON.stringify(operation['op'])} needs a "value"`)
  }
  return value
}

/**
 * Applies a JSON patch (RFC 6902), all operations or none. Neither input is changed.
 * @throws JsonPatchError
 */
export function jsonPatch(target: Json, patch: Json): Json {
  if (!isArray(patch)) throw new JsonPatchError('malformed', 'a JSON patch is an array of operations')
  if (patch.length > MAX_OPERATIONS) {
    throw new JsonPatchError(
      'too-large',
      `at most ${MAX_OPERATIONS} operations are allowed, this patch has ${patch.length}`,
    )
  }
  let copied = 0
  let document = target
  for (const operation of patch) {
    if (!isObject(operation)) throw new JsonPatchError('malformed', 'each operation of a JSON patch is an object')
    const path = pointerField(operation, 'path')
    const tokens = parsePointer(path)
    switch (operation['op']) {
      case 'add':
        document = edit(document, tokens, path, { kind: 'add', value: valueField(operation) })
        break
      case 'replace':
        document = edit(document, tokens, path, { kind: 'replace', value: valueField(operation) })
        break
      case 'remove':
        document = edit(document, tokens, path, { kind: 'remove' })
        break
      case 'test':
        if (!equal(read(document, path), valueField(operation))) {
          throw new JsonPatchError('test-failed', `testing value ${path} failed`)
        }
        break
      case 'copy': {
        const value = read(document, pointerField(operation, 'from'))
        copied += JSON.stringify(value).length
        if (copied > MAX_COPIED) throw new JsonPatchError('too-large', 'the copies of this patch are too large')
        document = edit(document, tokens, path, { kind: 'add', value })
        break
      }
      case 'move': {
        const from = pointerField(operation, 'from')
        const value = read(document, from)
        if (path !== from && path.startsWith(`${from}/`)) {
          throw new JsonPatchError('not-applicable', `${from} cannot be moved into itself (${path})`)
        }
        if (path === from) break
        const without = edit(document, parsePointer(from), from, { kind: 'remove' })
        document = edit(without, tokens, path, { kind: 'add', value })
        break
      }
      default:
        throw new JsonPatchError('malformed', `unknown operation ${JSON.stringify(operation['op'] ?? null)}`)
    }
  }
  return document
}
