import { at, textOf } from '../json.ts'
import type { ApiObject } from './object.ts'
import { badRequest } from './status.ts'

/** A question to an object. */
export type Predicate = (object: ApiObject) => boolean

const LABEL_KEY = /^(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?$/
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/

/** True for a label key: an optional DNS prefix and a name of at most 63 characters. */
export const isLabelKey = (key: string): boolean => LABEL_KEY.test(key) && (key.split('/').at(-1) ?? '').length <= 63

/** True for a label value: at most 63 characters, or empty. */
export const isLabelValue = (value: string): boolean => value.length <= 63 && LABEL_VALUE.test(value)

function splitTerms(text: string): string[] {
  const terms: string[] = []
  let depth = 0
  let start = 0
  for (let index = 0; index < text.length; index += 1) {
    const char = text[index]
    if (char === '(') depth += 1
    else if (char === ')') depth -= 1
    else if (char === ',' && depth === 0) {
      terms.push(text.slice(start, index))
      start = index + 1
    }
  }
  terms.push(text.slice(start))
  return terms.map((term) => term.trim())
}

type Requirement = (labels: { readonly [key: string]: string }) => boolean

function requirement(term: string): Requirement {
  const bad = (): never => {
    throw badRequest(`unable to parse requirement: "${term}" is no label selector (use k=v, k!=v, k in (a,b), k, !k)`)
  }
  const value = (labels: { readonly [key: string]: string }, key: string): string | undefined =>
    Object.hasOwn(labels, key) ? labels[key] : undefined
  const checked = (key: string): string => (isLabelKey(key) ? key : bad())
  const setBased = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term)
  if (setBased !== null) {
    const [, rawKey = '', operator, list = ''] = setBased
    const key = checked(rawKey)
    const values = new Set(list.split(',').map((item) => item.trim()))
    for (const item of values) if (!isLabelValue(item)) bad()
    return operator === 'in'
      ? (labels) => values.has(value(labels, key) ?? '\0')
      : (labels) => !values.has(value(labels, key) ?? '\0')
  }
  const absent = /^!\s*(\S+)$/.exec(term)
  if (absent !== null) {
    const key = checked(absent[1] ?? '')
    return (labels) => value(labels, key) === undefined
  }
  const compared = /^([^\s=!<>]+)\s*(==|=|!=|>|<)\s*([^\s=!<>()]*)$/.exec(term)
  if (compared !== null) {
    const [, rawKey = '', operator, wanted = ''] = compared
    const key = checked(rawKey)
    if (!isLabelValue(wanted)) bad()
    if (operator === '!=') return (labels) => value(labels, key) !== wanted
    if (operator === '>' || operator === '<') {
      if (!/^-?\d+$/.test(wanted)) bad()
      return (labels) => {
        const has = value(labels, key)
        if (has === undefined || !/^-?\d+$/.test(has)) return false
        return operator === '>' ? Number(has) > Number(wanted) : Number(has) < Number(wanted)
      }
    }
    return (labels) => value(labels, key) === wanted
  }
  const key = checked(term)
  return (labels) => value(labels, key) !== undefined
}

/**
 * Parses a label selector, equality- and set-based. An empty one selects everything.
 * @throws ApiError 400
 */
export function labelSelector(text: string): Predicate {
  if (text.trim() === '') return () => true
  const requirements = splitTerms(text).map(requirement)
  return (object) => requirements.every((matches) => matches(object.metadata.labels ?? {}))
}

interface FieldTerm {
  readonly field: string
  readonly negated: boolean
  readonly value: string
}

function fieldTerm(term: string): FieldTerm {
  const match = /^((?:[^=!\\]|\\.)+?)(==|=|!=)(.*)$/s.exec(term)
  if (match === null)
    throw badRequest(`invalid field selector: "${term}"; can't understand it (use field=value or field!=value)`)
  const [, field = '', operator, value = ''] = match
  return { field, negated: operator === '!=', value: value.replaceAll(/\\([\\,=])/g, '$1') }
}

/**
 * Parses a field selector. Absent fields count as empty strings, except booleans, which count as false.
 * @param supported the fields beside metadata.name and metadata.namespace that the kind can be selected by; the value
 * gives another path where the field is stored under another name.
 * @throws ApiError 400 for a field that is not supported.
 */
export function fieldSelector(text: string, supported: { readonly [field: string]: readonly string[] }): Predicate {
  if (text.trim() === '') return () => true
  // Commas split terms unless escaped.
  const terms = text.match(/(?:[^,\\]|\\.)+/g)?.map((term) => fieldTerm(term.trim())) ?? []
  const paths: { readonly [field: string]: readonly string[] } = {
    ...supported,
    'metadata.name': ['metadata', 'name'],
    'metadata.namespace': ['metadata', 'namespace'],
  }
  for (const { field } of terms) {
    if (!Object.hasOwn(paths, field)) throw badRequest(`field label not supported: ${field}`)
  }
  return (object) =>
    terms.every(({ field, negated, value }) => {
      const found = textOf(at(object, ...(paths[field] ?? [])))
      const actual = found === '' && (value === 'true' || value === 'false') ? 'false' : found
      return (actual === value) !== negated
    })
}

/** The name that a field selector pins down (`metadata.name=x`), for a look-up instead of a scan. */
export function pinnedName(text: string): string | undefined {
  return /(?:^|,)metadata\.name==?([^,\\]+)(?:,|$)/.exec(text)?.[1]
}
