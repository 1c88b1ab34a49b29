/** From the model to nft's language: one transaction that makes the kernel's table the wanted one. Pure. */

import { keyLength } from './datatype.ts'
import { NftError } from './error.ts'
import { checkRule, identifier, isIdentifier, quoteComment, quoteInterface } from './quote.ts'
import type { Chain, ChainBase, Rule, SetDeclaration, SetFlag, Table, TableRef } from './table.ts'

/** What the kernel's table holds now, as far as it decides how to change it. */
export interface Existing {
  readonly sets: readonly ExistingSet[]
  readonly chains: readonly ExistingChain[]
}

export type ExistingSet = Pick<SetDeclaration, 'name' | 'data' | 'flags' | 'size' | 'timeout'> & {
  readonly handle: bigint
  /** Undefined when Heddle cannot name its types: then it is none of ours. */
  readonly key: SetDeclaration['key'] | undefined
}

export type ExistingChain = Pick<Chain, 'name' | 'base'> & { readonly handle: bigint }

/**
 * The text for `nft -f -`. Applied, it leaves exactly the model's chains, rules and sets in the table, in one step: no packet meets a table without its rules.
 * Elements stay in every set and map whose declaration did not change; the others are made anew and empty. Without `existing` the table must not exist
 * or hold nothing that the model does not.
 * A chain that elements of a surviving map still jump to cannot go: delete those elements first, else the kernel refuses with EBUSY and nothing changes.
 */
export function renderTable(table: Table, existing: Existing = { sets: [], chains: [] }): string {
  const ref = renderRef(table)
  const lines: string[] = []
  const add = (line: string): void => void lines.push(line)

  checkUnique(table)
  add(`add table ${ref}${table.comment === undefined ? '' : ` { comment ${quoteComment(table.comment)}; }`}`)
  add(`flush table ${ref}`)
  for (const seen of goingSets(table, existing)) add(`delete ${kindOf(seen)} ${ref} ${named(seen)}`)
  for (const seen of goingChains(table, existing)) add(`delete chain ${ref} ${named(seen)}`)
  // Chains before sets and rules: rules may name any chain, and verdicts too.
  for (const chain of table.chains) add(renderChain(ref, chain))
  for (const set of table.sets) add(renderSet(ref, set))
  for (const chain of table.chains) {
    for (const rule of chain.rules) add(`add rule ${ref} ${chain.name} ${renderRule(rule)}`)
  }
  return `${lines.join('\n')}\n`
}

/** The text that removes a table with all it holds, and does nothing when there is none. Like `nft delete table`. */
export const renderDelete = (table: TableRef): string => {
  const ref = renderRef(table)
  return `add table ${ref}\ndelete table ${ref}\n`
}

const renderRef = (table: TableRef): string => `${table.family} ${identifier(table.name)}`

const kindOf = (set: Pick<SetDeclaration, 'data'>): 'set' | 'map' => (set.data === undefined ? 'set' : 'map')

/** Others may have given names that Heddle would not: those objects go by their handle. */
const named = ({ name, handle }: { readonly name: string; readonly handle: bigint }): string =>
  isIdentifier(name) ? name : `handle ${handle}`

function checkUnique(table: Table): void {
  for (const names of [table.chains.map(({ name }) => name), table.sets.map(({ name }) => name)]) {
    const twice = names.find((name, i) => names.indexOf(name) !== i)
    if (twice !== undefined)
      throw new NftError('bad-name', `table ${table.family} ${table.name} declares ${JSON.stringify(twice)} twice`)
  }
}

const goingSets = (table: Table, existing: Existing): ExistingSet[] =>
  existing.sets.filter((seen) => !table.sets.some((set) => set.name === seen.name && sameDeclaration(set, seen)))

const goingChains = (table: Table, existing: Existing): ExistingChain[] =>
  existing.chains.filter((seen) => !table.chains.some((chain) => chain.name === seen.name && sameBase(chain, seen)))

/** Whether the kernel can keep the set, and its elements, for the declaration. */
export function sameDeclaration(set: SetDeclaration, seen: ExistingSet): boolean {
  return (
    seen.key !== undefined &&
    set.key.join() === seen.key.join() &&
    String(set.data) === String(seen.data) &&
    flagsOf(set).join() === flagsOf(seen).join() &&
    sameSize(set, seen) &&
    (set.timeout ?? 0) === (seen.timeout ?? 0)
  )
}

