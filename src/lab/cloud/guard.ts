/**
 * Port security: what a VM sends must bear its port's MAC and one of the port's addresses or address pairs. As rules for the bridges; a pure function. Security groups
 * are left out: every port lets everything in.
 */

import { parseIpNet } from '#ip/prefix.ts'
import { bitsOf } from '#ip/address.ts'
import type { Chain, Rule, Table } from '#nft/table.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { tapName } from './wiring.ts'

/** A MAC with an address or a network that it may send from. */
export interface Allowed {
  readonly mac: string
  readonly from: string
}

/** Neutron's filter stands in the namespace `fabric`: `nft list table bridge neutron_port_security`. */
export const GUARD = { family: 'bridge', name: 'neutron_port_security' } as const
/** Before anything else of bridges. Source: linux/netfilter_bridge.h, NF_BR_PRI_NAT_DST_BRIDGED. */
const PRIORITY = -300

export interface Guarded {
  readonly port: Port
  readonly allowed: readonly Allowed[]
}

/** Everything that a port may send from, once each. */
export function allowedOf(port: Port): Allowed[] {
  const own = port.fixed_ips.map(({ ip_address }): Allowed => ({ mac: port.mac_address, from: ip_address }))
  const pairs = port.allowed_address_pairs.map(({ ip_address, mac_address }): Allowed => {
    const net = parseIpNet(ip_address)
    const isOne = net.length === bitsOf(net.ip.family)
    return { mac: mac_address ?? port.mac_address, from: isOne ? (ip_address.split('/')[0] ?? '') : ip_address }
  })
  return [...new Map([...own, ...pairs].map((one) => [`${one.mac} ${one.from}`, one])).values()]
}

/** The table for these ports; those without port security may send what they like. */
export function guardTable(ports: readonly Guarded[]): Table {
  const guarded = ports.filter(({ port }) => port.port_security_enabled)
  const entry: Chain = {
    name: 'from_ports',
    base: { type: 'filter', hook: 'prerouting', priority: PRIORITY },
    rules: guarded.map(({ port }) => rule(port, `meta iifname "${tapName(port.id)}" jump ${chainName(port.id)}`)),
  }
  return { ...GUARD, sets: [], chains: [...guarded.map(chainOf), entry] }
}

const chainName = (port: string): string => `port_${port.replaceAll('-', '_')}`
const rule = (port: Port, text: string): Rule => ({
  text,
  owner: 'port-security',
  reason: `port ${port.name || port.id}`,
})

function chainOf({ port, allowed }: Guarded): Chain {
  const v4 = allowed.filter(({ from }) => !from.includes(':'))
  const v6 = allowed.filter(({ from }) => from.includes(':'))
  const may = (field: string, list: readonly Allowed[]): string[] => {
    const single = list.filter(({ from }) => !from.includes('/')).map(({ mac, from }) => `${mac} . ${from}`)
    const nets = list.filter(({ from }) => from.includes('/'))
    return [
      ...(single.length === 0 ? [] : [`ether saddr . ${field} { ${single.join(', ')} } accept`]),
      // A set cannot hold networks that overlap, and pairs may.
      ...nets.map(({ mac, from }) => `ether saddr ${mac} ${field} ${from} accept`),
    ]
  }
  return {
    name: chainName(port.id),
    rules: [
      ...may('arp saddr ip', v4),
      'ether type arp drop',
      ...may('ip saddr', v4),
      // A guest that asks for an address has none yet.
      `ether saddr ${port.mac_address} ip saddr 0.0.0.0 udp dport 67 accept`,
      'ether type ip drop',
      ...may('ip6 saddr', v6),
      `ether saddr ${port.mac_address} ip6 saddr { ::, fe80::/10 } accept`,
      'ether type ip6 drop',
      `ether saddr ${port.mac_address} accept`,
      'drop',
    ].map((text) => rule(port, text)),
  }
}
