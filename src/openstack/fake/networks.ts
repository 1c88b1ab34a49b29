import { addToIp, formatIp } from '#ip/address.ts'
import { familyOf, formatCidr, lastOf, parseCidr, sizeOf, tryParseCidr } from '#ip/prefix.ts'
import { baseView, entryOf, sees, textIn, type Answer, type Ask, type Context } from './context.ts'
import { badInput, neutron, noSuchPath, notFound } from './failure.ts'
import { listing } from './listing.ts'
import type { FakeNetwork, FakeSubnet } from './model.ts'

export function networkView(context: Context, network: FakeNetwork): { readonly [key: string]: unknown } {
  return {
    ...baseView(network),
    mtu: network.mtu,
    subnets: context.cloud.subnetsOf(network.id).map(({ id }) => id),
    shared: network.shared,
    'router:external': network.external,
    port_security_enabled: true,
    admin_state_up: true,
    status: 'ACTIVE',
  }
}

export function subnetView(subnet: FakeSubnet): { readonly [key: string]: unknown } {
  return {
    ...baseView(subnet),
    network_id: subnet.network,
    ip_version: subnet.family,
    cidr: subnet.cidr,
    gateway_ip: subnet.gateway,
    enable_dhcp: subnet.dhcp,
    allocation_pools: subnet.pools,
    dns_nameservers: [],
    host_routes: [],
    service_types: [],
    ipv6_address_mode: null,
    ipv6_ra_mode: null,
  }
}

/** `/v2.0/networks…` */
export function networks(context: Context, ask: Ask): Answer {
  const { cloud, clock } = context
  const [, id] = ask.path
  if (id === undefined) {
    if (ask.method === 'GET') {
      const visible = [...cloud.networks.values()].filter((one) => sees(ask.caller, one, one.shared || one.external))
      return listing(
        ask,
        'networks',
        visible.map((one) => networkView(context, one)),
        context.base(),
      )
    }
    const entry = entryOf(ask.body, 'network')
    const [shared, external] = [entry['shared'] === true, entry['router:external'] === true]
    if ((shared || external) && !ask.caller.admin) {
      const rule = `(rule:create_network and rule:create_network:${shared ? 'shared' : 'router:external'})`
      throw neutron(403, 'PolicyNotAuthorized', `${rule} is disallowed by policy`)
    }
    const network = {
      ...cloud.base(ask.caller.project, textIn(entry, 'name') ?? '', textIn(entry, 'description') ?? '', clock.wall()),
      mtu: typeof entry['mtu'] === 'number' ? entry['mtu'] : 1450,
      shared,
      external,
    }
    cloud.networks.set(network.id, network)
    return { status: 201, body: { network: networkView(context, network) } }
  }
  const network = cloud.networks.get(id)
  if (network === undefined || !sees(ask.caller, network, network.shared || network.external))
    throw notFound('Network', id)
  if (ask.method === 'GET') return { status: 200, body: { network: networkView(context, network) } }
  if (ask.method !== 'DELETE') throw noSuchPath()
  const inUse = [...cloud.ports.values()].filter((port) => port.network === id).map((port) => port.id)
  if (inUse.length > 0) {
    const reason = `There are one or more ports still in use on the network, id for these ports is: ${inUse.join(',')}`
    throw neutron(409, 'NetworkInUse', `Unable to complete operation on network ${id}. ${reason}.`)
  }
  for (const subnet of cloud.subnetsOf(id)) cloud.subnets.delete(subnet.id)
  cloud.networks.delete(id)
  return { status: 204 }
}

