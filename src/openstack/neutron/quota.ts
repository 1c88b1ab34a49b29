/** Quotas of a project: Networking API v2.0, extension quota_details. */

import * as v from 'valibot'

import type { CallOptions, OpenStackClient } from '../client.ts'

const Use = v.object({ limit: v.number(), used: v.number(), reserved: v.optional(v.number(), 0) })
const Details = v.object({ quota: v.record(v.string(), v.unknown()) })

/** One quota. A limit of -1 is none. */
export type QuotaUse = v.InferOutput<typeof Use>

/** Like `openstack quota show --usage --network PROJECT`, by resource (`port`, `router`, `floatingip`, newer Neutrons: `router_route`). @throws OpenStackError */
export async function quotaUse(
  client: OpenStackClient,
  project: string,
  options: CallOptions = {},
): Promise<ReadonlyMap<string, QuotaUse>> {
  const object = `GET quotas of project ${project}`
  const path = ['quotas', project, 'details.json']
  const { quota } = await client.call({ ...options, service: 'network', method: 'GET', path, object }, Details)
  return new Map(
    Object.entries(quota).flatMap(([resource, value]) => {
      // A resource that a plugin counts otherwise harms only itself.
      const use = v.safeParse(Use, value)
      return use.success ? [[resource, use.output] as const] : []
    }),
  )
}

/** How many more may be made; Infinity without a limit. */
export const roomOf = (use: QuotaUse | undefined): number =>
  use === undefined || use.limit < 0 ? Number.POSITIVE_INFINITY : Math.max(0, use.limit - use.used - use.reserved)
