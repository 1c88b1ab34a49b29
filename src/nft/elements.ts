/** Membership: adding, replacing, deleting, reading elements of sets and maps by netlink, in transactions. Like `nft add element`, `delete element`, `get element`. */

import { forEachAttribute, NLA_F_NESTED } from '#codec/attributes.ts'
import { LITTLE, type Reader, Writer } from '#codec/buffer.ts'
import { NLM_F } from '#netlink/constants.ts'
import { NetlinkError } from '#netlink/error.ts'
import { HEADER_LENGTH } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { ERRNO } from '#sys/errno.ts'
import type { Part } from './datatype.ts'
import { describe, type Element, type ElementTypes, keyOf, readElement, writeElement } from './element.ts'
import { hasEnds, isInterval } from './element.ts'
import { NftError } from './error.ts'
import { joinIntervals, normalKey } from './join.ts'
import type { Table, TableRef } from './table.ts'
import {
  commit,
  commitElements,
  generation,
  kernelError,
  type NftMessage,
  optimistic,
  translated,
} from './transaction.ts'
import { ELEMENTS, familyNumber, LIST_ELEMENT, nfgenmsg, NFT_MSG, nftMessage, writeText } from './wire.ts'

/** A set or map of a table. */
export interface ElementSet extends ElementTypes {
  readonly table: TableRef
}

/** The set of that name as the model declares it. Throws `bad-name` when there is none. */
export function setOf(table: Table, name: string): ElementSet {
  const set = table.sets.find((set) => set.name === name)
  if (set === undefined)
    throw new NftError('bad-name', `table ${table.family} ${table.name} declares no set or map ${JSON.stringify(name)}`)
  return { ...set, table: { family: table.family, name: table.name } }
}

/**
 * One step of a transaction. `create` fails with EEXIST where the key is there; `add` only where it is there with other data (and then keeps the old
 * comment); `delete` fails with ENOENT where it is not.
 */
export interface ElementChange {
  readonly op: 'add' | 'create' | 'delete'
  readonly set: ElementSet
  readonly elements: readonly Element[]
}

/**
 * Applies all changes in their order, in one step or not at all. `seen`: the ruleset's generation, where the caller has just learned it; an old one costs a
 * request more. Throws `kernel` with `element`, counted within the failing change.
 */
export function changeElements(socket: NetlinkSocket, changes: readonly ElementChange[], seen?: number): void {
  const messages = changes.flatMap(changeMessages)
  // What is added may be there already.
  const isCertain = changes.some(({ op, elements }) => op !== 'add' && elements.length > 0)
  if (!isCertain) return commit(socket, messages)
  // To name the generation costs one request at most, and saves `ensureTable` from reading its table again.
  if (seen !== undefined && isCommitted(socket, messages, seen)) return
  if (!isCommitted(socket, messages, generation(socket))) commit(socket, messages)
}

/** False when the ruleset is of another generation by now; nothing is changed then. */
function isCommitted(socket: NetlinkSocket, messages: readonly NftMessage[], seen: number): boolean {
  try {
    commitElements(socket, messages, seen)
    return true
  } catch (error) {
    if (error instanceof NftError && error.code === 'contended') return false
    throw error
  }
}

export const addElements = (socket: NetlinkSocket, set: ElementSet, elements: readonly Element[]): void =>
  changeElements(socket, [{ op: 'add', set, elements }])

export const createElements = (socket: NetlinkSocket, set: ElementSet, elements: readonly Element[]): void =>
  changeElements(socket, [{ op: 'create', set, elements }])

export const deleteElements = (
  socket: NetlinkSocket,
  set: ElementSet,
  elements: readonly Pick<Element, 'key'>[],
): void => changeElements(socket, [{ op: 'delete', set, elements }])

/** An attribute's length has 16 bits; a list stays below it with room for one element more. */
const MAX_LIST = 60_000

const verbs = {
  add: { type: NFT_MSG.newElement, flags: NLM_F.CREATE },
  create: { type: NFT_MSG.newElement, flags: NLM_F.CREATE | NLM_F.EXCL },
  delete: { type: NFT_MSG.delElement, flags: 0 },
} as const