/** Where a rule updates a set that declares no size, nft declares one. Source: nftables src/evaluate.c, stmt_evaluate_set. */
const sameSize = (set: SetDeclaration, seen: ExistingSet): boolean =>
  (set.size ?? 0) === (seen.size ?? 0) ||
  (set.size === undefined && seen.size === NFT_DYNAMIC_SIZE && set.flags?.includes('dynamic') === true)

const NFT_DYNAMIC_SIZE = 65_535

/** A policy may change in place; type, hook, priority and device may not. */
const sameBase = (chain: Chain, seen: ExistingChain): boolean => placeOf(chain.base) === placeOf(seen.base)

const placeOf = (base: ChainBase | undefined): string =>
  base === undefined ? '' : `${base.type} ${base.hook} ${base.priority} ${base.device ?? ''}`

const flagsOf = (set: Pick<SetDeclaration, 'flags' | 'timeout'>): SetFlag[] => {
  const flags = new Set(set.flags)
  // nft sets it by itself where a timeout is declared.
  if (set.timeout !== undefined) flags.add('timeout')
  return [...flags].sort()
}

function renderChain(ref: string, chain: Chain): string {
  const parts: string[] = []
  if (chain.base !== undefined) parts.push(...renderBase(chain.base))
  if (chain.comment !== undefined) parts.push(`comment ${quoteComment(chain.comment)};`)
  return `add chain ${ref} ${identifier(chain.name)}${parts.length === 0 ? '' : ` { ${parts.join(' ')} }`}`
}

function renderBase(base: ChainBase): string[] {
  if (!Number.isInteger(base.priority) || Math.abs(base.priority) > 0x7fff_ffff)
    throw new NftError('bad-value', `${base.priority} is no priority: it must be a 32-bit whole number`)
  const device = base.device === undefined ? '' : ` device ${quoteInterface(base.device)}`
  return [
    `type ${base.type} hook ${base.hook}${device} priority ${base.priority};`,
    `policy ${base.policy ?? 'accept'};`,
  ]
}

function renderSet(ref: string, set: SetDeclaration): string {
  checkSet(set)
  const data = set.data === undefined ? '' : ` : ${set.data === 'verdict' ? 'verdict' : set.data.join(' . ')}`
  const flags = flagsOf(set)
  const parts = [`type ${set.key.join(' . ')}${data};`]
  if (flags.length > 0) parts.push(`flags ${flags.join(',')};`)
  if (set.timeout !== undefined) parts.push(`timeout ${renderTimeout(set.timeout)};`)
  if (set.size !== undefined) parts.push(`size ${set.size};`)
  if (set.comment !== undefined) parts.push(`comment ${quoteComment(set.comment)};`)
  return `add ${kindOf(set)} ${ref} ${identifier(set.name)} { ${parts.join(' ')} }`
}

function checkSet(set: SetDeclaration): void {
  const bad = (why: string): NftError => new NftError('bad-value', `set ${JSON.stringify(set.name)}: ${why}`)
  if (set.key.length === 0) throw bad('its key has no type')
  // NFT_DATA_VALUE_MAXLEN and NFT_REG32_COUNT; nft itself stops at the same length.
  if (keyLength(set.key) > 64) throw bad('its key is longer than 64 bytes')
  if (set.data !== undefined && set.data !== 'verdict' && (set.data.length === 0 || keyLength(set.data) > 64))
    throw bad('its data must have 1 to 64 bytes')
  for (const [field, value] of [['size', set.size] as const, ['timeout', set.timeout] as const]) {
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 1 || value > 0xffff_ffff))
      throw bad(`its ${field} ${value} is no whole number from 1 to 4294967295`)
  }
}

/** In nft's units; milliseconds where they matter. */
const renderTimeout = (ms: number): string =>
  ms % 1000 === 0 ? `${ms / 1000}s` : `${Math.floor(ms / 1000)}s${ms % 1000}ms`

function renderRule(rule: Rule): string {
  const comment = rule.reason === undefined ? rule.owner : `${rule.owner}: ${rule.reason}`
  return `${checkRule(rule.text)} comment ${quoteComment(comment)}`
}
