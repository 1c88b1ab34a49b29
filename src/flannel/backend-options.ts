/** Reading the options of one backend from the `Backend` object of net-conf.json. */

import * as v from 'valibot'

import { FlannelError, shown } from './errors.ts'
import type { Folded } from './fold.ts'

/** A whole number from 0 to `max`. */
export const whole = (max: number) =>
  v.pipe(
    v.number(`expected a number up to ${max}`),
    v.integer('expected a whole number'),
    v.minValue(0, 'expected 0 or more'),
    v.maxValue(max, `expected at most ${max}`),
  )

/** False unless written. */
export const Flag = v.optional(v.boolean('expected true or false'), false)

/** A written 0 means the underlay's. */
export const Mtu = v.optional(whole(65_535), 0)

/**
 * Checks the options that `schema` names (in lower case); others are ignored, as flannel ignores them. Throws FlannelError with the
 * spelling that was written. Values of the keys in `secrets` are not repeated in the message.
 */
export function readOptions<S extends v.GenericSchema>(
  schema: S,
  { values, written }: Folded,
  secrets: readonly string[] = [],
): v.InferOutput<S> {
  const parsed = v.safeParse(schema, Object.fromEntries(values), { abortEarly: true, abortPipeEarly: true })
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  const key = v.getDotPath(issue) ?? ''
  const name = written.get(key.split('.')[0] ?? '') ?? key
  throw badOption(
    name,
    secrets.includes(key) ? 'it is not what it should be' : `it is ${shown(issue.input)}`,
    issue.message,
  )
}

export function badOption(name: string, why: string, remedy: string): FlannelError {
  const field = `Backend.${name}`
  return new FlannelError('bad-net-conf', field, `network configuration: ${field}: ${why}`, remedy)
}
