/** From the elements that the kernel stores to the elements that were meant: the ends of intervals belong to their starts. Pure. */

import { Writer } from '#codec/buffer.ts'
import { type DataTypeName, type Part, readKey, writeKey } from './datatype.ts'
import { type Element, type ElementTypes, hasEnds, isInterval, type RawElement } from './element.ts'
import { compareParts, formatInterval, lastValue, parseInterval, preceding } from './interval.ts'

/** Elements without catch-alls, in the kernel's order, or sorted by key where intervals had to be joined. */
export function joinIntervals(set: ElementTypes, raw: readonly RawElement[]): Element[] {
  const plain = raw.filter((element) => !element.catchall)
  const [type] = set.key
  if (!isInterval(set)) return plain.filter(({ end }) => !end).map((element) => finish(element, element.key))
  if (hasEnds(set) && type !== undefined) return joinEnds(type, plain)
  return plain.map((element) =>
    finish(
      element,
      element.key.map((from, i) => intervalOf(set.key[i], from, element.keyEnd?.[i] ?? from)),
    ),
  )
}

const intervalOf = (type: DataTypeName | undefined, from: Part, to: Part): Part =>
  type === undefined ? from : formatInterval(type, { from, to })

function joinEnds(type: DataTypeName, raw: readonly RawElement[]): Element[] {
  const key = (element: RawElement): Part => element.key[0] ?? 0
  // Where one interval ends another may start: ends first.
  const sorted = [...raw].sort((a, b) => compareParts(type, key(a), key(b)) || Number(b.end) - Number(a.end))
  return sorted.flatMap((element, i) => {
    if (element.end) return []
    const end = sorted[i + 1]
    const to =
      end?.end === true ? preceding(type, key(end)) : end === undefined ? lastValue(type) : preceding(type, key(end))
    return [finish(element, [formatInterval(type, { from: key(element), to })])]
  })
}

const finish = (raw: RawElement, key: readonly Part[]): Element => ({
  key,
  ...(raw.data === undefined ? {} : { data: raw.data }),
  ...(raw.comment === undefined ? {} : { comment: raw.comment }),
  ...(raw.timeout === undefined ? {} : { timeout: raw.timeout }),
  ...(raw.expires === undefined ? {} : { expires: raw.expires }),
})

/** The key as it would be read back: canonical addresses, numbers for protocol names, prefixes for the ranges that are prefixes. */
export const normalKey = (set: ElementTypes, key: readonly Part[]): readonly Part[] =>
  set.key.map((type, i) => {
    const part = key[i] ?? ''
    if (!isInterval(set)) return canonical(type, part)
    const { from, to } = parseInterval(type, part)
    return formatInterval(type, { from: canonical(type, from), to: canonical(type, to) })
  })

function canonical(type: DataTypeName, part: Part): Part {
  const writer = new Writer(16)
  writeKey(writer, [type], [part])
  return readKey([type], writer.written())[0] ?? part
}
