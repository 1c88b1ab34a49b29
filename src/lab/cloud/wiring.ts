/** From Neutron's database to cables, addresses and routes: a pure function. What the L2 and L3 agents do on real hypervisors and network nodes. */

import { parseIp } from '#ip/address.ts'
import { cidrText, contains, ipNetOf, parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpNetText, IpText, MacText } from '#ip/text.ts'
import { destinationOf } from '#openstack/neutron/router.ts'
import type { Port } from '#openstack/neutron/port.ts'
import { EXTERNAL_BRIDGE } from './plan.ts'
import type { CloudState } from './state.ts'
import type { Database } from './database.ts'

export interface Bridge {
  readonly name: string
  readonly mtu: number
}

/** A port's cable from its network's bridge to somewhere. */
export interface Cable {
  readonly port: string
  /** The end at the bridge. */
  readonly tap: string
  readonly bridge: string
  readonly mac: MacText
  readonly mtu: number
}

/** A network card of a VM. */
export interface Card extends Cable {
  /** The node's name. */
  readonly node: string
  /** The one that the VM was made with, which is its eth0. */
  readonly isFirst: boolean
}

/** A leg of the vrouter: `qr-…` to a tenant's network, `qg-…` to the outside. */
export interface Leg extends Cable {
  readonly name: string
  readonly addresses: readonly IpNetText[]
}

export interface RouterRoute {
  readonly destination: CidrText
  /** Several make a multipath route, as Neutron's agent makes it. */
  readonly nexthops: readonly IpText[]
  readonly leg: string
}

export interface Wiring {
  readonly bridges: readonly Bridge[]
  readonly cards: readonly Card[]
  readonly legs: readonly Leg[]
  readonly routes: readonly RouterRoute[]
}

/** Names of devices have 15 characters: Neutron takes 11 of the id, and so does this. */
const short = (id: string): string => id.slice(0, 11)
export const tapName = (port: string): string => `tap${short(port)}`
const bridgeName = (network: string): string => `brq${short(network)}`

const GATEWAY_OWNER = 'network:router_gateway'
const INTERFACE_OWNER = 'network:router_interface'
const DEFAULT_MTU = 1500
const DEFAULT = cidrText('0.0.0.0/0')

export function wiringOf(database: Database, state: CloudState): Wiring {
  const mtus = new Map(database.networks.map(({ id, mtu }) => [id, mtu === 0 ? DEFAULT_MTU : mtu]))
  const mtuOf = (network: string): number => mtus.get(network) ?? DEFAULT_MTU
  const bridgeOf = (network: string): string => (network === state.external ? EXTERNAL_BRIDGE : bridgeName(network))
  const cable = (port: Port): Cable => ({
    port: port.id,
    tap: tapName(port.id),
    bridge: bridgeOf(port.network_id),
    mac: port.mac_address,
    mtu: mtuOf(port.network_id),
  })
  const nodes = new Map(Object.entries(state.servers).map(([node, { id, port }]) => [id, { node, first: port }]))
  const cards = database.ports.flatMap((port): Card[] => {
    const server = nodes.get(port.device_id)
    if (server === undefined || !port.device_owner.startsWith('compute:') || !port.admin_state_up) return []
    return [{ ...cable(port), node: server.node, isFirst: port.id === server.first }]
  })
  const legs = database.router === undefined ? [] : legsOf(database, state.router, cable)
  const used = new Set([...cards, ...legs].map(({ bridge }) => bridge))
  return {
    bridges: database.networks
      .map(({ id }) => ({ name: bridgeOf(id), mtu: mtuOf(id) }))
      .filter(({ name }) => name !== EXTERNAL_BRIDGE && used.has(name)),
    // The first card of a VM first, so that it becomes eth0.
    cards: cards.toSorted((a, b) => Number(b.isFirst) - Number(a.isFirst) || (a.port < b.port ? -1 : 1)),
    legs,
    routes: database.router === undefined ? [] : routesOf(database, legs),
  }
}

function legsOf(database: Database, router: string, cable: (port: Port) => Cable): Leg[] {
  const lengths = new Map(database.subnets.map(({ id, cidr }) => [id, parseCidr(cidr).length]))
  return database.ports.flatMap((port): Leg[] => {
    if (port.device_id !== router) return []
    const isGateway = port.device_owner === GATEWAY_OWNER
    if (!isGateway && port.device_owner !== INTERFACE_OWNER) return []
    const own = port.fixed_ips.map(({ ip_address, subnet_id }) =>
      ipNetOf(ip_address, lengths.get(subnet_id) ?? (ip_address.includes(':') ? 128 : 32)),
    )
    // The router answers for floating IPs as for its own address.
    const floating = isGateway
      ? database.floatingIps
          .filter((one) => one.router_id === router && one.fixed_ip_address !== undefined)
          .map((one) => ipNetOf(one.floating_ip_address, 32))
      : []
    return [{ ...cable(port), name: `${isGateway ? 'qg' : 'qr'}-${short(port.id)}`, addresses: [...own, ...floating] }]
  })
}

function routesOf({ router, subnets, ports }: Database, legs: readonly Leg[]): RouterRoute[] {
  /** The leg whose own subnet holds a next hop. */
  const legTo = (ip: IpText): string | undefined => {
    const near = subnets.find(({ cidr }) => contains(parseCidr(cidr), parseIp(ip)))
    const port = ports.find(
      ({ id, fixed_ips }) =>
        legs.some((leg) => leg.port === id) && fixed_ips.some(({ subnet_id }) => subnet_id === near?.id),
    )
    return legs.find((leg) => leg.port === port?.id)?.name
  }
  const hops = Map.groupBy(router?.routes ?? [], destinationOf)
  const extra = [...hops].flatMap(([destination, routes]): RouterRoute[] => {
    const nexthops = routes.map(({ nexthop }) => nexthop)
    const leg = nexthops[0] === undefined ? undefined : legTo(nexthops[0])
    return leg === undefined ? [] : [{ destination, nexthops, leg }]
  })
  const outer = router?.external_gateway_info?.network_id
  const gateway = subnets.find(({ network_id, ip_version }) => network_id === outer && ip_version === 4)?.gateway_ip
  const leg = gateway === undefined ? undefined : legTo(gateway)
  if (gateway === undefined || leg === undefined) return extra
  return [{ destination: DEFAULT, nexthops: [gateway], leg }, ...extra]
}
