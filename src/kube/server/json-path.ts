import { isArray, isObject, textOf } from '../json.ts'
import type { Json } from '../json.ts'

type Step =
  | { readonly kind: 'field'; readonly name: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'where'; readonly path: readonly string[]; readonly value: string }

const TOKEN =
  /\.((?:[\w-]|\\.)+)|\.\*|\[(-?\d+)\]|\[\*\]|\[['"]([^'"]+)['"]\]|\[\?\(@((?:\.[\w-]+)+)\s*==\s*["']([^"']*)["']\)\]/gy

/**
 * Compiles the JSONPath of a printer column: fields, indexes, `*`, and `[?(@.type=="Ready")]`.
 * Answers undefined for a path it cannot read.
 */
export function jsonPath(text: string): ((value: Json) => readonly Json[]) | undefined {
  const source = text.startsWith('{') && text.endsWith('}') ? text.slice(1, -1) : text
  const steps: Step[] = []
  TOKEN.lastIndex = 0
  let end = 0
  while (end < source.length) {
    TOKEN.lastIndex = end
    const match = TOKEN.exec(source)
    if (match === null) return undefined
    const [whole, field, index, quoted, path, value] = match
    if (field !== undefined) steps.push({ kind: 'field', name: field.replaceAll(/\\(.)/g, '$1') })
    else if (index !== undefined) steps.push({ kind: 'index', index: Number(index) })
    else if (quoted !== undefined) steps.push({ kind: 'field', name: quoted })
    else if (path !== undefined) steps.push({ kind: 'where', path: path.slice(1).split('.'), value: value ?? '' })
    else steps.push({ kind: 'all' })
    end += whole.length
  }
  return (value) => steps.reduce<readonly Json[]>((found, step) => found.flatMap((item) => follow(item, step)), [value])
}

function follow(value: Json, step: Step): readonly Json[] {
  switch (step.kind) {
    case 'field': {
      const found = isObject(value) && Object.hasOwn(value, step.name) ? value[step.name] : undefined
      return found === undefined ? [] : [found]
    }
    case 'index': {
      const found = isArray(value) ? value.at(step.index) : undefined
      return found === undefined ? [] : [found]
    }
    case 'all':
      return isArray(value) ? value : isObject(value) ? Object.values(value) : []
    default:
      return isArray(value)
        ? value.filter((item) => {
            const found = step.path.reduce<Json | undefined>(
              (here, key) => (isObject(here) ? here[key] : undefined),
              item,
            )
            return found !== undefined && textOf(found) === step.value
          })
        : []
  }
}
