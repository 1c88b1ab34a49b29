/** What Neutron's database says now, as far as it matters to cables, routers and filters. */

import * as v from 'valibot'
import type { OpenStackClient } from '#openstack/client.ts'
import { listFloatingIps, type FloatingIp } from '#openstack/neutron/floating-ip.ts'
import { listNetworks, listSubnets, type Network, type Subnet } from '#openstack/neutron/network.ts'
import { Ports, type Port } from '#openstack/neutron/port.ts'
import { getRouter, type Router } from '#openstack/neutron/router.ts'

export interface Database {
  readonly networks: readonly Network[]
  readonly subnets: readonly Subnet[]
  readonly ports: readonly Port[]
  readonly floatingIps: readonly FloatingIp[]
  /** The lab's; undefined when somebody has deleted it. */
  readonly router: Router | undefined
}

/** Networks and subnets are read anew only when a port is in one that is not known. @throws OpenStackError */
export async function readDatabase(admin: OpenStackClient, router: string, before?: Database): Promise<Database> {
  const [ports, floatingIps, found] = await Promise.all([
    new Ports(admin).list(),
    listFloatingIps(admin),
    getRouter(admin, router).catch((error: unknown) => {
      if (v.is(v.looseObject({ code: v.literal('not-found') }), error)) return undefined
      throw error
    }),
  ])
  const known = new Set(before?.subnets.map(({ id }) => id))
  const isKnown = ports.every(({ fixed_ips }) => fixed_ips.every(({ subnet_id }) => known.has(subnet_id)))
  const [networks, subnets] =
    before !== undefined && isKnown
      ? [before.networks, before.subnets]
      : await Promise.all([listNetworks(admin), listSubnets(admin)])
  return { networks, subnets, ports, floatingIps, router: found }
}
