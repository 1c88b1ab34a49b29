/** Routers and their extra routes: Networking API v2.0, extension extraroute-atomic. */

import * as v from 'valibot'

import type { IpText } from '#ip/address.ts'
import { formatCidr, networkOf, parseIpNet } from '#ip/prefix.ts'
import type { CidrText, IpNetText } from '#ip/prefix.ts'
import type { CallOptions, OpenStackClient } from '../client.ts'
import { listAll } from '../pages.ts'
import { Count, Id, Ip, IpNetSchema, nullable, OptionalId, Text } from '../schema.ts'
import { ifMatch, type Write } from './revision.ts'

const Route = v.object({ destination: IpNetSchema, nexthop: Ip })

export const RouterSchema = v.object({
  id: Id,
  name: Text,
  project_id: OptionalId,
  status: Text,
  routes: v.optional(v.array(Route), []),
  external_gateway_info: nullable(v.object({ network_id: Id })),
  tags: v.optional(v.array(v.string()), []),
  revision_number: v.optional(Count, 0),
})
export type Router = v.InferOutput<typeof RouterSchema>

/** As read: a destination may have bits beyond its length, because Neutron does not look when it is written. */
export interface ExtraRoute {
  readonly destination: IpNetText | CidrText
  readonly nexthop: IpText
}

/** As written: canonical, or every later PUT of the whole list fails. */
export interface WantedRoute {
  readonly destination: CidrText
  readonly nexthop: IpText
}

const One = v.object({ router: RouterSchema })

/** The destination of a route without the bits beyond its length, for comparing. */
export const destinationOf = (route: ExtraRoute): CidrText => formatCidr(networkOf(parseIpNet(route.destination)))

/** Like `openstack router show ID`. @throws OpenStackError */
export async function getRouter(client: OpenStackClient, id: string, options: CallOptions = {}): Promise<Router> {
  const call = {
    ...options,
    service: 'network',
    method: 'GET',
    path: ['routers', id],
    object: `GET router ${id}`,
  } as const
  return (await client.call(call, One)).router
}

/** Like `openstack router list`. @throws OpenStackError */
export function listRouters(
  client: OpenStackClient,
  filter: { readonly name?: string; readonly tags?: readonly string[] } = {},
  options: CallOptions = {},
): Promise<readonly Router[]> {
  const query = { name: filter.name, tags: filter.tags?.join(',') }
  const call = { ...options, service: 'network', path: ['routers'], query, object: 'LIST routers' } as const
  return listAll(client, call, 'routers', RouterSchema)
}

async function change(
  client: OpenStackClient,
  id: string,
  action: 'add_extraroutes' | 'remove_extraroutes',
  routes: readonly ExtraRoute[],
  { revision, ...options }: Write,
): Promise<Router> {
  const call = {
    ...options,
    service: 'network',
    method: 'PUT',
    path: ['routers', id, action],
    headers: ifMatch(revision),
    body: { router: { routes } },
    object: `PUT ${action} of router ${id}`,
  } as const
  return (await client.call(call, One)).router
}

/**
 * Like `openstack router add route`: what is there stays, what is there already is no error. Two next hops for one destination make it a
 * multipath route, so take the old one away first. The limit (30) holds for one writer only; several at once get beyond it.
 * @throws OpenStackError `over-quota` in both of its forms (400 RoutesExhausted, 409 OverQuota), `bad-request` (next hop not on a network of the router), `precondition`
 */
export const addRoutes = (
  client: OpenStackClient,
  id: string,
  routes: readonly WantedRoute[],
  write: Write = {},
): Promise<Router> => change(client, id, 'add_extraroutes', routes, write)

/** Like `openstack router remove route`: what is not there is no error. Give destinations as they were read. @throws OpenStackError */
export const removeRoutes = (
  client: OpenStackClient,
  id: string,
  routes: readonly ExtraRoute[],
  write: Write = {},
): Promise<Router> => change(client, id, 'remove_extraroutes', routes, write)
