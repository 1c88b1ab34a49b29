/** What the journal of neutron-ipam holds, line by line. */

import * as v from 'valibot'

import { cidrSchema, ipSchema, macSchema } from '#cni/schema.ts'

const id = v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/))
const ips = v.pipe(v.array(ipSchema), v.readonly())

const Owner = v.object({
  network: v.string(),
  containerId: v.string(),
  ifname: v.string(),
  /** Of the boot that the pod was made in: none outlives it. */
  boot: v.string(),
})
export type Owner = v.InferOutput<typeof Owner>

const Address = v.object({
  ip: ipSchema,
  subnet: id,
  /** The port that has it: the VM's, or the one that reserves it. */
  port: id,
  /** Of a port of its own. */
  mac: v.optional(macSchema),
  /** Reserved with others of this network, and given back with them only. */
  prefix: v.optional(cidrSchema),
  state: v.picklist(['free', 'assigned', 'leaving']),
  owner: v.optional(Owner),
  /** Not given out before. */
  readyAt: v.number(),
  /** Of the last change of state. */
  since: v.number(),
  /** It was a pod's, and whether a floating IP still points at it is not known. */
  doubt: v.boolean(),
  /** It was a pod's once. */
  rested: v.optional(v.boolean(), false),
})
export type Address = Readonly<v.InferOutput<typeof Address>>

const Intent = v.object({
  /** Unique; part of the name of ports that reserve. */
  id,
  port: id,
  subnet: id,
  count: v.number(),
  /** Addresses that were on the port before. */
  before: ips,
  prefix: v.optional(cidrSchema),
  at: v.number(),
})
export type Intent = v.InferOutput<typeof Intent>

const NodePort = v.object({
  /** '' without a port of the VM (validity `port`). */
  port: v.union([id, v.literal('')]),
  network: v.string(),
  mac: v.optional(macSchema),
  /** The node's own addresses on the port: never touched. */
  own: ips,
})
export type NodePort = v.InferOutput<typeof NodePort>

const Entry = v.variant('is', [
  v.object({ is: v.literal('writer'), writer: v.string() }),
  v.object({ is: v.literal('node'), node: NodePort }),
  v.object({ is: v.literal('intend'), intent: Intent }),
  v.object({ is: v.literal('settle'), id }),
  v.object({ is: v.literal('have'), addresses: v.pipe(v.array(Address), v.readonly()) }),
  v.object({ is: v.literal('assign'), ips, owner: Owner, at: v.number() }),
  v.object({ is: v.literal('free'), ips, at: v.number(), readyAt: v.number() }),
  v.object({ is: v.literal('clear'), ips }),
  v.object({ is: v.literal('leave'), ips }),
  v.object({ is: v.literal('gone'), ips }),
  v.object({ is: v.literal('foreign'), ips }),
  /** The VM has another port: what pods have comes along, the rest went with the old one. */
  v.object({ is: v.literal('moved'), from: id, to: id }),
  /** They are on another port than was known. */
  v.object({ is: v.literal('home'), ips, port: id }),
  v.object({ is: v.literal('unforeign'), ips }),
])
export type PoolRecord = v.InferOutput<typeof Entry>

/** A line of the journal; undefined for what a later version may have written. */
export function parseRecord(raw: unknown): PoolRecord | undefined {
  const parsed = v.safeParse(Entry, raw)
  return parsed.success ? parsed.output : undefined
}
