/** What a node publishes for the extension backend: whatever its PreStartupCommand printed, as a JSON string. */

import { parseAnnotationJson, unreadable } from '../backend-data.ts'
import { shown } from '../errors.ts'

export interface TextData {
  readonly kind: 'text'
  readonly text: string
}

/** Nothing published is nothing to say. Throws FlannelError `bad-annotation` for what is no JSON string. */
export function parseTextData(text: string | undefined, field: string): TextData {
  if (text === undefined || text === '') return { kind: 'text', text: '' }
  const value = parseAnnotationJson(text, field)
  if (value === null) return { kind: 'text', text: '' }
  if (typeof value !== 'string') throw unreadable(field, `it is ${shown(value)}, and should be a JSON string`)
  if (value.includes('\0')) throw unreadable(field, 'it holds a NUL character')
  return { kind: 'text', text: value }
}
