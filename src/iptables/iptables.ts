/** One family's iptables of one network namespace: read a table, change it in one transaction. */

import type { Family } from '#ip/address.ts'
import type { Netns } from '#sys/netns.ts'
import { renderEdits, type Edit } from './edit.ts'
import { IptablesError } from './error.ts'
import { restore, save } from './program.ts'
import { TableRules } from './save.ts'
import { programOf, type Variant } from './variant.ts'

export interface Iptables {
  readonly family: Family
  readonly variant: Variant
  /** `iptables-nft`, of which there are `-save` and `-restore`. */
  readonly program: string
  /** Absent: the namespace of this process. */
  readonly netns: Netns | undefined
}

/** Throws IptablesError `no-program`. */
export async function openIptables(netns: Netns | undefined, family: Family, variant: Variant): Promise<Iptables> {
  return { family, variant, netns, program: await programOf(variant, family) }
}

/** Like `iptables-save -t TABLE`. Throws IptablesError. */
export const readTable = async ({ netns, program }: Iptables, table: string): Promise<TableRules> =>
  TableRules.parse(await save(netns, program, table), table)

/** Others may change the table between reading and writing, so often. */
const ATTEMPTS = 5

/** Changes of one table run one after the other; those of other processes make the transaction fail, and it is planned anew. */
const running = new Map<string, Promise<unknown>>()

/**
 * Reads a table, asks what to change, and changes it in one transaction; nothing is started where there is nothing to change. Where the table was changed by others
 * meanwhile, so that iptables refuses, it is done again. Returns whether anything was changed. Throws IptablesError.
 */
export async function editTable(
  iptables: Iptables,
  table: string,
  plan: (seen: TableRules) => readonly Edit[],
): Promise<boolean> {
  const key = `${String(iptables.netns)} ${iptables.program} ${table}`
  const before = running.get(key) ?? Promise.resolve()
  const work = before.then(() => edit(iptables, table, plan))
  const ended = work
    .then(ignore, ignore)
    .finally(() => (running.get(key) === ended ? void running.delete(key) : undefined))
  running.set(key, ended)
  return work
}

const ignore = (): void => undefined

async function edit(iptables: Iptables, table: string, plan: (seen: TableRules) => readonly Edit[]): Promise<boolean> {
  let last = ''
  for (let attempt = 1; ; attempt++) {
    const edits = plan(await readTable(iptables, table))
    if (edits.length === 0) return attempt > 1
    const text = renderEdits(table, edits)
    try {
      await restore(iptables.netns, iptables.program, text)
      return true
    } catch (error) {
      if (!(error instanceof IptablesError) || error.code !== 'refused') throw error
      // The same plan was refused twice: it is not the others' doing.
      if (text === last) throw error
      if (attempt === ATTEMPTS)
        throw new IptablesError(
          'contended',
          `table ${table} of ${iptables.program} was changed by others during each of ${ATTEMPTS} tries: ${error.message}`,
          { cause: error },
        )
      last = text
    }
  }
}
