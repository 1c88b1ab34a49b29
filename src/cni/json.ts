/** JSON from outside: bounded in size and depth before anything looks at it. */

import { decodingFailure, messageOf } from './errors.ts'

export type Json = null | boolean | number | string | readonly Json[] | JsonObject

/** Keys come from outside, `__proto__` included: read with `Object.hasOwn` or destructuring, copy with spread, never assign to a computed key. */
export interface JsonObject {
  readonly [key: string]: Json | undefined
}

/** Far above any real configuration (a few kB), and small enough to hold in memory many times over. */
export const MAX_JSON_BYTES = 10 * 1024 * 1024

/** JSON.stringify recurses, so depth is bounded on the way in. */
const MAX_DEPTH = 256

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Parses one JSON object. `what` names it in errors ("the network configuration on stdin"). Throws CniError code 6. */
export function parseJsonObject(text: string, what: string): JsonObject {
  const value = parseJson(text, what)
  if (!isObject(value)) throw decodingFailure(`${what} is not a JSON object`, `it starts with ${excerpt(text)}`)
  return value
}

/** Parses any JSON value within the bounds. Throws CniError code 6. */
export function parseJson(text: string, what: string): Json {
  if (text.length > MAX_JSON_BYTES) throw decodingFailure(`${what} is larger than ${MAX_JSON_BYTES} bytes`)
  if (text.trim() === '') throw decodingFailure(`${what} is empty`, 'a JSON object is expected')
  if (isTooDeep(text)) throw decodingFailure(`${what} nests deeper than ${MAX_DEPTH} levels`)
  try {
    const value: Json = JSON.parse(text)
    return value
  } catch (error) {
    throw decodingFailure(`${what} is not JSON`, messageOf(error), { cause: error })
  }
}

function isTooDeep(text: string): boolean {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (inString) {
      if (c === 0x5c) i++
      else if (c === 0x22) inString = false
    } else if (c === 0x22) inString = true
    else if (c === 0x7b || c === 0x5b) {
      if (++depth > MAX_DEPTH) return true
    } else if (c === 0x7d || c === 0x5d) depth--
  }
  return false
}

/** The start of a foreign value for a message: quoted, control characters escaped, at most 64 characters. */
export function excerpt(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 64 ? `${text.slice(0, 61)}...` : text
}
