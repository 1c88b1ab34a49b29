/** `ipam.routes`, the same in every IPAM plugin. Source: CNI SPEC.md §5 (routes of a result), CONVENTIONS.md. */

import * as v from 'valibot'

import { cidrSchema, intSchema, ipSchema } from '#cni/schema.ts'
import type { RouteConfig } from '#cni/result.ts'

const u32 = v.nullish(intSchema(0, 0xffff_ffff))

/** One route; keys that are absent or null stay absent, and so does a gateway written as "". */
export const routeSchema = v.pipe(
  v.object({
    dst: cidrSchema,
    gw: v.nullish(v.union([ipSchema, v.literal('')])),
    mtu: u32,
    advmss: u32,
    priority: u32,
    table: u32,
    scope: v.nullish(intSchema(0, 255)),
  }),
  v.transform(({ dst, gw, mtu, advmss, priority, table, scope }): RouteConfig => {
    return {
      dst,
      ...(gw === undefined || gw === null || gw === '' ? {} : { gw }),
      ...given({ mtu, advmss, priority }),
      ...(typeof table === 'number' ? { table } : {}),
      ...(typeof scope === 'number' ? { scope } : {}),
    }
  }),
)

export const routesSchema = v.nullish(v.array(routeSchema))

/** Zero means "the kernel's default" for these, as it does in Go's JSON. */
function given(numbers: {
  mtu?: number | null | undefined
  advmss?: number | null | undefined
  priority?: number | null | undefined
}) {
  return {
    ...(numbers.mtu ? { mtu: numbers.mtu } : {}),
    ...(numbers.advmss ? { advmss: numbers.advmss } : {}),
    ...(numbers.priority ? { priority: numbers.priority } : {}),
  }
}
