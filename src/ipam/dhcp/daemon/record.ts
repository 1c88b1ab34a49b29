/** What is remembered of an attachment on disk, and its form. Times are wall-clock ms: another process reads them. */

import * as v from 'valibot'

import { cidrSchema, ipSchema, macSchema } from '#cni/schema.ts'
import type { Clock } from '#sys/clock.ts'
import type { Lease4, Times } from '../lease/lease4.ts'
import type { Lease6, Offer6 } from '../lease/machine6.ts'

const time = v.exactOptional(v.number())
const texts = v.exactOptional(v.array(v.string()))
const dns = v.object({ nameservers: texts, domain: v.exactOptional(v.string()), search: texts, options: texts })
const times = { renewAt: time, rebindAt: time, expiresAt: time }

const lease4 = v.object({
  address: ipSchema,
  length: v.number(),
  server: ipSchema,
  router: v.exactOptional(ipSchema),
  routes: v.array(v.object({ dst: cidrSchema, gw: v.exactOptional(ipSchema) })),
  dns,
  ...times,
})

const offer6 = { addresses: v.array(ipSchema), server: v.string() }

export const recordSchema = v.object({
  /** Of the machine's boot: nothing of another one is left. */
  boot: v.string(),
  key: v.string(),
  containerId: v.string(),
  network: v.string(),
  ifname: v.string(),
  /** As this process sees it, prefix included. */
  netns: v.string(),
  netnsId: v.string(),
  index: v.number(),
  mac: macSchema,
  requested: v.array(v.number()),
  /** Code and value in hexadecimal. */
  provided: v.array(v.tuple([v.number(), v.string()])),
  priority: v.number(),
  families: v.array(v.picklist([4, 6])),
  rapidCommit: v.boolean(),
  clientId: v.picklist(['text', 'rfc4361']),
  broadcast: v.boolean(),
  /** The attachment was given up, or never came about: what is left of it is to be released. */
  isReleasing: v.boolean(),
  lease4: v.exactOptional(lease4),
  lease6: v.exactOptional(v.object({ ...offer6, dns, ...times })),
  /** Asked for, and not known whether given. */
  intent4: v.exactOptional(v.object({ address: ipSchema, server: ipSchema })),
  intent6: v.exactOptional(v.object(offer6)),
})

type Parsed = v.InferOutput<typeof recordSchema>

/** Leases here have the times of the file: wall-clock. */
export type LeaseRecord = Readonly<Omit<Parsed, 'lease4' | 'lease6' | 'intent6'>> & {
  readonly lease4?: Lease4 | undefined
  readonly lease6?: Lease6 | undefined
  readonly intent6?: Offer6 | undefined
}

/** Undefined for what is none. */
export function parseRecord(value: unknown): LeaseRecord | undefined {
  const parsed = v.safeParse(recordSchema, value)
  return parsed.success ? parsed.output : undefined
}

type Shifts = Pick<Clock, 'now' | 'wall'>

function shifted<T extends Times>(lease: T, by: number): T {
  const { renewAt, rebindAt, expiresAt } = lease
  return {
    ...lease,
    ...(renewAt === undefined ? {} : { renewAt: renewAt + by }),
    ...(rebindAt === undefined ? {} : { rebindAt: rebindAt + by }),
    ...(expiresAt === undefined ? {} : { expiresAt: expiresAt + by }),
  }
}

/** From the clock that never jumps, which a machine counts in, to wall-clock. */
export const toWall = <T extends Times>(lease: T, clock: Shifts): T => shifted(lease, clock.wall() - clock.now())
export const fromWall = <T extends Times>(lease: T, clock: Shifts): T => shifted(lease, clock.now() - clock.wall())
