/**
 * Host ports (`portMappings`): connections to a port of the host go to a pod.
 *
 * The structure is always the same (a network with conditions of its own has a table of its own); a mapping is a handful of elements that name their
 * owner. No packet mark is used: whether a connection needs the host's address as its source is read off its conntrack entry.
 *
 * Only destinations that are the host's own are ever looked at (`fib daddr type local`: CVE-2025-67499), and after kube-proxy's chains, so that no
 * service is shadowed (CVE-2019-9946). Packets from or to 127.0.0.0/8 that come from outside are dropped first, because the way of a connection from 127.0.0.1 to a pod
 * needs `route_localnet`, which takes away the kernel's own protection (CVE-2020-8558).
 */

import { createHash } from 'node:crypto'

import type { IpNetText, IpText } from '#ip/text.ts'
import { formatIp, parseIp } from '#ip/address.ts'
import { formatCidr, networkOf, parseIpNet } from '#ip/prefix.ts'
import { hookPriority, type Chain, type SetDeclaration, type Table } from '#nft/table.ts'
import { OWNED, type OwnedElement } from './owned.ts'

/** Extra matches of a network, in nft's language; '' for none. */
export interface Conditions {
  readonly v4: string
  readonly v6: string
}

export const TABLE_NAME = 'heddle_cni_hostports'

const PROTOCOLS = 'meta l4proto { tcp, udp, sctp }'

function setsOf(family: 4 | 6): readonly SetDeclaration[] {
  const ip = family === 4 ? 'ipv4_addr' : 'ipv6_addr'
  return [
    { name: `any${family}`, key: ['inet_proto', 'inet_service'], data: [ip, 'inet_service'], comment: OWNED },
    { name: `one${family}`, key: [ip, 'inet_proto', 'inet_service'], data: [ip, 'inet_service'], comment: OWNED },
    // Protocol, port of the host, address and port of the pod.
    { name: `snat${family}`, key: ['inet_proto', 'inet_service', ip, 'inet_service'], comment: OWNED },
    { name: `masq${family}`, key: ['inet_proto', 'inet_service', ip, 'inet_service'], comment: OWNED },
    // Sources that reach the pod without the host, so that its answers would bypass the host, and the pod.
    { name: `near${family}`, key: [ip, ip], flags: ['interval'], comment: OWNED },
  ]
}

const rule = (text: string, reason: string) => ({ text, owner: 'portmap', reason })

function dnatRules(family: 4 | 6, condition: string) {
  const ip = family === 4 ? 'ip' : 'ip6'
  const when = `meta nfproto ipv${family} ${PROTOCOLS} ${condition}`.trimEnd()
  return [
    rule(`${when} dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @one${family}`, 'ports of one address'),
    rule(`${when} dnat ${ip} to meta l4proto . th dport map @any${family}`, 'ports of every address'),
  ]
}

function snatRules(family: 4 | 6) {
  const ip = family === 4 ? 'ip' : 'ip6'
  const mapping = `meta l4proto . ct original proto-dst . ${ip} daddr . th dport`
  const when = `ct status dnat meta nfproto ipv${family} ${PROTOCOLS}`
  return [
    rule(`${when} ${mapping} @masq${family} masquerade`, 'every source'),
    rule(
      `${when} ${ip} saddr . ${ip} daddr @near${family} ${mapping} @snat${family} masquerade`,
      "the pod's neighbours and itself",
    ),
    ...(family === 4
      ? [rule(`${when} ip saddr 127.0.0.0/8 ${mapping} @snat4 masquerade`, 'the host over 127.0.0.1')]
      : []),
  ]
}

const base = (hook: 'prerouting' | 'output' | 'postrouting', priority: number): NonNullable<Chain['base']> => ({
  type: 'nat',
  hook,
  priority,
})

/** One later than kube-proxy's. */
const DNAT_PRIORITY = hookPriority.dstnat + 1

const made = new Map<string, Table>()
const MAX_MADE = 64

/** The table of networks with these conditions; the same object each time, by which its text is known again without being made again. */
export function hostPortTable(conditions: Conditions): Table {
  const key = conditions.v4 === '' && conditions.v6 === '' ? '' : JSON.stringify([conditions.v4, conditions.v6])
  const known = made.get(key)
  if (known !== undefined) return known
  if (made.size >= MAX_MADE) made.clear()
  const table = makeTable(conditions)
  made.set(key, table)
  return table
}

function makeTable(conditions: Conditions): Table {
  const plain = conditions.v4 === '' && conditions.v6 === ''
  const suffix = plain ? '' : `_${createHash('sha256').update(JSON.stringify(conditions)).digest('hex').slice(0, 12)}`
  return {
    family: 'inet',
    name: `${TABLE_NAME}${suffix}`,
    comment: 'host ports of CNI attachments (portmap)',
    sets: [...setsOf(4), ...setsOf(6)],
    chains: [
      {
        name: 'martians',
        base: { type: 'filter', hook: 'prerouting', priority: hookPriority.raw },
        rules: [
          rule('iifname != "lo" ip daddr 127.0.0.0/8 drop', '127.0.0.0/8 is only for the host itself'),
          rule('iifname != "lo" ip saddr 127.0.0.0/8 drop', '127.0.0.0/8 is only for the host itself'),
        ],
      },
      { name: 'hostports', rules: [...dnatRules(4, conditions.v4), ...dnatRules(6, conditions.v6)] },
      {
        name: 'prerouting',
        base: base('prerouting', DNAT_PRIORITY),
        rules: [rule('fib daddr type local goto hostports', 'to an address of the host')],
      },
      {
        name: 'output',
        base: base('output', DNAT_PRIORITY),
        rules: [rule('fib daddr type local goto hostports', 'to an address of the host')],
      },
      {
        name: 'postrouting',
        base: base('postrouting', hookPriority.srcnat),
        rules: [...snatRules(4), ...snatRules(6)],
      },
    ],
  }
}

export type Protocol = 'tcp' | 'udp' | 'sctp'

const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }

/** A mapping with the pod's address that serves it. */
export interface HostPort {
  readonly protocol: Protocol
  readonly hostPort: number
  /** Undefined for every address of the host. */
  readonly hostIp?: IpText | undefined
  readonly containerPort: number
  readonly address: IpNetText
}

/** `snat`: neighbours and the host itself come with the host's address; `all`: everybody does. */
export type SourceNat = 'none' | 'snat' | 'all'

export function elementsOf(
  { protocol, hostPort, hostIp, containerPort, address }: HostPort,
  nat: SourceNat,
): readonly OwnedElement[] {
  const net = parseIpNet(address)
  const { family } = net.ip
  const ip = formatIp(net.ip)
  const number = PROTOCOL_NUMBER[protocol]
  const data = [ip, containerPort]
  const dnat: OwnedElement =
    hostIp === undefined
      ? { set: `any${family}`, key: [number, hostPort], data }
      : { set: `one${family}`, key: [formatIp(parseIp(hostIp)), number, hostPort], data }
  const mapping = [number, hostPort, ip, containerPort]
  if (nat === 'none') return [dnat]
  if (nat === 'all') return [{ set: `masq${family}`, key: mapping }, dnat]
  const near: OwnedElement = { set: `near${family}`, key: [formatCidr(networkOf(net)), ip] }
  // The mapping itself last: when it takes effect, its answers find their way.
  return [near, { set: `snat${family}`, key: mapping }, dnat]
}
