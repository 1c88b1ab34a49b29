/**
 * flannel's rules in iptables, with its chains, comments and order, so that a node can be moved between the two. Pure.
 *
 * Source: flannel pkg/trafficmngr/iptables/iptables.go. Beyond it: chains that are not wanted any more are removed with the rules that lead to them, from the table
 * they are in; and what is in place is not touched.
 */

import type { Family } from '#ip/address.ts'
import { dropChains, ensureRule, fillChain, type Edit } from '#iptables/edit.ts'
import { ruleKey, type Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import type { Local, LocalFamily } from './local.ts'

/** A chain of flannel's, and where it is reached from. */
export interface FlannelChain {
  readonly table: 'nat' | 'filter'
  readonly chain: 'FLANNEL-POSTRTG' | 'FLANNEL-FWD'
  /** The kernel's chain that leads to it, by its last rule. */
  readonly from: 'POSTROUTING' | 'FORWARD'
  readonly jump: Rule
  /** Undefined: it is not to be there. */
  readonly rules: readonly Rule[] | undefined
}

const comment = (text: string): Rule => ['-m', 'comment', '--comment', text]
const MASQ = comment('flanneld masq')
const FORWARD = comment('flanneld forward')

const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const satisfies Record<Family, string>

/** kube-proxy's mark on what it masquerades itself. */
const KUBE_MARK = '0x4000/0x4000'

/** Which of flannel's chains one family has, and their rules. */
export function flannelChains(local: Local, family: Family): readonly FlannelChain[] {
  const own = local[family]
  return chainsWith(
    own !== undefined && local.ipMasq ? masqueradeRules(family, own, local.randomFully) : undefined,
    own !== undefined && local.forwardRules ? forwardRules(own) : undefined,
  )
}

const chainsWith = (
  masquerade: readonly Rule[] | undefined,
  forward: readonly Rule[] | undefined,
): readonly FlannelChain[] => [
  {
    table: 'nat',
    chain: 'FLANNEL-POSTRTG',
    from: 'POSTROUTING',
    jump: [...MASQ, '-j', 'FLANNEL-POSTRTG'],
    rules: masquerade,
  },
  { table: 'filter', chain: 'FLANNEL-FWD', from: 'FORWARD', jump: [...FORWARD, '-j', 'FLANNEL-FWD'], rules: forward },
]

/** None of them: what is there of flannel's is to go. */
export const noFlannelChains: readonly FlannelChain[] = chainsWith(undefined, undefined)

function masqueradeRules(family: Family, { network, subnet }: LocalFamily, randomFully: boolean): readonly Rule[] {
  const masquerade = ['-j', 'MASQUERADE', ...(randomFully ? ['--random-fully'] : [])]
  return [
    ['-m', 'mark', '--mark', KUBE_MARK, ...MASQ, '-j', 'RETURN'],
    ['-s', subnet, '-d', network, ...MASQ, '-j', 'RETURN'],
    ['-s', network, '-d', subnet, ...MASQ, '-j', 'RETURN'],
    ['!', '-s', network, '-d', subnet, ...MASQ, '-j', 'RETURN'],
    ['-s', network, '!', '-d', MULTICAST[family], ...MASQ, ...masquerade],
    ['!', '-s', network, '-d', network, ...MASQ, ...masquerade],
  ]
}

const forwardRules = ({ network }: LocalFamily): readonly Rule[] => [
  ['-s', network, ...FORWARD, '-j', 'ACCEPT'],
  ['-d', network, ...FORWARD, '-j', 'ACCEPT'],
]

/** What brings a table to have exactly this of the chain; nothing where it has. */
export function planChain(seen: TableRules, { chain, from, jump, rules }: FlannelChain): readonly Edit[] {
  if (rules === undefined) return dropChains(seen, new Set([chain]))
  const key = ruleKey(jump)
  // Twice is once too often: somebody restored a saved table on top of ours.
  const copies = seen.rulesOf(from).filter((rule) => ruleKey(rule) === key)
  return [
    ...fillChain(seen, chain, rules),
    ...copies.slice(1).map((rule): Edit => ({ do: 'delete', chain: from, rule })),
    ...ensureRule(seen, from, jump, 'last'),
  ]
}
