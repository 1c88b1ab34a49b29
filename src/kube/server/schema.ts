import { equal, isArray, isObject } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import type { FieldError } from './status.ts'

/** A structural OpenAPI v3 schema as a CustomResourceDefinition holds it; read as data. */
export type Schema = JsonObject

const LIMIT = 50

const number = (value: Json | undefined): number | undefined => (typeof value === 'number' ? value : undefined)
const schemaOf = (value: Json | undefined): Schema | undefined => (isObject(value) ? value : undefined)
const keepsUnknown = (schema: Schema): boolean => schema['x-kubernetes-preserve-unknown-fields'] === true

function typeOf(value: Json): string {
  if (value === null) return 'null'
  if (isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}

const FORMATS: { readonly [format: string]: (text: string) => boolean } = {
  'date-time': (text) => /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)$/.test(text),
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text),
  ipv4: (text) => /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/.test(text),
  uuid: (text) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(text),
}

const patterns = new Map<string, RegExp | undefined>()

/** Patterns are written for Go's RE2; nearly all mean the same here, and one that does not compile is not enforced. */
function compiled(pattern: string): RegExp | undefined {
  if (!patterns.has(pattern)) {
    let regex: RegExp | undefined
    try {
      regex = new RegExp(pattern, 'u')
    } catch {
      regex = undefined
    }
    patterns.set(pattern, regex)
  }
  return patterns.get(pattern)
}

class Check {
  readonly errors: FieldError[] = []

  add(field: string, reason: FieldError['reason'], message: string): void {
    if (this.errors.length < LIMIT) this.errors.push({ field, reason, message })
  }

  bad(field: string, value: Json, why: string): void {
    this.add(field, 'FieldValueInvalid', `Invalid value: ${JSON.stringify(value)}: ${field} in body ${why}`)
  }

  typed(value: Json, schema: Schema, field: string): boolean {
    const type = schema['type']
    const actual = typeOf(value)
    if (value === null && schema['nullable'] === true) return false
    if (schema['x-kubernetes-int-or-string'] === true) {
      if (actual === 'integer' || actual === 'string') return true
      this.bad(field, actual, 'must be of type integer or string')
      return false
    }
    if (typeof type !== 'string' || type === '' || type === actual) return true
    if (type === 'number' && actual === 'integer') return true
    this.add(
      field,
      'FieldValueTypeInvalid',
      `Invalid value: "${actual}": ${field} in body must be of type ${type}: "${actual}"`,
    )
    return false
  }

  scalar(value: Json, schema: Schema, field: string): void {
    if (typeof value === 'string') {
      const [low, high] = [number(schema['minLength']), number(schema['maxLength'])]
      // Characters are code points, as Go counts them.
      const length = Array.from(value).length
      if (low !== undefined && length < low) this.bad(field, value, `should be at least ${low} chars long`)
      if (high !== undefined && length > high) this.bad(field, value, `should be at most ${high} chars long`)
      const pattern = schema['pattern']
      if (typeof pattern === 'string' && compiled(pattern)?.test(value) === false) {
        this.bad(field, value, `should match '${pattern}'`)
      }
      const format = schema['format']
      if (typeof format === 'string' && FORMATS[format]?.(value) === false) {
        this.bad(field, value, `must be of type ${format}: ${JSON.stringify(value)}`)
      }
    }
    if (typeof value === 'number') {
      const [low, high, step] = [number(schema['minimum']), number(schema['maximum']), number(schema['multipleOf'])]
      if (low !== undefined && (value < low || (schema['exclusiveMinimum'] === true && value === low))) {
        this.bad(
          field,
          value,
          `should be greater than ${schema['exclusiveMinimum'] === true ? '' : 'or equal to '}${low}`,
        )
      }
      if (high !== undefined && (value > high || (schema['exclusiveMaximum'] === true && value === high))) {
        this.bad(
          field,
          value,
          `should be less than ${schema['exclusiveMaximum'] === true ? '' : 'or equal to '}${high}`,
        )
      }
      if (step !== undefined && step > 0 && !Number.isInteger(value / step)) {
        this.bad(field, value, `should be a multiple of ${step}`)
      }
    }
    const allowed = schema['enum']
    if (isArray(allowed) && !allowed.some((item) => equal(item, value))) {
      const supported = allowed.map((item) => JSON.stringify(item)).join(', ')
      this.add(
        field,
        'FieldValueNotSupported',
        `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported}`,
      )
    }
  }

  list(value: readonly Json[], schema: Schema, field: string): void {
    const [low, high] = [number(schema['minItems']), number(schema['maxItems'])]
    if (low !== undefined && value.length < low) this.bad(field, value.length, `should have at least ${low} items`)
    if (high !== undefined && value.length > high) this.bad(field, value.length, `should have at most ${high} items`)
    const keys = schema['x-kubernetes-list-map-keys']
    const type = schema['x-kubernetes-list-type']
    if (type === 'set' || type === 'map' || schema['uniqueItems'] === true) {
      const seen = new Set<string>()
      for (const [index, item] of value.entries()) {
        const names = type === 'map' && isArray(keys) ? keys.map(String) : undefined
        const identity = JSON.stringify(
          names !== undefined && isObject(item) ? names.map((key) => item[key] ?? null) : item,
        )
        if (seen.has(identity)) this.add(`${field}[${index}]`, 'FieldValueInvalid', `Duplicate value: ${identity}`)
        seen.add(identity)
      }
    }
    const items = schemaOf(schema['items'])
    if (items !== undefined) for (const [index, item] of value.entries()) this.value(item, items, `${field}[${index}]`)
  }

