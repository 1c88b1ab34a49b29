/** Does what is local of a migration, and takes it back. Each step may be done again: a kill in between is completed or undone by the next call. */

import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { MASQUERADE_TABLE } from '#flannel/masquerade.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { deleteTable } from '#nft/ensure.ts'
import { getTable } from '#nft/list.ts'
import { openNft } from '#nft/transaction.ts'
import { writeFileAtomicSync } from '#sys/atomic-file.ts'
import { bootId } from '#sys/bootid.ts'
import { hasCode } from '#sys/errno.ts'
import { namesIn } from '#sys/folder.ts'
import { lookAt } from '../install/apply.ts'
import { readManifest } from '../install/manifest.ts'
import { planUninstall, type InstallPlan } from '../install/plan.ts'
import { carryOut, takeBack, type Target } from '../install/target.ts'
import { readRules } from './collect-rules.ts'
import { addEntry, keyOf, removeEntry } from './entry.ts'
import { readJournal, removeJournal, writeJournal, type Journal } from './journal.ts'
import type { MigrationPlan } from './plan.ts'

export interface Place {
  readonly target: Target
  readonly journal: string
  /** Before each change. */
  readonly step: () => void
}

/** Called under the lock. Throws CliError, NetlinkError and what the file system throws; what was done until then is in the journal. */
export function applyMigration(plan: MigrationPlan, install: InstallPlan | undefined, place: Place): void {
  const { target, journal: path, step } = place
  const before = readJournal(path)
  const journal = journalOf(plan, before, target.root)
  if (before === undefined && journal.entries.length === 0 && !journal.plugins && journal.dropIn === null) return
  step()
  sweep(path)
  writeJournal(path, journal)
  if (plan.stale.length > 0) {
    using socket = NetlinkSocket.open()
    for (const entry of plan.stale) {
      step()
      removeEntry(socket, entry)
    }
  }
  if (install !== undefined && plan.installs) carryOut(install, target)
  if (plan.dropIn !== undefined) {
    step()
    const file = join(target.root, plan.dropIn.path)
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 })
    sweep(file)
    writeFileAtomicSync(file, plan.dropIn.text, { mode: 0o644 })
  }
  step()
  writeJournal(path, { ...journal, state: 'applied' })
}

/** What is to be taken back one day: what this call changes, and what an earlier one has changed. */
function journalOf(plan: MigrationPlan, before: Journal | undefined, root: string): Journal {
  const boot = bootId()
  const earlier = before?.boot === boot ? before.entries : []
  const entries = new Map([...earlier, ...plan.stale].map((entry) => [keyOf(entry), entry]))
  return {
    version: 1,
    state: 'applying',
    boot,
    entries: [...entries.values()],
    plugins: before?.plugins === true || plan.installs,
    dropIn: dropInOf(plan, before, root),
  }
}

function dropInOf({ dropIn }: MigrationPlan, before: Journal | undefined, root: string): Journal['dropIn'] {
  if (dropIn === undefined) return before?.dropIn ?? null
  const file = join(root, dropIn.path)
  const there = textAt(file)
  // An earlier call may have written it: what was there before that one counts.
  const known = before?.dropIn ?? undefined
  return {
    ...dropIn,
    before: known === undefined ? (there ?? null) : known.before,
    madeFolder: known === undefined ? !existsSync(dirname(file)) : known.madeFolder,
  }
}

export interface Returned {
  /** Entries that are there again, of so many. */
  readonly entries: number
  readonly of: number
  readonly plugins: boolean
  readonly dropIn: 'removed' | 'restored' | 'changed' | 'none'
  /** Heddle's own table: gone, to be removed when flannel's rules are back, or not there. */
  readonly table: 'removed' | 'left' | 'none'
}

/** Undefined where nothing was migrated. Called under the lock. Throws as applyMigration does. */
export async function returnMigration(place: Place, isAgentRunning: boolean): Promise<Returned | undefined> {
  const { target, journal: path, step } = place
  const journal = readJournal(path)
  if (journal === undefined) return undefined
  step()
  sweep(path)
  writeJournal(path, { ...journal, state: 'returning' })
  const dropIn = returnDropIn(journal, place)
  const manifest = journal.plugins ? readManifest(target.manifest) : undefined
  if (manifest !== undefined) {
    const actions = planUninstall(manifest, (file) => lookAt(`${target.root}${file}`))
    takeBack(manifest, actions, target)
  }
  const entries = journal.boot === bootId() ? journal.entries : []
  let added = 0
  using socket = NetlinkSocket.open()
  for (const entry of entries) {
    step()
    if (addEntry(socket, entry)) added++
  }
  const table = await returnTable(isAgentRunning)
  step()
  removeJournal(path)
  return { entries: added, of: journal.entries.length, plugins: manifest !== undefined, dropIn, table }
}

function returnDropIn({ dropIn }: Journal, { target, step }: Place): Returned['dropIn'] {
  if (dropIn === null) return 'none'
  const file = join(target.root, dropIn.path)
  sweep(file)
  const there = textAt(file)
  if (there !== undefined && there !== dropIn.text && there !== dropIn.before) return 'changed'
  step()
  if (dropIn.before !== null) writeFileAtomicSync(file, dropIn.before, { mode: 0o644 })
  else rmSync(file, { force: true })
  if (dropIn.madeFolder && namesIn(dirname(file)).length === 0 && existsSync(dirname(file))) rmdirSync(dirname(file))
  return dropIn.before === null ? 'removed' : 'restored'
}

/** While an agent runs it would only write it again; before flannel's own rules are back pods need it. */
async function returnTable(isAgentRunning: boolean): Promise<Returned['table']> {
  const ours = { family: 'inet', name: MASQUERADE_TABLE } as const
  using nft = openNft()
  const rules = await readRules()
  if (!isAgentRunning && rules.length > 0) return deleteTable(nft, ours) ? 'removed' : 'none'
  return getTable(nft, ours) === undefined ? 'none' : 'left'
}

/** Files that a kill has left half-written beside this one. */
function sweep(path: string): void {
  for (const name of namesIn(dirname(path)))
    if (name.startsWith(`${basename(path)}.`) && name.endsWith('.tmp'))
      rmSync(join(dirname(path), name), { force: true })
}

function textAt(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
