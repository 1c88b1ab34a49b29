/** Elements of Heddle's nftables tables that belong to attachments: put, found again and removed by the owner in their comment. */

import type { Attachment } from '#cni/plugin.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import type { Part } from '#nft/datatype.ts'
import type { Element } from '#nft/element.ts'
import { deleteElementsWhere, getElement, listElements, putElements, setOf, type ElementSet } from '#nft/elements.ts'
import { NftError } from '#nft/error.ts'
import { getTable } from '#nft/list.ts'
import type { Table } from '#nft/table.ts'
import { ERRNO } from '#sys/errno.ts'
import { markOf, networkMark, ownerComment, ownerMark } from '../link/owner.ts'

/** An element of the set or map of that name. */
export interface OwnedElement {
  readonly set: string
  readonly key: readonly Part[]
  readonly data?: Element['data']
}

/** Puts the elements, taking their keys over from whoever had them: the newest attachment wins, and an older one's late DEL leaves it alone. */
export function putOwned(
  socket: NetlinkSocket,
  table: Table,
  network: string,
  attachment: Attachment,
  elements: readonly OwnedElement[],
): void {
  const comment = ownerComment(network, attachment)
  for (const [name, some] of Map.groupBy(elements, (element) => element.set)) {
    const set = setOf(table, name)
    const distinct = new Map(some.map((element) => [element.key.join(), element])).values()
    const owned = [...distinct].map(({ key, data }) => (data === undefined ? { key, comment } : { key, data, comment }))
    try {
      putElements(socket, set, owned)
    } catch (error) {
      // An older attachment had this address in another, overlapping prefix.
      if (!(error instanceof NftError && error.errno === ERRNO.ENOTEMPTY)) throw error
      const addresses = new Set(owned.map(({ key }) => key[0]))
      deleteElementsWhere(socket, set, (element) => addresses.has(element.key[0]))
      putElements(socket, set, owned)
    }
  }
}

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
  const mark = ownerMark(network, attachment)
  return dropWhere(socket, table, (comment) => markOf(comment) === mark)
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

function dropWhere(
  socket: NetlinkSocket,
  table: Table,
  isMine: (comment: string | undefined) => boolean,
): readonly Element[] {
  if (getTable(socket, table) === undefined) return []
  return ownedSets(table).flatMap((set) => deleteElementsWhere(socket, set, (element) => isMine(element.comment)))
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

/** Whether any attachment still has an element in the table. */
export const isUnused = (socket: NetlinkSocket, table: Table): boolean =>
  ownedSets(table).every((set) => listElements(socket, set).length === 0)
