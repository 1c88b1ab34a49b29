/**
 * Puts back what attachments had in nftables, after somebody flushed the ruleset or removed a part of it. The records of attachments say what was there; what a DEL
 * has begun to remove is `leaving` in its record by then, and stays away.
 */

import { listRecords, type AttachmentRecord, type RulesNote } from '#cni/attachment/record.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { keyOf, type Element } from '#nft/element.ts'
import { changeMessages, listElements, setOf, type ElementChange } from '#nft/elements.ts'
import { ensureTable } from '#nft/ensure.ts'
import { normalKey } from '#nft/join.ts'
import { sameTableRef, type Table, type TableRef } from '#nft/table.ts'
import { optimistic } from '#nft/transaction.ts'
import { bootId } from '#sys/bootid.ts'
import { hostNetns } from '../link/host-netns.ts'
import { ownerComment, ownerMark } from '../link/owner.ts'
import { collides, dropMark, OWNED } from './owned.ts'
import { tableOf } from './tables.ts'

/** What was put back. */
export interface Restored {
  /** `FAMILY NAME` of the table. */
  readonly table: string
  /** How many elements were missing. */
  readonly elements: number
  /** The table itself was missing, or not as written. */
  readonly isRewritten: boolean
}

interface Wanted {
  readonly table: Table
  readonly set: string
  readonly element: Element
  readonly record: AttachmentRecord
}

/** Looks at every table that records name. Nothing missing: two requests for each table and one for each set. Throws NftError, for the first table that cannot be mended, after the others. */
export async function restoreRules(host: Pick<PluginHost, 'netlink'>, folder: string): Promise<readonly Restored[]> {
  const tables = new Map<string, Table>()
  for (const { table } of wantedBy(listRecords(folder))) tables.set(nameOf(table), table)
  const restored: Restored[] = []
  let failure: unknown
  for (const table of tables.values()) {
    try {
      const done = await restoreTable(host, folder, table)
      if (done.elements > 0 || done.isRewritten) restored.push(done)
    } catch (error) {
      failure ??= error
    }
  }
  if (failure !== undefined) throw failure
  return restored
}

/** What a newer attachment had in a table goes back to the newest of those that want it too. Without records nobody knows of those. Throws NftError. */
export async function giveBack(host: Pick<PluginHost, 'netlink' | 'records'>, ref: TableRef): Promise<void> {
  const { records: folder } = host
  if (folder === undefined) return
  const table = wantedBy(listRecords(folder)).find((wanted) => sameTableRef(wanted.table, ref))?.table
  if (table !== undefined) await restoreTable(host, folder, table)
}

const nameOf = ({ family, name }: Table): string => `${family} ${name}`

/** The elements of all attachments that are there, oldest first. */
function wantedBy(records: readonly AttachmentRecord[]): readonly Wanted[] {
  const current = bootId()
  return records
    .filter(({ state, boot }) => state === 'ready' && boot === current)
    .toSorted((a, b) => a.since - b.since)
    .flatMap((record) => record.rules.flatMap((note) => wantedByNote(record, note)))
}

function wantedByNote(record: AttachmentRecord, note: RulesNote): readonly Wanted[] {
  const table = tableOf(note)
  if (table === undefined) return []
  return note.elements.flatMap(({ set, key, data }) => {
    const declared = table.sets.find(({ name }) => name === set)
    if (declared === undefined) return []
    // What several attachments share names none of them.
    const comment = declared.comment === OWNED ? { comment: ownerComment(record.network, record) } : {}
    const element = { key: normalKey(declared, key), ...(data === undefined ? {} : { data }), ...comment }
    return [{ table, set, element, record }]
  })
}

async function restoreTable(host: Pick<PluginHost, 'netlink'>, folder: string, table: Table): Promise<Restored> {
  const { nft } = hostNetns(host)
  const { changed } = await ensureTable(nft, table)
  // Records are read inside: after the generation that the transaction names.
  const missing = optimistic(nft, () => {
    const absent = missingFrom(
      table,
      wantedBy(listRecords(folder)).filter((wanted) => nameOf(wanted.table) === nameOf(table)),
      (set) => listElements(nft, setOf(table, set)),
    )
    const changes = [...Map.groupBy(absent, ({ set }) => set)].map(([set, some]): ElementChange => ({
      op: 'create',
      set: setOf(table, set),
      elements: some.map(({ element }) => element),
    }))
    return { messages: changes.flatMap(changeMessages), result: absent }
  })
  // A DEL that began after its record was read, and found nothing to remove before we put it there.
  const ready = new Set(listRecords(folder).flatMap(({ id, state }) => (state === 'ready' ? [id] : [])))
  for (const { record } of missing) {
    if (!ready.has(record.id)) dropMark(nft, table, ownerMark(record.network, record))
  }
  return { table: nameOf(table), elements: missing.length, isRewritten: changed }
}

/** Pure. Of two attachments that want one key the newer has it; a key that somebody has is left to them. */
export function missingFrom(
  table: Table,
  wanted: readonly Wanted[],
  present: (set: string) => readonly Element[],
): readonly Wanted[] {
  const newest = new Map(wanted.map((one) => [`${one.set} ${keyOf(one.element)}`, one]))
  const bySet = Map.groupBy(newest.values(), ({ set }) => set)
  return table.sets.flatMap(({ name }) => {
    const some = bySet.get(name)
    if (some === undefined) return []
    const seen = present(name)
    const keys = new Set(seen.map(keyOf))
    return some.filter(
      ({ element }) => !keys.has(keyOf(element)) && !(isRange(element) && seen.some((one) => collides(element, one))),
    )
  })
}

const isRange = ({ key }: Element): boolean => key.some((part) => String(part).includes('/'))
