/** The bandwidth plugin's configuration: every field of the reference plugin. Rates are seen from the pod: `ingress` is what it receives. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { cidrSchema, intSchema, parseWith } from '#cni/schema.ts'
import type { CidrText } from '#ip/text.ts'

/** Of one direction. */
export interface Limit {
  /** Bytes per second. */
  readonly rate: number
  /** Bytes that may go at once. */
  readonly burst: number
}

/** Which traffic is limited, by the address of the other side: all of it, all but some networks, or some networks only. */
export type Scope = { readonly of: 'all' } | { readonly of: 'all-but' | 'only'; readonly networks: readonly CidrText[] }

export interface BandwidthConf {
  readonly ingress?: Limit | undefined
  readonly egress?: Limit | undefined
  readonly scope: Scope
}

/** Bits, or bits per second; beyond this, numbers of JSON are not exact. */
const bits = v.nullish(intSchema(0, Number.MAX_SAFE_INTEGER), 0)
/** Each is a filter, through which a packet goes one after the other. */
const MAX_SUBNETS = 256
const subnets = v.nullish(v.pipe(v.array(cidrSchema), v.maxLength(MAX_SUBNETS)), [])

const entrySchema = v.object({
  ingressRate: bits,
  ingressBurst: bits,
  egressRate: bits,
  egressBurst: bits,
  unshapedSubnets: subnets,
  shapedSubnets: subnets,
})

const runtimeSchema = v.object({ bandwidth: v.nullish(v.looseObject({})) })

const KEYS = Object.keys(entrySchema.entries)

/** As the reference has it: one of these keys in the configuration itself, and the runtime's values do not count. Throws CniError 7 naming field and value. */
export function bandwidthConf(input: PluginInput): BandwidthConf {
  const { raw, runtimeConfig, name } = input.config
  const what = `bandwidth configuration of network ${JSON.stringify(name)}`
  const isOwn = KEYS.some((key) => raw[key] !== undefined && raw[key] !== null)
  const runtime = parseWith(runtimeSchema, runtimeConfig, `runtimeConfig of the ${what}`).bandwidth ?? {}
  const place = isOwn ? what : `runtimeConfig.bandwidth of the ${what}`
  const entry = parseWith(entrySchema, isOwn ? raw : runtime, place)
  return {
    ingress: limitOf('ingress', entry.ingressRate, entry.ingressBurst, place),
    egress: limitOf('egress', entry.egressRate, entry.egressBurst, place),
    scope: scopeOf(entry.unshapedSubnets, entry.shapedSubnets, place),
  }
}

function limitOf(direction: string, rate: number, burst: number, place: string): Limit | undefined {
  if (rate === 0 && burst === 0) return undefined
  if (rate === 0 || burst === 0) {
    const [given, missing] = rate === 0 ? ['Burst', 'Rate'] : ['Rate', 'Burst']
    throw invalidConfig(
      `${place}: "${direction}${given}" without "${direction}${missing}"`,
      'give both, or neither for no limit',
    )
  }
  if (rate < 8) throw invalidConfig(`${place}: "${direction}Rate" is ${rate}`, 'it is in bits per second, at least 8')
  const limit = { rate: Math.floor(rate / 8), burst: Math.floor(burst / 8) }
  if (limit.burst >= 0xffff_ffff)
    throw invalidConfig(`${place}: "${direction}Burst" is ${burst}`, 'it is in bits, and below 4 GiB')
  return limit
}

function scopeOf(unshaped: readonly CidrText[], shaped: readonly CidrText[], place: string): Scope {
  if (unshaped.length > 0 && shaped.length > 0)
    throw invalidConfig(`${place}: "unshapedSubnets" and "shapedSubnets" exclude each other`, 'leave one of them out')
  if (unshaped.length > 0) return { of: 'all-but', networks: unshaped }
  return shaped.length > 0 ? { of: 'only', networks: shaped } : { of: 'all' }
}