/** The messages of one change, for transactions that hold more than elements. */
export function changeMessages({ op, set, elements }: ElementChange): NftMessage[] {
  const messages: NftMessage[] = []
  for (let from = 0; from < elements.length;) {
    const writer = new Writer(Math.min(65_536, 256 + (elements.length - from) * 96))
    const list = startList(writer, set)
    const ends: number[] = []
    let next = from
    for (; next < elements.length && writer.length - list < MAX_LIST; next++) {
      const element = elements[next]
      if (element !== undefined) encode(writer, set, element, op === 'delete', next)
      ends.push(writer.length)
    }
    endList(writer, list)
    messages.push(listMessage(op, set, elements.length, writer.written(), from, [list + 4, ...ends]))
    from = next
  }
  return messages
}

function encode(writer: Writer, set: ElementSet, element: Element, keyOnly: boolean, index: number): void {
  try {
    writeElement(writer, set, element, keyOnly)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new NftError('bad-value', `element ${index} of ${set.name}, ${describe(element)}: ${reason}`, {
      cause,
      element: index,
    })
  }
}

function listMessage(
  op: ElementChange['op'],
  set: ElementSet,
  count: number,
  bytes: Uint8Array,
  from: number,
  borders: readonly number[],
): NftMessage {
  const { type, flags } = verbs[op]
  const header = HEADER_LENGTH + 4
  return {
    ...nftMessage(
      () => `${op} ${count} element${count === 1 ? '' : 's'} in ${set.table.family} ${set.table.name} ${set.name}`,
      type,
      familyNumber[set.table.family],
      (writer) => writer.append(bytes),
      flags,
    ),
    size: bytes.length,
    elementAt: (offset) => {
      const position = borders.findIndex((border) => offset < border + header)
      // Before the first: the kernel complains about the table or the set.
      return position < 1 ? undefined : from + position - 1
    },
  }
}

function startList(writer: Writer, set: ElementSet): number {
  writeText(writer, ELEMENTS.table, set.table.name)
  writeText(writer, ELEMENTS.set, set.name)
  return writer.reserve(4)
}

function endList(writer: Writer, list: number): void {
  writer.view.setUint16(list, writer.length - list, LITTLE)
  writer.view.setUint16(list + 2, ELEMENTS.elements | NLA_F_NESTED, LITTLE)
}

/** All elements, intervals joined. Throws `kernel` with ENOENT when there is no such set. */
export function listElements(socket: NetlinkSocket, set: ElementSet): Element[] {
  const message = nftMessage(
    () => `list elements of ${set.table.family} ${set.table.name} ${set.name}`,
    NFT_MSG.getElement,
    familyNumber[set.table.family],
    (writer) => {
      writeText(writer, ELEMENTS.table, set.table.name)
      writeText(writer, ELEMENTS.set, set.name)
    },
  )
  for (let attempt = 0; attempt < LISTINGS; attempt++) {
    const raw = translated(() => socket.dump(message, (payload) => readList(payload, set))).flat()
    if (new Set(raw.map((element) => `${keyOf(element)}${element.end}`)).size === raw.length)
      return joinIntervals(set, raw)
  }
  throw new NftError(
    'contended',
    `set ${set.name} could not be listed: it was reordered during each of ${LISTINGS} readings`,
  )
}

/**
 * While the kernel resizes a hash table, which it does in the background after many additions, a listing in several pieces shows some elements twice and misses as many
 * others, without saying so: a piece starts by skipping as many elements as were sent, in whatever order they are by then. No key twice means none is missing.
 */
const LISTINGS = 32

/** The element of exactly this key; undefined when there is none. A single lookup, but in interval sets of one type a listing. */
export function getElement(socket: NetlinkSocket, set: ElementSet, key: readonly Part[]): Element | undefined {
  const wanted = keyOf({ key: normalKey(set, key) })
  if (hasEnds(set)) return listElements(socket, set).find((element) => keyOf(element) === wanted)
  const message = nftMessage(
    () => `get element ${describe({ key })} of ${set.table.family} ${set.table.name} ${set.name}`,
    NFT_MSG.getElement,
    familyNumber[set.table.family],
    (writer) => {
      const list = startList(writer, set)
      writeElement(writer, set, { key }, true)
      endList(writer, list)
    },
  )
  const raw = lookUp(() => socket.get(message, (payload) => readList(payload, set)))
  return joinIntervals(set, raw).find((element) => keyOf(element) === wanted)
}

