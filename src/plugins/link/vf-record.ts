/** What is remembered of a card's virtual function while a pod has it. */

import * as v from 'valibot'

import { macSchema } from '#cni/schema.ts'

export const vfSchema = v.object({
  pf: v.string(),
  vf: v.number(),
  before: v.object({
    mac: v.exactOptional(macSchema),
    vlan: v.exactOptional(v.object({ id: v.number(), qos: v.number(), protocol: v.number() })),
    spoofCheck: v.exactOptional(v.boolean()),
    trust: v.exactOptional(v.boolean()),
    linkState: v.exactOptional(v.picklist(['auto', 'enable', 'disable'])),
    rate: v.exactOptional(v.object({ min: v.number(), max: v.number() })),
  }),
})

/** A function while a pod has it: what to put back. */
export type VfRecord = v.InferOutput<typeof vfSchema>
