/** Puts back what attachments had in iptables, by their records; like `rules/restore.ts` for nftables. What a DEL has begun to remove is `leaving` by then, and stays away. */

import { listRecords, type AttachmentRecord, type ChainsNote } from '#cni/attachment/record.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { IptablesError } from '#iptables/error.ts'
import { editTable, type Iptables } from '#iptables/iptables.ts'
import { bootId } from '#sys/bootid.ts'
import { planRestore, planTakeBack, type Gone } from './note.ts'
import { answering, hostIptables } from './nat.ts'

/** What was put back. */
export interface RestoredChains {
  /** `ip nat`, as nft names it. */
  readonly table: string
  /** How many rules were missing. */
  readonly rules: number
}

/** A note with the record that it is of. */
export interface Noted {
  readonly id: string
  readonly note: ChainsNote
}

/** The notes of all attachments that are there, oldest first. */
export function chainNotes(records: readonly AttachmentRecord[]): readonly Noted[] {
  const current = bootId()
  return records
    .filter(({ state, boot }) => state === 'ready' && boot === current)
    .toSorted((a, b) => a.since - b.since)
    .flatMap(({ id, chains = [] }) => chains.map((note) => ({ id, note })))
}

export const nftNameOf = ({ family, table }: Pick<ChainsNote, 'family' | 'table'>): string =>
  `${family === 4 ? 'ip' : 'ip6'} ${table}`

/** The guard of 127.0.0.0/8 before what opens the way. */
const ORDER: readonly ChainsNote['table'][] = ['raw', 'nat', 'filter']

/** Looks at every table that records name. Throws CniError 5 for the first one that cannot be mended, after the others. */
export async function restoreChains(
  host: Pick<PluginHost, 'netlink'>,
  folder: string,
): Promise<readonly RestoredChains[]> {
  const named = new Map(chainNotes(listRecords(folder)).map(({ note }) => [nftNameOf(note), note]))
  const restored: RestoredChains[] = []
  let failure: unknown
  for (const one of [...named.values()].toSorted((a, b) => ORDER.indexOf(a.table) - ORDER.indexOf(b.table))) {
    try {
      const rules = await restoreTable(host, folder, one)
      if (rules > 0) restored.push({ table: nftNameOf(one), rules })
    } catch (error) {
      failure ??= error
    }
  }
  if (failure !== undefined) throw failure
  return restored
}

async function restoreTable(
  host: Pick<PluginHost, 'netlink'>,
  folder: string,
  { family, table }: ChainsNote,
): Promise<number> {
  const iptables = await hostIptables(host, family)
  const wanted = (): readonly Noted[] =>
    chainNotes(listRecords(folder)).filter(({ note }) => note.family === family && note.table === table)
  const { done, refusal } = await answering(() => putBack(iptables, table, wanted))
  // A DEL that began after its record was read, and found nothing to remove before it was put there.
  const left = wanted()
  const ready = new Set(left.map(({ id }) => id))
  const gone = done.filter(({ id, put }) => put.length > 0 && !ready.has(id))
  if (gone.length > 0) {
    const notes = left.map(({ note }) => note)
    await answering(() => editTable(iptables, table, (seen) => planTakeBack(seen, gone, notes)))
  }
  if (refusal !== undefined) await answering(() => Promise.reject(refusal))
  return done.reduce((sum, { put }) => sum + put.length, 0)
}

interface Done {
  readonly done: readonly (Gone & Noted)[]
  /** Of the first attachment whose rules iptables did not take. */
  readonly refusal?: IptablesError
}

/** All in one transaction. Where iptables refuses it, as for a chain of somebody else that is gone, one attachment after the other. */
async function putBack(iptables: Iptables, table: string, wanted: () => readonly Noted[]): Promise<Done> {
  const put = async (which: () => readonly Noted[]): Promise<Done['done']> => {
    let done: Done['done'] = []
    // Records are read inside, when no other change of this process is under way.
    await editTable(iptables, table, (seen) => {
      const noted = which()
      const plan = planRestore(
        seen,
        noted.map(({ note }) => note),
      )
      done = noted.map((one, i) => ({ ...one, put: plan.put[i] ?? [] }))
      return plan.edits
    })
    return done
  }
  try {
    return { done: await put(wanted) }
  } catch (error) {
    if (!isRefusal(error)) throw error
    const refused = new Set<string>()
    const done: (Gone & Noted)[] = []
    for (const { id } of wanted()) {
      try {
        done.push(...(await put(() => untilId(wanted(), id).filter((one) => !refused.has(one.id)))))
      } catch (again) {
        if (!isRefusal(again)) throw again
        refused.add(id)
      }
    }
    return { done, refusal: error }
  }
}

const isRefusal = (error: unknown): error is IptablesError => error instanceof IptablesError && error.code === 'refused'

/** Up to the last note of that record. */
const untilId = (noted: readonly Noted[], id: string): readonly Noted[] =>
  noted.slice(0, noted.findLastIndex((one) => one.id === id) + 1)
