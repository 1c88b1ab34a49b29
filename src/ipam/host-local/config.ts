/** The configuration of host-local: every field of the reference plugin, with its defaults, read from the network configuration. */

import { join } from 'node:path'

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import type { RouteConfig } from '#cni/result.ts'
import { parseWith } from '#cni/schema.ts'
import { formatIp, type Ip } from '#ip/address.ts'
import { requestedOf } from '../requested.ts'
import { routesSchema } from '../route-schema.ts'
import { parseRangeSets, rangeSetOf, refuseOverlappingSets, type RangeSet } from './range.ts'

export interface HostLocalConf {
  /** One address of each set; never empty, no address in two sets. */
  readonly sets: readonly RangeSet[]
  readonly routes: readonly RouteConfig[]
  /** Directory of this network's address files, `host.root` included. */
  readonly directory: string
  /** Path of a resolv.conf whose content becomes the result's dns. */
  readonly resolvConf?: string
  /** Addresses that must be given, each from some set. */
  readonly requested: readonly Ip[]
}

/** Where the reference plugin keeps its files. */
export const DEFAULT_DATA_DIR = '/var/lib/cni/networks'

const text = v.nullish(v.string())

const schema = v.object({
  subnet: text,
  rangeStart: text,
  rangeEnd: text,
  gateway: text,
  ranges: v.nullish(v.unknown()),
  routes: routesSchema,
  dataDir: text,
  resolvConf: text,
})

const runtimeSchema = v.object({ ipRanges: v.nullish(v.unknown()) })

/** Where the addresses of a network lie; needs no valid ranges, so that DEL and GC work after somebody broke them. Throws CniError 7. */
export function directoryOf(input: PluginInput, root: string): string {
  const { dataDir } = parseWith(v.object({ dataDir: text }), input.config.ipam.raw, where(input))
  return join(
    root,
    dataDir === null || dataDir === undefined || dataDir === '' ? DEFAULT_DATA_DIR : dataDir,
    input.config.name,
  )
}

/** Throws CniError 7 (4 for CNI_ARGS) naming the field, its value and the remedy. */
export function hostLocalConf(input: PluginInput, root: string): HostLocalConf {
  const conf = parseWith(schema, input.config.ipam.raw, where(input))
  const sets = rangeSetsOf(conf, input)
  refuseOverlappingSets(sets)
  refuseOldVersion(sets, input.config.cniVersion)
  const requests = requestedOf(input)
  return {
    sets,
    routes: conf.routes ?? [],
    directory: directoryOf(input, root),
    ...(conf.resolvConf ? { resolvConf: conf.resolvConf } : {}),
    requested: [...requests.env, ...requests.args, ...requests.runtimeConfig].map((request) => request.ip),
  }
}

const where = (input: PluginInput): string => `ipam of network ${JSON.stringify(input.config.name)}`

/** The runtime's ranges first, then the old style of a single subnet, then `ranges`. */
function rangeSetsOf(conf: v.InferOutput<typeof schema>, input: PluginInput): readonly RangeSet[] {
  const { ipRanges } = parseWith(runtimeSchema, input.config.runtimeConfig, 'runtimeConfig')
  const { subnet, rangeStart, rangeEnd, gateway } = conf
  const single = subnet ? [rangeSetOf([{ subnet, rangeStart, rangeEnd, gateway }], 'ipam')] : []
  const sets = [
    ...parseRangeSets(ipRanges ?? [], 'runtimeConfig.ipRanges'),
    ...single,
    ...parseRangeSets(conf.ranges ?? [], 'ipam.ranges'),
  ]
  if (sets.length === 0) {
    throw invalidConfig('no address ranges given', 'set ipam.ranges, ipam.subnet, or the ipRanges capability')
  }
  return sets
}

/** Results before 0.3.0 hold one address of each family. */
function refuseOldVersion(sets: readonly RangeSet[], cniVersion: string): void {
  if (!/^0\.[12]\./.test(cniVersion)) return
  const families = sets.map((set) => set[0]?.subnet.ip.family)
  if (new Set(families).size === families.length) return
  throw invalidConfig(
    `CNI version ${cniVersion} holds one address of each family, ipam.ranges asks for ${sets.length}`,
    'raise cniVersion to 0.3.1 or later, or leave one range set of each family',
  )
}

/** For messages: `10.0.0.5, fd00::5`. */
export const formatIps = (ips: readonly Ip[]): string => ips.map(formatIp).join(', ')
