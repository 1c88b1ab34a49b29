/** Elements of Heddle's nftables tables that belong to attachments: put, found again and removed by the owner in their comment. */

import type { RulesNote } from '#cni/attachment/record.ts'
import type { Attachment } from '#cni/plugin.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import type { Part } from '#nft/datatype.ts'
import type { Element } from '#nft/element.ts'
import {
  changeElements,
  changeMessages,
  getElement,
  listElements,
  setOf,
  type ElementChange,
  type ElementSet,
} from '#nft/elements.ts'
import { seenGeneration } from '#nft/ensure.ts'
import { NftError } from '#nft/error.ts'
import { getTable } from '#nft/list.ts'
import type { Table } from '#nft/table.ts'
import { optimistic } from '#nft/transaction.ts'
import { ERRNO } from '#sys/errno.ts'
import { markOf, networkMark, ownerComment, ownerMark } from '../link/owner.ts'

/** An element of the set or map of that name. */
export interface OwnedElement {
  readonly set: string
  readonly key: readonly Part[]
  readonly data?: Element['data']
}

/**
 * Puts the elements, all in one transaction, taking their keys over from whoever had them: the newest attachment wins, and an older one's late DEL leaves it
 * alone. New keys cost one request. Returns whether a key was another attachment's.
 */
export function putOwned(
  socket: NetlinkSocket,
  table: Table,
  network: string,
  attachment: Attachment,
  elements: readonly OwnedElement[],
): boolean {
  const comment = ownerComment(network, attachment)
  const changes = [...Map.groupBy(elements, (element) => element.set)].map(([name, some]): ElementChange => {
    const distinct = [...new Map(some.map((element) => [element.key.join(), element])).values()]
    const owned = distinct.map(({ key, data }) => (data === undefined ? { key, comment } : { key, data, comment }))
    return { op: 'create', set: setOf(table, name), elements: owned }
  })
  try {
    changeElements(socket, changes, seenGeneration(socket, table))
    return false
  } catch (error) {
    if (!(error instanceof NftError && (error.errno === ERRNO.EEXIST || error.errno === ERRNO.ENOTEMPTY))) throw error
    const mark = ownerMark(network, attachment)
    return optimistic(socket, () => {
      const former = changes.map(({ set, elements: wanted }): ElementChange => {
        const inTheWay = listElements(socket, set).filter((seen) => wanted.some((one) => collides(one, seen)))
        return { op: 'delete', set, elements: inTheWay }
      })
      const isTaken = former.some(({ elements: some }) => some.some(({ comment: owner }) => markOf(owner) !== mark))
      return { messages: [...former, ...changes].flatMap(changeMessages), result: isTaken }
    })
  }
}

/** For `PluginHost.rules`: the elements as they can be put back, with what their table is made of. */
export const noteOf = (
  { family, name }: Table,
  elements: readonly OwnedElement[],
  conditions?: RulesNote['conditions'],
): RulesNote => ({
  family,
  table: name,
  ...(conditions === undefined ? {} : { conditions }),
  elements: elements.map(({ set, key, data }) => ({
    set,
    key: [...key],
    ...(data === undefined || !isParts(data) ? {} : { data: [...data] }),
  })),
})

const isParts = (data: NonNullable<Element['data']>): data is readonly Part[] => Array.isArray(data)

/** The same key; or, where prefixes are involved, the same address with another prefix, which the kernel refuses as an overlap. */
export const collides = (a: Pick<Element, 'key'>, b: Pick<Element, 'key'>): boolean =>
  a.key.join() === b.key.join() ||
  (a.key.some(isPrefix) && a.key.some((part, i) => !isPrefix(part) && part === b.key[i]))

const isPrefix = (part: Part): boolean => typeof part === 'string' && part.includes('/')

/** Sets whose elements have an owner; the others hold what many share. */
const ownedSets = (table: Table): readonly ElementSet[] =>
  table.sets.filter((set) => set.comment === OWNED).map((set) => setOf(table, set.name))

/** The comment of the sets whose elements name their owner. */
export const OWNED = 'one element for each attachment, with its owner'

/** Removes all that belongs to an attachment, whatever the configuration says today. No table: nothing to do. */
export function dropOwned(
  socket: NetlinkSocket,
  table: Table,
  network: string,
  attachment: Attachment,
): readonly Element[] {
  return dropMark(socket, table, ownerMark(network, attachment))
}

/** The same by what `ownerMark` gives. */
export const dropMark = (socket: NetlinkSocket, table: Table, mark: string): readonly Element[] =>
  dropWhere(socket, table, (comment) => markOf(comment) === mark)

/** All elements with an owner, by set. No table: none. Throws NftError. */
export function listOwned(socket: NetlinkSocket, table: Table): readonly (readonly [ElementSet, readonly Element[]])[] {
  if (getTable(socket, table) === undefined) return []
  return ownedSets(table).map((set) => [set, listElements(socket, set)] as const)
}

/** Removes all that belongs to attachments of the network that are not valid any more. */
export function dropStale(
  socket: NetlinkSocket,
  table: Table,
  network: string,
  valid: readonly Attachment[],
): readonly Element[] {
  const prefix = networkMark(network)
  const keep = new Set(valid.map((attachment) => ownerMark(network, attachment)))
  return dropWhere(socket, table, (comment) => {
    const mark = markOf(comment)
    return mark.startsWith(prefix) && !keep.has(mark)
  })
}

/** One transaction, which starts over when anybody changes the ruleset between reading and deleting. */
function dropWhere(
  socket: NetlinkSocket,
  table: Table,
  isMine: (comment: string | undefined) => boolean,
): readonly Element[] {
  if (getTable(socket, table) === undefined) return []
  return optimistic(socket, () => {
    const changes = ownedSets(table).map((set): ElementChange => {
      const mine = listElements(socket, set).filter((element) => isMine(element.comment))
      return { op: 'delete', set, elements: mine }
    })
    return { messages: changes.flatMap(changeMessages), result: changes.flatMap(({ elements }) => elements) }
  })
}

/** The first of the elements that is missing, or is somebody else's; undefined when all are in place. */
export function firstMissing(
  socket: NetlinkSocket,
  table: Table,
  network: string,
  attachment: Attachment,
  elements: readonly OwnedElement[],
): OwnedElement | undefined {
  if (getTable(socket, table) === undefined) return elements[0]
  const mark = ownerMark(network, attachment)
  return elements.find(({ set, key, data }) => {
    const found = getElement(socket, setOf(table, set), key)
    return markOf(found?.comment) !== mark || JSON.stringify(found?.data) !== JSON.stringify(data)
  })
}