  object(value: JsonObject, schema: Schema, field: string): void {
    const required = schema['required']
    for (const key of isArray(required) ? required : []) {
      if (typeof key === 'string' && !Object.hasOwn(value, key)) {
        this.add(field === '' ? key : `${field}.${key}`, 'FieldValueRequired', 'Required value')
      }
    }
    const size = Object.keys(value).length
    const [low, high] = [number(schema['minProperties']), number(schema['maxProperties'])]
    if (low !== undefined && size < low) this.bad(field, size, `should have at least ${low} properties`)
    if (high !== undefined && size > high) this.bad(field, size, `should have at most ${high} properties`)
    const properties = schemaOf(schema['properties']) ?? {}
    const additional = schemaOf(schema['additionalProperties'])
    for (const [key, item] of Object.entries(value)) {
      const known = Object.hasOwn(properties, key) ? schemaOf(properties[key]) : additional
      if (known !== undefined) this.value(item, known, field === '' ? key : `${field}.${key}`)
    }
  }

  value(value: Json, schema: Schema, field: string): void {
    if (!this.typed(value, schema, field)) return
    this.scalar(value, schema, field)
    if (isArray(value)) this.list(value, schema, field)
    else if (isObject(value)) this.object(value, schema, field)
    this.combined(value, schema, field)
  }

  combined(value: Json, schema: Schema, field: string): void {
    const passes = (part: Json): boolean => !isObject(part) || validate(value, part, field).length === 0
    const { allOf, anyOf, oneOf, not } = schema
    if (isArray(allOf)) for (const part of allOf) if (isObject(part)) this.errors.push(...validate(value, part, field))
    if (isArray(anyOf) && !anyOf.some(passes))
      this.bad(field, typeOf(value), 'must validate at least one schema (anyOf)')
    if (isArray(oneOf) && oneOf.filter(passes).length !== 1) {
      this.bad(field, typeOf(value), 'must validate one and only one schema (oneOf)')
    }
    if (isObject(not) && passes(not)) this.bad(field, typeOf(value), 'must not validate the schema (not)')
  }
}

/**
 * Checks a value against a structural schema: types, required, enum, pattern, lengths, ranges, list types, allOf,
 * anyOf, oneOf, not. CEL rules (`x-kubernetes-validations`) are not evaluated.
 */
export function validate(value: Json, schema: Schema, field = ''): readonly FieldError[] {
  const check = new Check()
  check.value(value, schema, field)
  return check.errors
}

/** A copy with the schema's defaults filled in. */
export function withDefaults(value: Json, schema: Schema): Json {
  const items = schemaOf(schema['items'])
  if (isArray(value)) return items === undefined ? value : value.map((item) => withDefaults(item, items))
  if (!isObject(value)) return value
  const properties = schemaOf(schema['properties']) ?? {}
  const additional = schemaOf(schema['additionalProperties'])
  const out = new Map<string, Json>(Object.entries(value))
  for (const [key, raw] of Object.entries(properties)) {
    const known = schemaOf(raw)
    if (known === undefined) continue
    const present = out.get(key)
    const fallback = known['default']
    // A null for a field that may not be null is a field that was left out.
    const absent = present === undefined || (present === null && known['nullable'] !== true)
    if (absent && fallback !== undefined) out.set(key, withDefaults(fallback, known))
    else if (present !== undefined) out.set(key, withDefaults(present, known))
  }
  if (additional !== undefined) {
    for (const [key, item] of out) if (!Object.hasOwn(properties, key)) out.set(key, withDefaults(item, additional))
  }
  return Object.fromEntries(out)
}

/** What pruning leaves, and the paths of what it dropped. */
export interface Pruned {
  readonly value: Json
  readonly dropped: readonly string[]
}

/** Drops fields that the schema does not know, except below `x-kubernetes-preserve-unknown-fields`. */
export function prune(value: Json, schema: Schema, field = ''): Pruned {
  const dropped: string[] = []
  const below = (item: Json, part: Schema, path: string): Json => {
    const result = prune(item, part, path)
    dropped.push(...result.dropped)
    return result.value
  }
  const items = schemaOf(schema['items'])
  if (isArray(value)) {
    const kept = items === undefined ? value : value.map((item, index) => below(item, items, `${field}[${index}]`))
    return { value: kept, dropped }
  }
  if (!isObject(value)) return { value, dropped }
  const properties = schemaOf(schema['properties']) ?? {}
  const additional = schema['additionalProperties']
  const embedded = schema['x-kubernetes-embedded-resource'] === true
  const out = new Map<string, Json>()
  for (const [key, item] of Object.entries(value)) {
    const path = field === '' ? key : `${field}.${key}`
    const known = Object.hasOwn(properties, key) ? schemaOf(properties[key]) : schemaOf(additional)
    const envelope = embedded && ['apiVersion', 'kind', 'metadata'].includes(key)
    if (known !== undefined) out.set(key, below(item, known, path))
    else if (keepsUnknown(schema) || additional === true || envelope) out.set(key, item)
    else dropped.push(path)
  }
  return { value: Object.fromEntries(out), dropped }
}
