/**
 * The rules of the backend iptables in the table filter, as the reference plugin has them. Pure.
 *
 *     FORWARD                  first → CNI-ISOLATION-STAGE-1 (with a policy), then → CNI-FORWARD
 *     CNI-FORWARD              first → CNI-ADMIN, the operator's; then two rules for each address of a pod
 *     CNI-ISOLATION-STAGE-1    from a bridge with a policy to somewhere else → STAGE-2
 *     CNI-ISOLATION-STAGE-2    to a bridge with a policy → DROP
 *
 * Source: containernetworking/plugins plugins/meta/firewall/iptables.go, ingresspolicy.go. Beyond it: the rules of a bridge go with the last pod that asked for them, and isolation stays before CNI-FORWARD.
 */

import { deleteRules, ensureChains, ensureRule, type Edit } from '#iptables/edit.ts'
import { ruleKey, type Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import type { CidrText } from '#ip/text.ts'
import type { Guard } from './config.ts'

const FORWARD = 'FORWARD'
const OWN = 'CNI-FORWARD'
const STAGE_1 = 'CNI-ISOLATION-STAGE-1'
const STAGE_2 = 'CNI-ISOLATION-STAGE-2'

const comment = (text: string): Rule => ['-m', 'comment', '--comment', text]
const TO_OWN: Rule = [...comment('CNI firewall plugin rules'), '-j', OWN]
const toAdmin = (chain: string): Rule => [...comment('CNI firewall plugin admin overrides'), '-j', chain]
const SAME_BRIDGE = comment('CNI firewall plugin rules (ingressPolicy: same-bridge)')
const TO_STAGE_1: Rule = [...SAME_BRIDGE, '-j', STAGE_1]
const RETURN: Rule = [...SAME_BRIDGE, '-j', 'RETURN']
const leaving = (bridge: string): Rule => ['-i', bridge, '!', '-o', bridge, ...SAME_BRIDGE, '-j', STAGE_2]
const entering = (bridge: string): Rule => ['-o', bridge, ...SAME_BRIDGE, '-j', 'DROP']
/** The reference's way to isolate a pod, which cuts off all others of the bridge too; ours is in `tables.ts`. */
const within = (bridge: string): Rule => ['-i', bridge, '-o', bridge, ...SAME_BRIDGE, '-j', 'DROP']

/** What is let through for an address. */
const allow = (address: CidrText): readonly Rule[] => [
  ['-d', address, '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT'],
  ['-s', address, '-j', 'ACCEPT'],
]

export interface Wanted {
  readonly addresses: readonly CidrText[]
  readonly adminChain: string
  readonly guard?: Pick<Guard, 'bridge'> | undefined
  /** False where firewalld opens the way, and only the reference's policy is here. */
  readonly opens: boolean
}

export const planAllow = (seen: TableRules, wanted: Wanted): readonly Edit[] => [
  ...(wanted.opens ? planOpen(seen, wanted) : []),
  ...(wanted.guard === undefined ? [] : planIsolation(seen, wanted.guard.bridge)),
  ...planOrder(seen, wanted),
]

const planOpen = (seen: TableRules, { addresses, adminChain }: Wanted): readonly Edit[] => [
  ...ensureChains(seen, [OWN, adminChain]),
  ...ensureRule(seen, FORWARD, TO_OWN, 'first'),
  ...addresses.flatMap(allow).flatMap((rule) => ensureRule(seen, OWN, rule, 'last')),
  ...ensureRule(seen, OWN, toAdmin(adminChain), 'first'),
]

const planIsolation = (seen: TableRules, bridge: string): readonly Edit[] => [
  ...ensureChains(seen, [STAGE_1, STAGE_2]),
  ...ensureRule(seen, STAGE_1, RETURN, 'last'),
  ...ensureRule(seen, STAGE_1, leaving(bridge), 'first'),
  ...ensureRule(seen, STAGE_2, RETURN, 'last'),
  ...ensureRule(seen, STAGE_2, entering(bridge), 'first'),
]

/** The jump to the isolation comes first: what CNI-FORWARD accepts is not looked at again. */
function planOrder(seen: TableRules, { guard, opens }: Wanted): readonly Edit[] {
  const keys = seen.rulesOf(FORWARD).map(ruleKey)
  const isolation = keys.indexOf(ruleKey(TO_STAGE_1))
  const own = keys.indexOf(ruleKey(TO_OWN))
  const first: Edit = { do: 'insert', chain: FORWARD, rule: TO_STAGE_1 }
  if (isolation < 0) return guard === undefined ? [] : [first]
  const isBefore = own < 0 ? !opens : isolation < own
  return isBefore ? [] : [...deleteRules(seen, FORWARD, [TO_STAGE_1]), first]
}

/** Addresses that nobody has any more, and bridges that nobody wants a policy for. */
export interface Unwanted {
  readonly addresses: readonly CidrText[]
  /** No pod with a policy is left on it. */
  readonly open?: string | undefined
  /** No isolated pod is left on it: what the reference may have left goes. */
  readonly shared?: string | undefined
}

export const planForget = (seen: TableRules, { addresses, open, shared }: Unwanted): readonly Edit[] => [
  ...deleteRules(seen, OWN, addresses.flatMap(allow)),
  ...(shared === undefined ? [] : deleteRules(seen, STAGE_1, [within(shared)])),
  ...(open === undefined
    ? []
    : [...deleteRules(seen, STAGE_1, [leaving(open)]), ...deleteRules(seen, STAGE_2, [entering(open)])]),
]

/** The addresses that CNI-FORWARD lets through, whoever put them there. */
export function allowedAddresses(seen: TableRules): readonly string[] {
  return seen.rulesOf(OWN).flatMap((rule) => (rule[0] === '-s' && rule[1] !== undefined ? [rule[1]] : []))
}

/** What is missing, in words; undefined when everything is in place. */
export function missingRule(seen: TableRules, wanted: Wanted): string | undefined {
  if (wanted.opens) {
    if (!seen.has(FORWARD, TO_OWN)) return `the chain ${FORWARD} does not lead to ${OWN} any more`
    if (!seen.has(OWN, toAdmin(wanted.adminChain)))
      return `the chain ${OWN} does not lead to ${wanted.adminChain} any more`
    const address = wanted.addresses.find((one) => !allow(one).every((rule) => seen.has(OWN, rule)))
    if (address !== undefined) return `${address} is not let through any more`
  }
  if (wanted.guard === undefined) return undefined
  const { bridge } = wanted.guard
  const isWhole =
    seen.has(FORWARD, TO_STAGE_1) && seen.has(STAGE_1, leaving(bridge)) && seen.has(STAGE_2, entering(bridge))
  return isWhole ? undefined : `the bridge ${bridge} is not isolated any more`
}
