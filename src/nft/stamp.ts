/**
 * The note that Heddle leaves in a table: an element of a set of its own, so that it can be replaced without rewriting anything and does not count as structure.
 */

import { createHash } from 'node:crypto'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { changeMessages, type ElementSet, getElement } from './elements.ts'
import { NftError } from './error.ts'
import { fingerprint } from './fingerprint.ts'
import { type KernelStructure, readStructure } from './list.ts'
import type { SetDeclaration, Table, TableRef } from './table.ts'
import { renderTable } from './text.ts'
import { commit, nextGeneration } from './transaction.ts'

/** The set that holds the note. */
export const STAMP_SET: SetDeclaration = { name: 'heddle-stamp', key: ['mark'], comment: 'what heddle wrote here last' }

export interface Stamp {
  /** Hash of the text. */
  readonly text: string
  /** Fingerprint of what the kernel made of it. */
  readonly kernel: string
}

/** The model with the set for the note. */
export const stamped = (table: Table): Table => ({ ...table, sets: [...table.sets, STAMP_SET] })

const digests = new WeakMap<Table, string>()

/** Identifies a model by its text. */
export function digestOf(table: Table): string {
  const known = digests.get(table)
  if (known !== undefined) return known
  const digest = createHash('sha256')
    .update(renderTable(stamped(table)))
    .digest('hex')
    .slice(0, 32)
  digests.set(table, digest)
  return digest
}

const KEY = [0] as const
const stampSet = ({ family, name }: TableRef): ElementSet => ({ ...STAMP_SET, table: { family, name } })

/** The note; undefined when there is none, or it is not Heddle's. */
export function readStamp(socket: NetlinkSocket, table: TableRef, structure: KernelStructure): Stamp | undefined {
  const set = structure.sets.find(({ name }) => name === STAMP_SET.name)
  if (set?.key?.join() !== STAMP_SET.key.join()) return undefined
  const match = /^text=([0-9a-f]{32}) kernel=([0-9a-f]{32})$/.exec(
    getElement(socket, stampSet(table), KEY)?.comment ?? '',
  )
  const [, text, kernel] = match ?? []
  return text === undefined || kernel === undefined ? undefined : { text, kernel }
}

/** How often noting is tried while others change elements or other tables. */
const ATTEMPTS = 16

/**
 * Leaves the note, but only while the table still is what the note says. Returns the generation after it; undefined when somebody changed the table.
 */
export function writeStamp(
  socket: NetlinkSocket,
  table: TableRef,
  seen: KernelStructure,
  stamp: Stamp,
): number | undefined {
  const set = stampSet(table)
  let current: KernelStructure | undefined = seen
  for (let attempt = 1; attempt <= ATTEMPTS && current !== undefined; attempt++) {
    if (current !== seen && fingerprint(current) !== stamp.kernel) return undefined
    const present = getElement(socket, set, KEY)
    const messages = [
      ...(present === undefined ? [] : changeMessages({ op: 'delete', set, elements: [present] })),
      ...changeMessages({
        op: 'create',
        set,
        elements: [{ key: KEY, comment: `text=${stamp.text} kernel=${stamp.kernel}` }],
      }),
    ]
    try {
      commit(socket, messages, current.generation)
      return nextGeneration(current.generation)
    } catch (error) {
      if (!(error instanceof NftError && (error.code === 'contended' || error.code === 'kernel'))) throw error
      current = readStructure(socket, table)
    }
  }
  return undefined
}
