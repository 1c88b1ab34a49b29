/** Elements of sets and maps, and their bytes. Hand-written, because ten thousand of them at once is ordinary. */

import { forEachAttribute, NLA_F_NESTED, writeAttribute } from '#codec/attributes.ts'
import { type Reader, type Writer } from '#codec/buffer.ts'
import { type Part, readKeyFrom, typeId, writeKey } from './datatype.ts'
import { NftError } from './error.ts'
import { following, parseInterval } from './interval.ts'
import type { SetDeclaration } from './table.ts'
import { decodeComment, encodeComment } from './userdata.ts'
import { DATA, ELEMENT, ELEMENT_FLAG, LIST_ELEMENT, VERDICT } from './wire.ts'

/** What a verdict map answers. */
export type Verdict = 'accept' | 'drop' | 'return' | 'continue' | { readonly jump: string } | { readonly goto: string }

/** One element. Its key has one part for each type that the set declares; in an interval set a part may be a prefix or a range (see interval.ts). */
export interface Element {
  readonly key: readonly Part[]
  /** For maps: the value, or the verdict. */
  readonly data?: readonly Part[] | Verdict
  /** Shown by `nft list`. Heddle writes the owner here, so that only the owner deletes. */
  readonly comment?: string
  /** Lifetime in milliseconds, in sets with the flag `timeout`. */
  readonly timeout?: number
  /** Milliseconds left; only read. */
  readonly expires?: number
}

/** What the element codec must know of a set. */
export type ElementTypes = Pick<SetDeclaration, 'name' | 'key' | 'data' | 'flags'>

export const isInterval = (set: ElementTypes): boolean => set.flags?.includes('interval') === true

/** Intervals of one type lie in a tree as two half-open ends; intervals of a concatenation have a first and a last key. */
export const hasEnds = (set: ElementTypes): boolean => isInterval(set) && set.key.length === 1

/** Numbers of verdicts. Source: enum nft_verdicts, and NF_DROP, NF_ACCEPT. */
const verdictCodes = { drop: 0, accept: 1, continue: -1, jump: -3, goto: -4, return: -5 } as const

/** Appends the element: as one list item, or as two where the set stores half-open intervals. `keyOnly` for requests that look up or delete. */
export function writeElement(writer: Writer, set: ElementTypes, element: Element, keyOnly = false): void {
  if (!isInterval(set)) {
    writeItem(writer, set, element, element.key, undefined, keyOnly)
    return
  }
  const ends = set.key.map((type, i) => parseInterval(type, element.key[i] ?? missing(set, element)))
  if (element.key.length !== set.key.length) missing(set, element)
  const from = ends.map((end) => end.from)
  if (!hasEnds(set)) {
    writeItem(
      writer,
      set,
      element,
      from,
      ends.map((end) => end.to),
      keyOnly,
    )
    return
  }
  writeItem(writer, set, element, from, undefined, keyOnly)
  const [type] = set.key
  const [end] = ends
  const next = type === undefined || end === undefined ? undefined : following(type, end.to)
  if (next !== undefined) writeEnd(writer, set, next)
}

function writeItem(
  writer: Writer,
  set: ElementTypes,
  element: Element,
  key: readonly Part[],
  keyEnd: readonly Part[] | undefined,
  keyOnly: boolean,
): void {
  const item = open(writer)
  writeValue(writer, ELEMENT.key, set.key, key)
  if (keyEnd !== undefined) writeValue(writer, ELEMENT.keyEnd, set.key, keyEnd)
  if (!keyOnly) {
    if (set.data !== undefined) writeData(writer, set, element)
    else if (element.data !== undefined)
      throw new NftError('bad-value', `set ${set.name} is no map: element ${describe(element)} cannot have data`)
    if (element.timeout !== undefined) writeTimeout(writer, set, element.timeout)
    if (element.comment !== undefined) {
      const userdata = encodeComment('element', element.comment)
      writeAttribute(writer, ELEMENT.userdata, (w) => w.append(userdata))
    }
  }
  close(writer, item, LIST_ELEMENT | NLA_F_NESTED)
}

/** The end of a half-open interval: a key of its own that says so. */
function writeEnd(writer: Writer, set: ElementTypes, key: Part): void {
  const item = open(writer)
  writeValue(writer, ELEMENT.key, set.key, [key])
  const flags = open(writer)
  writer.view.setUint32(writer.reserve(4), ELEMENT_FLAG.intervalEnd)
  close(writer, flags, ELEMENT.flags)
  close(writer, item, LIST_ELEMENT | NLA_F_NESTED)
}

function writeValue(writer: Writer, type: number, types: SetDeclaration['key'], parts: readonly Part[]): void {
  const outer = open(writer)
  const inner = open(writer)
  writeKey(writer, types, parts)
  close(writer, inner, DATA.value)
  close(writer, outer, type | NLA_F_NESTED)
}

function writeData(writer: Writer, set: ElementTypes, element: Element): void {
  const { data } = element
  if (set.data === 'verdict') {
    if (data === undefined || isParts(data))
      throw new NftError('bad-value', `map ${set.name} answers with verdicts: element ${describe(element)} has none`)
    writeVerdict(writer, data)
  } else if (set.data !== undefined) {
    if (data === undefined || !isParts(data))
      throw new NftError('bad-value', `map ${set.name} answers with values: element ${describe(element)} has none`)
    writeValue(writer, ELEMENT.data, set.data, data)
  }
}