/** A missing element is no error; a missing set is the same errno with other words, and no error for a reader either. */
function lookUp<T>(run: () => readonly T[]): readonly T[] {
  try {
    return run()
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ERRNO.ENOENT) return []
    if (error instanceof NetlinkError) throw kernelError(error)
    throw error
  }
}

function readList(payload: Reader, set: ElementSet): ReturnType<typeof readElement>[] {
  nfgenmsg.read(payload)
  const found: ReturnType<typeof readElement>[] = []
  forEachAttribute(payload, (type, list) => {
    if (type !== ELEMENTS.elements) return
    forEachAttribute(list, (item, reader) => {
      if (item === LIST_ELEMENT) found.push(readElement(reader, set))
    })
  })
  return found
}

/** Up to so many elements are looked up one by one; more are found by listing the set. */
const LOOKUPS = 64

/**
 * Makes the elements be there with these data and comments, replacing what their keys had. One transaction; new keys cost one request, replaced ones a
 * lookup each. Unlike `nft add element`, which keeps old data.
 */
export function putElements(socket: NetlinkSocket, set: ElementSet, elements: readonly Element[]): void {
  try {
    createElements(socket, set, elements)
    return
  } catch (error) {
    if (!(error instanceof NftError && error.errno === ERRNO.EEXIST)) throw error
  }
  optimistic(socket, () => {
    const present = findAll(socket, set, elements)
    const changes: ElementChange[] = [
      { op: 'delete', set, elements: present },
      { op: 'create', set, elements },
    ]
    return { messages: changes.flatMap(changeMessages), result: undefined }
  })
}

export type DeleteOutcome = 'deleted' | 'missing' | 'foreign'

/**
 * Deletes those elements of the given keys that `isMine` accepts, in one transaction that fails and starts over when anything changed since they were
 * read: a late delete never removes what another owner has put under the same key. Returns what became of each key.
 */
export function deleteElementsIf(
  socket: NetlinkSocket,
  set: ElementSet,
  keys: readonly (readonly Part[])[],
  isMine: (element: Element) => boolean,
): DeleteOutcome[] {
  const wanted = keys.map((key) => ({ key }))
  return optimistic(socket, () => {
    const present = new Map(findAll(socket, set, wanted).map((element) => [keyOf(element), element]))
    const mine: Element[] = []
    const result = wanted.map(({ key }): DeleteOutcome => {
      const element = present.get(keyOf({ key: normalKey(set, key) }))
      if (element === undefined) return 'missing'
      if (!isMine(element)) return 'foreign'
      mine.push(element)
      return 'deleted'
    })
    return { messages: changeMessages({ op: 'delete', set, elements: [...new Set(mine)] }), result }
  })
}

/** Deletes every element that `isMine` accepts (garbage collection); returns them. */
export function deleteElementsWhere(
  socket: NetlinkSocket,
  set: ElementSet,
  isMine: (element: Element) => boolean,
): Element[] {
  return optimistic(socket, () => {
    const result = listElements(socket, set).filter(isMine)
    return { messages: changeMessages({ op: 'delete', set, elements: result }), result }
  })
}

/** The present ones among the wanted. */
function findAll(socket: NetlinkSocket, set: ElementSet, wanted: readonly Pick<Element, 'key'>[]): Element[] {
  if (wanted.length <= LOOKUPS && !(isInterval(set) && hasEnds(set)))
    return wanted.flatMap(({ key }) => getElement(socket, set, key) ?? [])
  const keys = new Set(wanted.map(({ key }) => keyOf({ key: normalKey(set, key) })))
  return listElements(socket, set).filter((element) => keys.has(keyOf(element)))
}
