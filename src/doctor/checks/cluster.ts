/** What does not fit between this node and the others. */

import { tryParseIp } from '#ip/address.ts'
import { contains, parseCidr } from '#ip/prefix.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { nameOf, ownNode, podNetworks, type Facts } from '../facts.ts'
import { fine, unknown, wrong, type Finding } from '../finding.ts'

/** VirtualBox and Vagrant give every machine this address on its first interface, behind a NAT of its own. */
const NAT = parseCidr('10.0.2.0/24')

/** The interface that packets to other nodes leave by. */
export function underlay(facts: Facts): readonly Finding[] {
  const route = facts.routes.find(({ dst, table }) => dst === '0.0.0.0/0' && table === 254)
  const dev = nameOf(facts, route?.oif)
  const published = ownNode(facts)?.annotations.publicIp
  const own = facts.addrs.map(({ address }) => address.replace(/\/.*/, ''))
  if (published !== undefined && !own.includes(published) && !behindNat(facts)) {
    const evidence = [`this Node publishes ${published}`, `addresses here: ${own.join(', ')}`]
    return [wrong('interface', 'warning', { code: 'published-address-missing', address: published }, evidence)]
  }
  if (route === undefined || dev === undefined) {
    if (published !== undefined) return [fine('interface', `this Node publishes ${published}`)]
    return [wrong('interface', 'warning', { code: 'no-default-route' }, ['ip route: no default'])]
  }
  const address = published ?? firstAddress(facts, route.oif)
  const ip = address === undefined ? undefined : tryParseIp(address)
  if (address !== undefined && ip?.family === 4 && contains(NAT, ip)) {
    const evidence = [`default dev ${dev}`, `address ${address}`]
    return [wrong('interface', 'problem', { code: 'interface-behind-nat', address }, evidence)]
  }
  return [fine('interface', `default dev ${dev}`, ...(address === undefined ? [] : [`address ${address}`]))]
}

/** Somebody said which address to publish. */
function behindNat(facts: Facts): boolean {
  const annotations = ownNode(facts)?.annotations
  return annotations?.publicIpOverwrite !== undefined
}

const firstAddress = ({ addrs }: Facts, oif: number | undefined): string | undefined =>
  addrs.find(({ index, address }) => index === oif && !address.includes(':'))?.address.replace(/\/.*/, '')

/** Two nodes with one address, or one subnet, take each other's packets. */
export function sharedAddresses({ cluster }: Facts): readonly Finding[] {
  if (typeof cluster === 'string') return [unknown('addresses', cluster)]
  const shared = (of: (node: NodeView) => readonly string[]): (readonly [string, string])[] => {
    const holders = new Map<string, string[]>()
    for (const node of cluster.nodes)
      for (const text of of(node)) holders.set(text, [...(holders.get(text) ?? []), node.name])
    return [...holders].flatMap(([text, names]) => (names.length > 1 ? [[text, names.join(', ')] as const] : []))
  }
  const addresses = shared(({ annotations }) =>
    [annotations.publicIp, annotations.publicIpv6].filter((ip) => ip !== undefined),
  )
  const subnets = shared(({ podCidrs }) => podCidrs)
  const found = [
    ...addresses.map(([address, nodes]) =>
      wrong('addresses', 'problem', { code: 'address-shared', address, nodes }, [`${address}: ${nodes}`]),
    ),
    ...subnets.map(([subnet, nodes]) =>
      wrong('addresses', 'problem', { code: 'subnet-shared', subnet, nodes }, [`${subnet}: ${nodes}`]),
    ),
  ]
  return found.length > 0
    ? found
    : [fine('addresses', `${cluster.nodes.length} nodes, each with its own addresses and subnets`)]
}

/** At most so many nodes are told one by one. */
const MOST = 10

/** Every other node's subnet must have a way. */
export function peers(facts: Facts): readonly Finding[] {
  const { cluster, routes } = facts
  if (typeof cluster === 'string') return [unknown('peers', cluster)]
  if (podNetworks(facts).length === 0) return [unknown('peers', 'the pod network is not known')]
  const ways = new Set(routes.filter(({ table }) => table === 254).map(({ dst }) => String(dst)))
  const wide = routes.filter(({ dst, table }) => table === 254 && podNetworks(facts).some((network) => network === dst))
  const others = cluster.nodes.filter(({ name, annotations }) => name !== cluster.node && annotations.marker === 'true')
  const missing = others.flatMap((node) =>
    node.podCidrs
      .filter((subnet) => !ways.has(subnet) && wide.length === 0)
      .map((subnet) => ({ node: node.name, subnet })),
  )
  if (missing.length === 0) return [fine('peers', `routes to ${others.length} other nodes`)]
  return missing
    .slice(0, MOST)
    .map(({ node, subnet }) =>
      wrong('peers', 'problem', { code: 'peer-without-route', node, subnet }, [`ip route show ${subnet}: nothing`]),
    )
}

/** Certificates and leases tell the time: half a minute apart they begin to fail. */
export function clock({ cluster }: Facts): readonly Finding[] {
  if (typeof cluster === 'string') return [unknown('clock', cluster)]
  if (cluster.ahead === undefined) return [unknown('clock', 'the API server does not tell the time')]
  const seconds = (cluster.ahead / 1000).toFixed(1)
  const evidence = `${seconds} s ahead of the API server`
  if (Math.abs(cluster.ahead) < 30_000) return [fine('clock', evidence)]
  return [wrong('clock', 'problem', { code: 'clock-differs', seconds }, [evidence], ['timedatectl set-ntp true'])]
}
