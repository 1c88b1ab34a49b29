/** Floating IPs: Networking API v2.0, extension router. */

import * as v from 'valibot'

import type { IpText } from '#ip/address.ts'
import type { CallOptions, OpenStackClient } from '../client.ts'
import { listAll } from '../pages.ts'
import { Count, Id, Ip, nullable, OptionalId, Text } from '../schema.ts'
import { ifMatch, type Write } from './revision.ts'

export const FloatingIpSchema = v.object({
  id: Id,
  floating_ip_address: Ip,
  floating_network_id: Id,
  fixed_ip_address: nullable(Ip),
  port_id: nullable(Id),
  router_id: nullable(Id),
  project_id: OptionalId,
  status: Text,
  description: Text,
  tags: v.optional(v.array(v.string()), []),
  revision_number: v.optional(Count, 0),
})
export type FloatingIp = v.InferOutput<typeof FloatingIpSchema>

/** Where a floating IP leads. A port with several addresses needs to be told which. */
export interface Target {
  readonly port: string
  readonly address: IpText
}

export interface FloatingIpFilter {
  readonly port?: string
  readonly fixedIp?: string
  readonly floatingIp?: string
  readonly network?: string
  readonly tags?: readonly string[]
}

const One = v.object({ floatingip: FloatingIpSchema })
const to = (target: Target): object => ({ port_id: target.port, fixed_ip_address: target.address })

/** Like `openstack floating ip show ID`. @throws OpenStackError */
export async function getFloatingIp(
  client: OpenStackClient,
  id: string,
  options: CallOptions = {},
): Promise<FloatingIp> {
  const object = `GET floating IP ${id}`
  const call = { ...options, service: 'network', method: 'GET', path: ['floatingips', id], object } as const
  return (await client.call(call, One)).floatingip
}

/** Like `openstack floating ip list`. @throws OpenStackError */
export function listFloatingIps(
  client: OpenStackClient,
  filter: FloatingIpFilter = {},
  options: CallOptions = {},
): Promise<readonly FloatingIp[]> {
  const query = {
    port_id: filter.port,
    fixed_ip_address: filter.fixedIp,
    floating_ip_address: filter.floatingIp,
    floating_network_id: filter.network,
    tags: filter.tags?.join(','),
  }
  const call = { ...options, service: 'network', path: ['floatingips'], query, object: 'LIST floating IPs' } as const
  return listAll(client, call, 'floatingips', FloatingIpSchema)
}

/** Like `openstack floating ip create NETWORK`. @throws OpenStackError `over-quota`, `subnet-full` */
export async function createFloatingIp(
  client: OpenStackClient,
  wanted: {
    readonly network: string
    readonly address?: IpText
    readonly target?: Target
    readonly description?: string
  },
  options: CallOptions = {},
): Promise<FloatingIp> {
  const floatingip = {
    floating_network_id: wanted.network,
    ...(wanted.address === undefined ? {} : { floating_ip_address: wanted.address }),
    ...(wanted.target === undefined ? {} : to(wanted.target)),
    ...(wanted.description === undefined ? {} : { description: wanted.description }),
  }
  const object = `POST floating IP on network ${wanted.network}`
  const call = {
    ...options,
    service: 'network',
    method: 'POST',
    path: ['floatingips'],
    body: { floatingip },
    object,
  } as const
  return (await client.call(call, One)).floatingip
}

/**
 * Like `openstack floating ip set --port PORT --fixed-ip-address ADDRESS`; without a target, `openstack floating ip unset --port`. Do the
 * second before an address leaves its port: Neutron does not, and whoever gets the address next would get the public one with it.
 * @throws OpenStackError `conflict` (the address has one already), `bad-request` (no address of the port, an address pair for example)
 */
export async function pointFloatingIp(
  client: OpenStackClient,
  id: string,
  target: Target | undefined,
  write: Write = {},
): Promise<FloatingIp> {
  const { revision, ...options } = write
  const call = {
    ...options,
    service: 'network',
    method: 'PUT',
    path: ['floatingips', id],
    headers: ifMatch(revision),
    body: { floatingip: target === undefined ? { port_id: null } : to(target) },
    object: `PUT floating IP ${id}`,
  } as const
  return (await client.call(call, One)).floatingip
}

/** Like `openstack floating ip delete ID`. @throws OpenStackError */
export function deleteFloatingIp(client: OpenStackClient, id: string, options: CallOptions = {}): Promise<void> {
  const object = `DELETE floating IP ${id}`
  return client.send({ ...options, service: 'network', method: 'DELETE', path: ['floatingips', id], object })
}
