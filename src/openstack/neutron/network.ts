/** Networks and subnets, which Heddle reads and never writes: Networking API v2.0. */

import * as v from 'valibot'

import type { CallOptions, OpenStackClient } from '../client.ts'
import { listAll } from '../pages.ts'
import { CidrSchema, Count, Id, Ip, IpNetSchema, nullable, OptionalId, Text } from '../schema.ts'

export const NetworkSchema = v.object({
  id: Id,
  name: Text,
  project_id: OptionalId,
  /** Of pods' devices: 1450 over VXLAN, 1442 over Geneve. 0 with Neutrons that do not say. */
  mtu: v.optional(v.pipe(Count, v.minValue(0), v.maxValue(65_535)), 0),
  subnets: v.optional(v.array(Id), []),
  shared: v.optional(v.boolean(), false),
  'router:external': v.optional(v.boolean(), false),
  port_security_enabled: v.optional(v.boolean(), true),
  tags: v.optional(v.array(v.string()), []),
  revision_number: v.optional(Count, 0),
})
export type Network = v.InferOutput<typeof NetworkSchema>

export const SubnetSchema = v.object({
  id: Id,
  name: Text,
  network_id: Id,
  project_id: OptionalId,
  ip_version: v.picklist([4, 6]),
  cidr: CidrSchema,
  gateway_ip: nullable(Ip),
  enable_dhcp: v.optional(v.boolean(), false),
  allocation_pools: v.optional(v.array(v.object({ start: Ip, end: Ip })), []),
  dns_nameservers: v.optional(v.array(Ip), []),
  host_routes: v.optional(v.array(v.object({ destination: IpNetSchema, nexthop: Ip })), []),
  service_types: v.optional(v.array(v.string()), []),
  tags: v.optional(v.array(v.string()), []),
  revision_number: v.optional(Count, 0),
})
export type Subnet = v.InferOutput<typeof SubnetSchema>

const Use = v.object({
  network_ip_availability: v.object({
    network_id: Id,
    /** Numbers may be beyond 2⁵³ with IPv6; they are for looking at. */
    total_ips: v.number(),
    used_ips: v.number(),
    subnet_ip_availability: v.array(
      v.object({ subnet_id: Id, cidr: CidrSchema, total_ips: v.number(), used_ips: v.number() }),
    ),
  }),
})
export type AddressUse = v.InferOutput<typeof Use>['network_ip_availability']

/** Like `openstack network show ID`. @throws OpenStackError */
export async function getNetwork(client: OpenStackClient, id: string, options: CallOptions = {}): Promise<Network> {
  const call = {
    ...options,
    service: 'network',
    method: 'GET',
    path: ['networks', id],
    object: `GET network ${id}`,
  } as const
  return (await client.call(call, v.object({ network: NetworkSchema }))).network
}

/** Like `openstack network list --name NAME`. @throws OpenStackError */
export function listNetworks(
  client: OpenStackClient,
  filter: { readonly name?: string; readonly tags?: readonly string[] } = {},
  options: CallOptions = {},
): Promise<readonly Network[]> {
  const query = { name: filter.name, tags: filter.tags?.join(',') }
  const call = { ...options, service: 'network', path: ['networks'], query, object: 'LIST networks' } as const
  return listAll(client, call, 'networks', NetworkSchema)
}

/** Like `openstack subnet show ID`. @throws OpenStackError */
export async function getSubnet(client: OpenStackClient, id: string, options: CallOptions = {}): Promise<Subnet> {
  const call = {
    ...options,
    service: 'network',
    method: 'GET',
    path: ['subnets', id],
    object: `GET subnet ${id}`,
  } as const
  return (await client.call(call, v.object({ subnet: SubnetSchema }))).subnet
}

/** Like `openstack subnet list --network ID`. @throws OpenStackError */
export function listSubnets(
  client: OpenStackClient,
  filter: { readonly network?: string } = {},
  options: CallOptions = {},
): Promise<readonly Subnet[]> {
  const query = { network_id: filter.network }
  const call = { ...options, service: 'network', path: ['subnets'], query, object: 'LIST subnets' } as const
  return listAll(client, call, 'subnets', SubnetSchema)
}

/**
 * Like `openstack ip availability show ID`: how many addresses each subnet has and how many are taken; every fixed IP counts. By the
 * default policy for administrators only: others get `not-found`.
 * @throws OpenStackError
 */
export async function addressUse(
  client: OpenStackClient,
  network: string,
  options: CallOptions = {},
): Promise<AddressUse> {
  const object = `GET address use of network ${network}`
  const path = ['network-ip-availabilities', network]
  return (await client.call({ ...options, service: 'network', method: 'GET', path, object }, Use))
    .network_ip_availability
}