const isParts = (data: readonly Part[] | Verdict): data is readonly Part[] => Array.isArray(data)

function writeVerdict(writer: Writer, verdict: Verdict): void {
  const name = typeof verdict === 'string' ? verdict : 'jump' in verdict ? 'jump' : 'goto'
  const chain = typeof verdict === 'string' ? undefined : 'jump' in verdict ? verdict.jump : verdict.goto
  const data = open(writer)
  const nested = open(writer)
  const code = open(writer)
  writer.view.setInt32(writer.reserve(4), verdictCodes[name])
  close(writer, code, VERDICT.code)
  if (chain !== undefined) {
    const text = Buffer.from(`${chain}\0`, 'utf8')
    writeAttribute(writer, VERDICT.chain, (w) => w.append(text))
  }
  close(writer, nested, DATA.verdict | NLA_F_NESTED)
  close(writer, data, ELEMENT.data | NLA_F_NESTED)
}

function writeTimeout(writer: Writer, set: ElementTypes, timeout: number): void {
  if (!Number.isSafeInteger(timeout) || timeout < 1)
    throw new NftError('bad-value', `set ${set.name}: a timeout of ${timeout} ms`)
  const start = open(writer)
  writer.view.setBigUint64(writer.reserve(8), BigInt(timeout))
  close(writer, start, ELEMENT.timeout)
}

const open = (writer: Writer): number => writer.reserve(4)

function close(writer: Writer, start: number, type: number): void {
  writer.view.setUint16(start, writer.length - start, true)
  writer.view.setUint16(start + 2, type, true)
  writer.align(4)
}

/** An element as the kernel stores it: an interval's end is one of its own. */
export interface RawElement extends Element {
  readonly keyEnd?: readonly Part[]
  readonly end: boolean
  readonly catchall: boolean
}

/** Reads one list item. Throws `malformed` or `CodecError`. */
export function readElement(reader: Reader, set: ElementTypes): RawElement {
  const raw: { -readonly [K in keyof RawElement]: RawElement[K] } = { key: [], end: false, catchall: false }
  forEachAttribute(reader, (type, payload) => {
    if (type === ELEMENT.key) raw.key = readValue(payload, set.key) ?? []
    else if (type === ELEMENT.keyEnd) raw.keyEnd = readValue(payload, set.key) ?? []
    else if (type === ELEMENT.data) {
      const data = readData(payload, set)
      if (data !== undefined) raw.data = data
    } else if (type === ELEMENT.flags) {
      const flags = payload.view.getUint32(payload.take(4))
      raw.end = (flags & ELEMENT_FLAG.intervalEnd) !== 0
      raw.catchall = (flags & ELEMENT_FLAG.catchall) !== 0
    } else if (type === ELEMENT.timeout) raw.timeout = Number(payload.view.getBigUint64(payload.take(8)))
    else if (type === ELEMENT.expiration) raw.expires = Number(payload.view.getBigUint64(payload.take(8)))
    else if (type === ELEMENT.userdata) {
      const comment = decodeComment('element', payload.copy(payload.left))
      if (comment !== undefined) raw.comment = comment
    }
  })
  return raw
}

function readValue(reader: Reader, types: SetDeclaration['key']): Part[] | undefined {
  let parts: Part[] | undefined
  forEachAttribute(reader, (type, payload) => {
    if (type === DATA.value) parts = readKeyFrom(types, payload)
  })
  return parts
}

function readData(reader: Reader, set: ElementTypes): readonly Part[] | Verdict | undefined {
  if (set.data === undefined) return undefined
  if (set.data !== 'verdict') return readValue(reader, set.data)
  let code: number | undefined
  let chain: string | undefined
  forEachAttribute(reader, (outer, nested) => {
    if (outer !== DATA.verdict) return
    forEachAttribute(nested, (type, payload) => {
      if (type === VERDICT.code) code = payload.view.getInt32(payload.take(4))
      else if (type === VERDICT.chain)
        chain = Buffer.from(payload.copy(payload.left)).toString('utf8').split('\0', 1)[0]
    })
  })
  return verdictOf(code, chain)
}

function verdictOf(code: number | undefined, chain = ''): Verdict {
  if (code === verdictCodes.jump) return { jump: chain }
  if (code === verdictCodes.goto) return { goto: chain }
  for (const name of ['drop', 'accept', 'continue', 'return'] as const) if (code === verdictCodes[name]) return name
  throw new NftError('malformed', `verdict ${code} is none of nf_tables'`)
}

/** The key as people write it: `10.0.0.1 . 80`. */
export const describe = (element: Pick<Element, 'key'>): string => element.key.join(' . ')

/** Tells elements apart within a set. */
export const keyOf = (element: Pick<Element, 'key'>): string => element.key.join(' . ')

function missing(set: ElementTypes, element: Element): never {
  throw new NftError(
    'bad-value',
    `element ${describe(element)} has ${element.key.length} values where ${set.name} declares ${set.key.length} (${typeId(set.key)})`,
  )
}
