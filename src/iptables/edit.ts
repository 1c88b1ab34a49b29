/** Changes of one table, as data; together they are one transaction of `iptables-restore --noflush`. */

import { ruleKey, valueOf, type Rule } from './rule.ts'
import type { TableRules } from './save.ts'
import { quoteWord, writeWords } from './words.ts'

export type Edit =
  /** Like `iptables -N`: refused where it is there already, so that two writers cannot both believe they made it. */
  | { readonly do: 'new-chain' | 'flush' | 'remove-chain'; readonly chain: string }
  /** Like `iptables -A`, `-I` and `-D`. */
  | { readonly do: 'append' | 'insert' | 'delete'; readonly chain: string; readonly rule: Rule }

const LETTER = {
  'new-chain': 'N',
  flush: 'F',
  'remove-chain': 'X',
  append: 'A',
  insert: 'I',
  delete: 'D',
} as const satisfies Record<Edit['do'], string>

/** The text for `iptables-restore --noflush`. Throws `bad-word`. */
export function renderEdits(table: string, edits: readonly Edit[]): string {
  const lines = edits.map((edit) => {
    const head = `-${LETTER[edit.do]} ${quoteWord(edit.chain)}`
    return 'rule' in edit ? `${head} ${writeWords(edit.rule)}` : head
  })
  return ['*' + table, ...lines, 'COMMIT', ''].join('\n')
}

/** The chains that are not there yet. */
export const ensureChains = (seen: TableRules, chains: readonly string[]): readonly Edit[] =>
  chains.filter((chain) => !seen.hasChain(chain)).map((chain) => ({ do: 'new-chain', chain }))

/** A rule anywhere in its chain, once: added at the end, or at the beginning, where it is missing. */
export const ensureRule = (seen: TableRules, chain: string, rule: Rule, at: 'first' | 'last'): readonly Edit[] =>
  seen.has(chain, rule) ? [] : [{ do: at === 'first' ? 'insert' : 'append', chain, rule }]

/** A chain with exactly these rules. Nothing where it has them already. */
export function fillChain(seen: TableRules, chain: string, rules: readonly Rule[]): readonly Edit[] {
  const before = seen.rulesOf(chain)
  const same = before.length === rules.length && before.every((rule, i) => ruleKey(rule) === ruleKey(rules[i] ?? []))
  if (same && seen.hasChain(chain)) return []
  return [
    ...ensureChains(seen, [chain]),
    ...(before.length > 0 ? [{ do: 'flush', chain } as const] : []),
    ...rules.map((rule): Edit => ({ do: 'append', chain, rule })),
  ]
}

/** All copies of the rules that are like one of these. */
export function deleteRules(seen: TableRules, chain: string, rules: readonly Rule[]): readonly Edit[] {
  const keys = new Set(rules.map(ruleKey))
  return seen
    .rulesOf(chain)
    .filter((rule) => keys.has(ruleKey(rule)))
    .map((rule): Edit => ({ do: 'delete', chain, rule }))
}

/** Chains with their rules, and every rule that leads to one of them. */
export function dropChains(seen: TableRules, chains: ReadonlySet<string>): readonly Edit[] {
  const present = [...chains].filter((chain) => seen.hasChain(chain))
  if (present.length === 0) return []
  const jumps = [...seen.rules()]
    .filter(([chain, rule]) => !chains.has(chain) && chains.has(targetOf(rule) ?? ''))
    .map(([chain, rule]): Edit => ({ do: 'delete', chain, rule }))
  return [
    ...jumps,
    ...present.map((chain): Edit => ({ do: 'flush', chain })),
    ...present.map((chain): Edit => ({ do: 'remove-chain', chain })),
  ]
}

/** The chain or verdict that a rule leads to. */
export const targetOf = (rule: Rule): string | undefined => valueOf(rule, '-j') ?? valueOf(rule, '-g')
