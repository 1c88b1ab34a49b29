/**
 * XML answers, as far as the EC2 Query API uses it: elements and text. What it never sends (document types and their entities, comments, CDATA, processing
 * instructions, text beside elements) is refused rather than understood.
 */

import * as v from 'valibot'

import { CloudError } from './errors.ts'
import { checked } from './json.ts'

/** An element's text; a list where all its children are called `item`; else its children by name. */
export type XmlValue = string | readonly XmlValue[] | { readonly [name: string]: XmlValue }

export interface XmlDocument {
  readonly name: string
  readonly value: XmlValue
}

const MAX_DEPTH = 32
const MAX_ELEMENTS = 500_000

const DECLARATION = /^\uFEFF?<\?xml[^?<>]{0,100}\?>/
const TAG = /<(\/?)([A-Za-z][\w.-]{0,127})((?:\s+[\w:.-]{1,64}\s*=\s*(?:"[^"<]{0,1024}"|'[^'<]{0,1024}'))*)\s*(\/?)>/y
const ENTITY = /&(?:(lt|gt|amp|quot|apos)|#(\d{1,7})|#x([0-9a-f]{1,6}));|&/gi
const NAMED: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" }

interface Open {
  readonly name: string
  readonly children: [string, XmlValue][]
  text: string
}

/** Undefined for what is no such document. Takes time in proportion to the text. */
export function readXml(text: string): XmlDocument | undefined {
  const root: Open = { name: '', children: [], text: '' }
  const open: Open[] = [root]
  let elements = 0
  for (let at = DECLARATION.exec(text)?.[0].length ?? 0; at < text.length;) {
    const top = open.at(-1) ?? root
    if (text[at] !== '<') {
      const next = text.indexOf('<', at)
      const end = next === -1 ? text.length : next
      const plain = decode(text.slice(at, end))
      if (plain === undefined) return undefined
      top.text += plain
      at = end
      continue
    }
    TAG.lastIndex = at
    const tag = TAG.exec(text)
    if (tag === null) return undefined
    const [all, closes = '', name = '', attributes = '', isEmpty = ''] = tag
    at += all.length
    if (closes === '/') {
      const value = top.name === name && attributes === '' && isEmpty === '' ? valueOf(top) : undefined
      if (value === undefined) return undefined
      open.pop()
      open.at(-1)?.children.push([name, value])
    } else if (++elements > MAX_ELEMENTS || open.length > MAX_DEPTH) return undefined
    else if (isEmpty === '/') top.children.push([name, ''])
    else open.push({ name, children: [], text: '' })
  }
  const [first, ...more] = root.children
  if (first === undefined || more.length > 0 || open.length > 1 || root.text.trim() !== '') return undefined
  return { name: first[0], value: first[1] }
}

/** Undefined for text beside elements, and for a name that is there twice. */
function valueOf({ children, text }: Open): XmlValue | undefined {
  if (children.length === 0) return text
  if (text.trim() !== '') return undefined
  if (children.every(([name]) => name === 'item')) return children.map(([, value]) => value)
  const record = Object.fromEntries(children)
  return Object.keys(record).length === children.length ? record : undefined
}

function decode(text: string): string | undefined {
  let isSound = true
  const decoded = text.replaceAll(ENTITY, (_, name?: string, decimal?: string, hex?: string) => {
    if (name !== undefined) return NAMED[name] ?? ''
    const point = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal)
    const isCharacter = point > 0 && point <= 0x10_ff_ff && (point < 0xd8_00 || point > 0xdf_ff)
    isSound &&= isCharacter
    return isCharacter ? String.fromCodePoint(point) : ''
  })
  return isSound ? decoded : undefined
}

/** The value of the root element `root`. Throws CloudError `bad-answer`, without the text. */
export function parseXml<S extends v.GenericSchema>(
  schema: S,
  root: string,
  text: string,
  what: string,
): v.InferOutput<S> {
  const document = readXml(text)
  if (document?.name !== root) throw new CloudError('bad-answer', `${what}: the answer is not XML as documented`)
  return checked(schema, document.value, what)
}

/** A list of items; an empty one is an empty element. */
export const listOf = <S extends v.GenericSchema>(schema: S) =>
  v.union([
    v.array(schema),
    v.pipe(
      v.literal(''),
      v.transform((): v.InferOutput<S>[] => []),
    ),
  ])
