/**
 * Host ports by iptables (portmap's `backend: iptables`): the reference plugin's chains, rules and comments in the table nat.
 *
 *     PREROUTING, OUTPUT    to an address of the host            → CNI-HOSTPORT-DNAT
 *     CNI-HOSTPORT-DNAT     to ports of a container, 15 a rule   → CNI-DN-…
 *     CNI-DN-…              for each mapping: mark what needs the host's address as its source, then DNAT
 *     POSTROUTING, first    → CNI-HOSTPORT-MASQ: masquerade what bears the mark
 *
 * Beyond the reference: the newest container with a port gets it, as with the backend nftables; the chain's entry names only ports that the chain maps; and the table raw drops packets
 * from or to 127.0.0.0/8 that come from outside, because `route_localnet` takes away the kernel's own protection (CVE-2020-8558).
 */

import { formatIp } from '#ip/address.ts'
import { formatCidr, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { Family } from '#ip/text.ts'
import { deleteRules, ensureChains, ensureRule, fillChain, type Edit } from '#iptables/edit.ts'
import { ruleKey, valueOf, type Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import type { HostPort, SourceNat } from '../rules/host-ports.ts'
import { referenceChain, referenceComment } from './reference.ts'

export interface IptablesPortOptions {
  readonly nat: SourceNat
  /** Bit of the packet mark that asks for masquerading, 0 to 31. */
  readonly markBit: number
  /** A chain of somebody else that sets a mark, which is masqueraded elsewhere (`KUBE-MARK-MASQ`). */
  readonly setMarkChain?: string | undefined
  /** Extra matches, in iptables' language. */
  readonly conditions: Readonly<Record<Family, readonly string[]>>
}

export const TOP_CHAIN = 'CNI-HOSTPORT-DNAT'
const SET_MARK_CHAIN = 'CNI-HOSTPORT-SETMARK'
const MASQUERADE_CHAIN = 'CNI-HOSTPORT-MASQ'

const TO_HOST: Rule = ['-m', 'addrtype', '--dst-type', 'LOCAL', '-j', TOP_CHAIN]
const TO_MASQUERADE: Rule = ['-m', 'comment', '--comment', 'CNI portfwd requiring masquerade', '-j', MASQUERADE_CHAIN]

/** Ports that one `multiport` takes. Source: linux/netfilter/xt_multiport.h, XT_MULTI_PORTS. */
const MAX_PORTS = 15

const markOf = (bit: number): string => `0x${(2 ** bit).toString(16)}/0x${(2 ** bit).toString(16)}`

export const portChain = (network: string, containerId: string): string => referenceChain(network, containerId, 'DN-')

/** The container's chain: for each mapping the marks, then the translation. */
export function portRules(ports: readonly HostPort[], family: Family, options: IptablesPortOptions): readonly Rule[] {
  const mark = options.setMarkChain ?? SET_MARK_CHAIN
  return ports.flatMap(({ protocol, hostPort, hostIp, containerPort, address }): readonly Rule[] => {
    const net = parseIpNet(address)
    const ip = formatIp(net.ip)
    const when = ['-p', protocol, '--dport', String(hostPort), ...(hostIp === undefined ? [] : ['-d', hostIp])]
    const near = options.nat === 'all' ? (family === 4 ? '0.0.0.0/0' : '::/0') : formatCidr(networkOf(net))
    const to = `${family === 4 ? ip : `[${ip}]`}:${containerPort}`
    return [
      ...(options.nat === 'none' ? [] : [[...when, '-s', near, '-j', mark]]),
      ...(options.nat === 'snat' && family === 4 ? [[...when, '-s', '127.0.0.1/32', '-j', mark]] : []),
      [...when, '-j', 'DNAT', '--to-destination', to],
    ]
  })
}

/** The rules of CNI-HOSTPORT-DNAT that lead to the container's chain. */
export function entryRules(
  ports: readonly HostPort[],
  network: string,
  containerId: string,
  condition: readonly string[],
): readonly Rule[] {
  const chain = portChain(network, containerId)
  const comment = referenceComment(network, containerId, 'dnat ')
  const byProtocol = Map.groupBy(ports, ({ protocol }) => protocol)
  return [...byProtocol.keys()].toSorted().flatMap((protocol) => {
    const numbers = [...new Set((byProtocol.get(protocol) ?? []).map(({ hostPort }) => hostPort))]
    const parts = Array.from({ length: Math.ceil(numbers.length / MAX_PORTS) }, (_, i) =>
      numbers.slice(i * MAX_PORTS, (i + 1) * MAX_PORTS),
    )
    const head = ['-p', protocol, '-m', 'comment', '--comment', comment, '-m', 'multiport', '--dports']
    return parts.map((part): Rule => [...head, part.join(','), ...condition, '-j', chain])
  })
}

/** What maps these ports, as changes of the table nat. */
export function planPorts(
  seen: TableRules,
  ports: readonly HostPort[],
  family: Family,
  { network, containerId }: { readonly network: string; readonly containerId: string },
  options: IptablesPortOptions,
): readonly Edit[] {
  const chain = portChain(network, containerId)
  const entries = entryRules(ports, network, containerId, options.conditions[family])
  const wanted = new Set(entries.map(ruleKey))
  const outdated = seen.rulesOf(TOP_CHAIN).filter((rule) => valueOf(rule, '-j') === chain && !wanted.has(ruleKey(rule)))
  return [
    ...(options.nat !== 'none' && options.setMarkChain === undefined ? planMarks(seen, options.markBit) : []),
    ...ensureChains(seen, [TOP_CHAIN]),
    // Behind kube-proxy's, so that no service is shadowed (CVE-2019-9946).
    ...ensureRule(seen, 'PREROUTING', TO_HOST, 'last'),
    ...ensureRule(seen, 'OUTPUT', TO_HOST, 'last'),
    ...fillChain(seen, chain, portRules(ports, family, options)),
    ...deleteRules(seen, TOP_CHAIN, outdated),
    ...entries.toReversed().flatMap((entry) => ensureRule(seen, TOP_CHAIN, entry, 'first')),
  ]
}

function planMarks(seen: TableRules, bit: number): readonly Edit[] {
  const mark = markOf(bit)
  const comment = ['-m', 'comment', '--comment', 'CNI portfwd masquerade mark']
  return [
    ...ensureChains(seen, [SET_MARK_CHAIN, MASQUERADE_CHAIN]),
    ...ensureRule(seen, SET_MARK_CHAIN, [...comment, '-j', 'MARK', '--set-xmark', mark], 'last'),
    ...ensureRule(seen, MASQUERADE_CHAIN, ['-m', 'mark', '--mark', mark, '-j', 'MASQUERADE'], 'last'),
    // First, or the rules of bridge and ptp would decide before.
    ...ensureRule(seen, 'POSTROUTING', TO_MASQUERADE, 'first'),
  ]
}

const GUARD = ['-m', 'comment', '--comment', 'CNI portfwd: 127.0.0.0/8 is for the host itself', '-j', 'DROP']

/** Keeps 127.0.0.0/8 closed to the outside: changes of the table raw, which is before every translation. */
export const planGuard = (seen: TableRules): readonly Edit[] =>
  ['-d', '-s'].flatMap((which) =>
    ensureRule(seen, 'PREROUTING', ['!', '-i', 'lo', which, '127.0.0.0/8', ...GUARD], 'first'),
  )

/** The first mapping that the table does not lead to its pod any more. */
export function missingPort(
  seen: TableRules,
  ports: readonly HostPort[],
  family: Family,
  { network, containerId }: { readonly network: string; readonly containerId: string },
  options: IptablesPortOptions,
): HostPort | undefined {
  const chain = portChain(network, containerId)
  const isReached =
    seen.has('PREROUTING', TO_HOST) &&
    seen.has('OUTPUT', TO_HOST) &&
    entryRules(ports, network, containerId, options.conditions[family]).every((entry) => isEntered(seen, entry))
  return ports.find((port) => {
    const rules = portRules([port], family, options)
    return !isReached || !rules.every((rule) => seen.has(chain, rule))
  })
}

/** The reference names the ports of the other family too, so that its entries are the same but for the list. */
function isEntered(seen: TableRules, entry: Rule): boolean {
  const [chain, protocol] = [valueOf(entry, '-j'), valueOf(entry, '-p')]
  const ports = valueOf(entry, '--dports')?.split(',') ?? []
  const named = seen
    .rulesOf(TOP_CHAIN)
    .filter((rule) => valueOf(rule, '-j') === chain && valueOf(rule, '-p') === protocol)
    .flatMap((rule) => valueOf(rule, '--dports')?.split(',') ?? [])
  return ports.every((port) => named.includes(port))
}