/** `/v2.0/subnets…` */
export function subnets(context: Context, ask: Ask): Answer {
  const { cloud, clock } = context
  const [, id] = ask.path
  if (id !== undefined) {
    const subnet = cloud.subnets.get(id)
    const network = cloud.networks.get(subnet?.network ?? '')
    if (subnet === undefined || !sees(ask.caller, subnet, network?.shared)) throw notFound('Subnet', id)
    if (ask.method === 'GET') return { status: 200, body: { subnet: subnetView(subnet) } }
    if (ask.method !== 'DELETE') throw noSuchPath()
    if (cloud.taken(id).size > 0) {
      const reason = 'One or more ports have an IP allocation from this subnet'
      throw neutron(409, 'SubnetInUse', `Unable to complete operation on subnet ${id}: ${reason}.`)
    }
    cloud.subnets.delete(id)
    return { status: 204 }
  }
  if (ask.method === 'GET') {
    const visible = [...cloud.subnets.values()].filter((one) =>
      sees(ask.caller, one, cloud.networks.get(one.network)?.shared),
    )
    return listing(ask, 'subnets', visible.map(subnetView), context.base())
  }
  const entry = entryOf(ask.body, 'subnet')
  const networkId = textIn(entry, 'network_id') ?? ''
  const network = cloud.networks.get(networkId)
  if (network === undefined || !sees(ask.caller, network)) throw notFound('Network', networkId)
  const text = textIn(entry, 'cidr') ?? ''
  const cidr = tryParseCidr(text)
  if (cidr === undefined) throw badInput(`Invalid input for cidr. Reason: '${text}' is not a valid IP subnet.`)
  const first = formatIp(addToIp(cidr.ip, 1))
  const gateway = entry['gateway_ip'] === null ? null : (textIn(entry, 'gateway_ip') ?? first)
  const afterGateway = gateway === first ? 2 : 1
  const last = cidr.ip.family === 4 && sizeOf(cidr) > 2n ? addToIp(lastOf(cidr), -1) : lastOf(cidr)
  const subnet: FakeSubnet = {
    ...cloud.base(ask.caller.project, textIn(entry, 'name') ?? '', '', clock.wall()),
    network: networkId,
    cidr: formatCidr(parseCidr(text)),
    family: familyOf(text),
    gateway,
    pools: [{ start: formatIp(addToIp(cidr.ip, afterGateway)), end: formatIp(last) }],
    dhcp: entry['enable_dhcp'] !== false,
  }
  cloud.subnets.set(subnet.id, subnet)
  return { status: 201, body: { subnet: subnetView(subnet) } }
}

/** `/v2.0/network-ip-availabilities/ID`: for administrators. */
export function addressUse(context: Context, ask: Ask): Answer {
  const { cloud } = context
  const network = cloud.networks.get(ask.path[1] ?? '')
  if (!ask.caller.admin || network === undefined) throw noSuchPath()
  const each = cloud.subnetsOf(network.id).map((subnet) => {
    const total = subnet.pools.reduce((sum, { start, end }) => sum + sizeBetween(start, end), 0)
    const used = [...cloud.ports.values()].flatMap((port) => port.fixed).filter((one) => one.subnet_id === subnet.id)
    return {
      subnet_id: subnet.id,
      subnet_name: subnet.name,
      ip_version: subnet.family,
      cidr: subnet.cidr,
      total_ips: total,
      used_ips: used.length,
    }
  })
  const sum = (key: 'total_ips' | 'used_ips'): number => each.reduce((total, one) => total + one[key], 0)
  const body = {
    network_id: network.id,
    network_name: network.name,
    project_id: network.project,
    tenant_id: network.project,
    total_ips: sum('total_ips'),
    used_ips: sum('used_ips'),
    subnet_ip_availability: each,
  }
  return { status: 200, body: { network_ip_availability: body } }
}

function sizeBetween(start: string, end: string): number {
  const [from, to] = [
    parseCidr(`${start}/${start.includes(':') ? 128 : 32}`),
    parseCidr(`${end}/${end.includes(':') ? 128 : 32}`),
  ]
  return Number(BigInt(to.ip.value) - BigInt(from.ip.value)) + 1
}

/** `/v2.0/quotas/PROJECT/details.json` */
export function quotas(context: Context, ask: Ask): Answer {
  const { cloud } = context
  const [, project = '', leaf] = ask.path
  if (!ask.caller.admin && project !== ask.caller.project) {
    throw neutron(403, 'PolicyNotAuthorized', 'rule:get_quota is disallowed by policy')
  }
  if (ask.method === 'PUT' && leaf === undefined) {
    if (!ask.caller.admin) throw neutron(403, 'PolicyNotAuthorized', 'rule:update_quota is disallowed by policy')
    const entry = entryOf(ask.body, 'quota')
    for (const [resource, limit] of Object.entries(entry))
      if (typeof limit === 'number') cloud.quotas.set(resource, limit)
    return { status: 200, body: { quota: entry } }
  }
  if (ask.method !== 'GET' || !/^details(\.json)?$/.test(leaf ?? '')) throw noSuchPath()
  const count = (objects: Iterable<{ readonly project: string }>): number =>
    [...objects].filter((object) => object.project === project).length
  const used = {
    network: count(cloud.networks.values()),
    subnet: count(cloud.subnets.values()),
    port: count(cloud.ports.values()),
    router: count(cloud.routers.values()),
    floatingip: count(cloud.floating.values()),
  }
  const quota = Object.entries(used).map(([resource, n]) => {
    return [resource, { limit: cloud.quotas.get(resource) ?? -1, used: n, reserved: 0 }] as const
  })
  if (context.options.routesError === 'OverQuota') {
    const routes = [...cloud.routers.values()].filter((one) => one.project === project).flatMap((one) => one.routes)
    quota.push(['router_route', { limit: context.options.maxRoutes ?? 30, used: routes.length, reserved: 0 }])
  }
  return { status: 200, body: { quota: Object.fromEntries(quota) } }
}
