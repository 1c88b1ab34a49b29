/** The tenant's networks, router and VMs, made in Neutron as a tenant makes them; the external network, as the operator. */

import { randomUUID } from 'node:crypto'
import * as v from 'valibot'
import type { OpenStackClient } from '#openstack/client.ts'
import type { LabPlan, NodePlan } from '../plan.ts'
import { PHYSICAL_NETWORK } from './neutron.ts'
import type { CloudPlan } from './plan.ts'
import type { CloudState } from './state.ts'

const VM_OWNER = 'compute:nova'

export type Topology = Pick<CloudState, 'external' | 'router' | 'networks' | 'servers'>

const Made = v.record(v.string(), v.looseObject({ id: v.string() }))

async function make(client: OpenStackClient, type: string, key: string, entry: object): Promise<string> {
  const object = `POST ${key} ${'name' in entry ? String(entry.name) : ''}`
  const call = { service: 'network', method: 'POST', path: [type], body: { [key]: entry }, object } as const
  return (await client.call(call, Made))[key]?.id ?? ''
}

const change = (client: OpenStackClient, path: readonly string[], body: object): Promise<void> =>
  client.send({ service: 'network', method: 'PUT', path, body, object: `PUT ${path.join('/')}` })

/** Makes all of it. @throws OpenStackError */
export async function makeTopology(
  admin: OpenStackClient,
  member: OpenStackClient,
  plan: LabPlan,
  cloud: CloudPlan,
): Promise<Topology> {
  const external = await makeExternal(admin, cloud)
  const networks: Record<string, { readonly network: string; readonly subnet: string }> = {}
  for (const { name, cidr, gateway } of cloud.vpcs) {
    const network = await make(member, 'networks', 'network', { name })
    const subnet = await make(member, 'subnets', 'subnet', {
      name,
      network_id: network,
      ip_version: 4,
      cidr,
      gateway_ip: gateway,
      // A DHCP server would be asked for by nobody: the VMs' addresses are set as cloud-init does from a config drive.
      enable_dhcp: false,
    })
    networks[name] = { network, subnet }
  }
  const router = await make(member, 'routers', 'router', {
    name: 'vrouter',
    external_gateway_info: { network_id: external },
  })
  for (const { subnet } of Object.values(networks)) {
    await change(member, ['routers', router, 'add_router_interface'], { subnet_id: subnet })
  }
  const servers: Record<string, { readonly id: string; readonly port: string }> = {}
  for (const node of plan.nodes) servers[node.name] = await makeVm(admin, member, node, networks[node.switch])
  return { external, router, networks, servers }
}

async function makeExternal(admin: OpenStackClient, { external }: CloudPlan): Promise<string> {
  const network = await make(admin, 'networks', 'network', {
    name: 'external',
    'router:external': true,
    'provider:network_type': 'flat',
    'provider:physical_network': PHYSICAL_NETWORK,
  })
  await make(admin, 'subnets', 'subnet', {
    name: 'external',
    network_id: network,
    ip_version: 4,
    cidr: external.cidr,
    gateway_ip: external.gateway,
    allocation_pools: [external.pool],
    enable_dhcp: false,
  })
  return network
}

/** A VM is a server's id and its first port: what Nova would make of a flavor and an image is a namespace. */
async function makeVm(
  admin: OpenStackClient,
  member: OpenStackClient,
  node: NodePlan,
  at: { readonly network: string; readonly subnet: string } | undefined,
): Promise<{ readonly id: string; readonly port: string }> {
  const id = randomUUID()
  const port = await make(member, 'ports', 'port', {
    name: node.name,
    network_id: at?.network,
    mac_address: node.mac,
    fixed_ips: node.underlay.map(({ ip }) => ({ subnet_id: at?.subnet, ip_address: ip })),
  })
  await bindPort(admin, port, id)
  return { id, port }
}

/**
 * What Nova does with a port of one of its servers; '' takes it away again. A host is not named: no agent has registered one, and Neutron would try to bind the
 * port with every request about it, ten times each.
 * @throws OpenStackError
 */
export const bindPort = (admin: OpenStackClient, port: string, server: string): Promise<void> =>
  change(admin, ['ports', port], { port: { device_id: server, device_owner: server === '' ? '' : VM_OWNER } })
