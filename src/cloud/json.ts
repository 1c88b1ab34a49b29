/** JSON, and other values, from outside, by a schema. */

import * as v from 'valibot'

import { CloudError, foreign, type CloudErrorCode } from './errors.ts'

/** Throws CloudError with `code`; its message names the field and never holds the text, which may be a key. */
export function parseJson<S extends v.GenericSchema>(
  schema: S,
  text: string,
  what: string,
  code: CloudErrorCode = 'bad-answer',
): v.InferOutput<S> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new CloudError(code, `${what}: the answer is not JSON`)
  }
  return checked(schema, value, what, code)
}

/** As parseJson, of what was read already. */
export function checked<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
  code: CloudErrorCode = 'bad-answer',
): v.InferOutput<S> {
  const parsed = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true })
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw new CloudError(code, `${what}: the answer's ${foreign(v.getDotPath(issue) ?? 'value')} is not as documented`)
}

/** The value of a schema where the text is such, else undefined. */
export function tryJson<S extends v.GenericSchema>(schema: S, text: string): v.InferOutput<S> | undefined {
  try {
    return parseJson(schema, text, '')
  } catch {
    return undefined
  }
}
