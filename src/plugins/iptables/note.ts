/**
 * What an attachment has in iptables, as data: the changes that make it from nothing. By that it can be put back when somebody flushed a table or took a rule out. Pure.
 */

import type { ChainsNote } from '#cni/attachment/record.ts'
import { deleteRules, dropChains, fillChain, targetOf, type Edit } from '#iptables/edit.ts'
import { ruleKey, type Rule } from '#iptables/rule.ts'
import { TableRules } from '#iptables/save.ts'

type Table = ChainsNote['table']
type NotedEdit = ChainsNote['edits'][number]
type Placed = Extract<NotedEdit, { rule: unknown }>

/** For `PluginHost.chains`: what a plan would do in an empty table. `own` are the chains that are the attachment's alone. */
export function noteOf(
  family: ChainsNote['family'],
  table: Table,
  plan: (seen: TableRules) => readonly Edit[],
  own: readonly string[] = [],
): ChainsNote {
  const edits = plan(TableRules.parse('', table)).flatMap((edit): readonly NotedEdit[] => {
    if (edit.do === 'new-chain') return [{ do: edit.do, chain: edit.chain }]
    if (edit.do === 'append' || edit.do === 'insert') return [{ do: edit.do, chain: edit.chain, rule: [...edit.rule] }]
    return []
  })
  return { family, table, own: [...own], edits }
}

export interface Restoration {
  readonly edits: readonly Edit[]
  /** For each note the rules that were missing. */
  readonly put: readonly (readonly Placed[])[]
}

/**
 * What is missing of the notes, which come oldest first and are of one table. A rule that belongs at the top of its chain and was gone pushes those of newer notes up again: where two
 * attachments want one port, the newer has it afterwards too.
 */
export function planRestore(seen: TableRules, notes: readonly ChainsNote[]): Restoration {
  // Two attachments of one container share a chain: the newer has filled it.
  const ownerOf = new Map(notes.flatMap((note) => note.own.map((chain) => [chain, note] as const)))
  const chains = new Set(seen.chains)
  const present = new Map(seen.chains.map((chain) => [chain, new Set(seen.rulesOf(chain).map(ruleKey))]))
  const done = new Set<string>()
  const disturbed = new Set<string>()
  const edits: Edit[] = []
  const put = notes.map((note): readonly Placed[] => {
    const missing: Placed[] = []
    for (const edit of note.edits) {
      const { chain } = edit
      if (note.own.includes(chain)) {
        if (edit.do !== 'new-chain' || ownerOf.get(chain) !== note) continue
        const content = placedIn(note, chain)
        const fill = fillChain(
          seen,
          chain,
          content.map(({ rule }) => rule),
        )
        edits.push(...fill)
        if (fill.length > 0) missing.push(...content)
      } else if (edit.do === 'new-chain') {
        if (!chains.has(chain)) edits.push(edit)
        chains.add(chain)
      } else {
        const key = ruleKey(edit.rule)
        const place = `${chain} ${key}`
        if (done.has(place)) continue
        done.add(place)
        const isThere = present.get(chain)?.has(key) === true
        if (isThere && (edit.do === 'append' || !disturbed.has(chain))) continue
        if (isThere) edits.push(...deleteRules(seen, chain, [edit.rule]))
        else missing.push(edit)
        edits.push(edit)
        if (edit.do === 'insert') disturbed.add(chain)
      }
    }
    return missing
  })
  return { edits, put }
}

const placedIn = (note: ChainsNote, chain: string): readonly Placed[] =>
  note.edits.filter((edit): edit is Placed => edit.do !== 'new-chain' && edit.chain === chain)

/** An attachment that has left while its rules were put back. */
export interface Gone {
  readonly note: ChainsNote
  readonly put: readonly Placed[]
}

/** Takes away again what was put there for them, but for what others want too. */
export function planTakeBack(seen: TableRules, gone: readonly Gone[], left: readonly ChainsNote[]): readonly Edit[] {
  const kept = new Set(left.flatMap(({ own }) => own))
  const chains = new Set(
    gone.flatMap(({ note, put }) => (put.length > 0 ? note.own : [])).filter((one) => !kept.has(one)),
  )
  const wanted = new Set(left.flatMap(({ edits }) => edits.flatMap((edit) => placeOf(edit) ?? [])))
  const rules = new Map<string, Rule[]>()
  for (const { note, put } of gone) {
    for (const edit of put) {
      const { chain, rule } = edit
      const isElsewhere = note.own.includes(chain) || chains.has(targetOf(rule) ?? '')
      if (!isElsewhere && !wanted.has(placeOf(edit) ?? '')) rules.set(chain, [...(rules.get(chain) ?? []), rule])
    }
  }
  return [...dropChains(seen, chains), ...[...rules].flatMap(([chain, some]) => deleteRules(seen, chain, some))]
}

const placeOf = (edit: NotedEdit): string | undefined =>
  edit.do === 'new-chain' ? undefined : `${edit.chain} ${ruleKey(edit.rule)}`
