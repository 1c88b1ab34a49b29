/** valibot schemas for what comes from outside, and errors that name key, value and remedy. */

import * as v from 'valibot'

import { cidrText, ipNetText } from '#ip/prefix.ts'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { CniError, messageOf, type CniErrorKind } from './errors.ts'
import { excerpt, isObject, type JsonObject } from './json.ts'

/** Any JSON object, kept as it is. */
export const jsonObject = v.custom<JsonObject>(isObject, 'expected a JSON object')

/** A list of strings; Go writes an empty list as null. */
export const stringList = v.pipe(
  v.nullable(v.array(v.string())),
  v.transform((list) => list ?? []),
)

/** `dns` of a configuration or a result. */
export const dnsSchema = v.object({
  nameservers: v.optional(stringList),
  domain: v.optional(v.string()),
  search: v.optional(stringList),
  options: v.optional(stringList),
})

function canonical<T>(parse: (text: string) => T) {
  return v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }): T => {
      try {
        return parse(dataset.value)
      } catch (error) {
        addIssue({ message: messageOf(error) })
        return NEVER
      }
    }),
  )
}

/** `10.0.0.1` → canonical text. */
export const ipSchema = canonical(ipText)
/** `10.0.0.1/24` → canonical text, host bits kept. */
export const ipNetSchema = canonical(ipNetText)
/** `10.0.0.0/24` → canonical text, host bits cleared. */
export const cidrSchema = canonical(cidrText)
export const macSchema = canonical(parseMac)

/** A whole number from `min` to `max`, both included. */
export const intSchema = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max))

/**
 * Parses `value` with `schema`. Throws CniError (code 7 unless told otherwise) whose message names what was parsed, the path of the first
 * bad key and its value: `bridge configuration: "mtu" is "big": expected number`.
 */
export function parseWith<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
  kind: CniErrorKind = 'invalidConfig',
): v.InferOutput<S> {
  const parsed = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true })
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  const path = v.getDotPath(issue)
  const where = path === null ? what : `${what}: ${JSON.stringify(path)}`
  const is = issue.input === undefined ? 'is missing' : `is ${excerpt(issue.input)}`
  const wish = issue.expected === null ? issue.message : `expected ${issue.expected}`
  throw new CniError(kind, `${where} ${is}: ${wish}`)
}
