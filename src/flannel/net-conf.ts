/**
 * net-conf.json: the pod network of the whole cluster and its backend.
 *
 * Keys are matched in any case, because Go does so and configurations in the field rely on it. Source: flannel's
 * Documentation/configuration.md and pkg/subnet/config.go.
 */

import * as v from 'valibot'

import { bitsOf, type Family } from '#ip/address.ts'
import { familyOf, formatCidr, parseCidr, tryParseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { backendConf, type BackendConf } from './backend-conf.ts'
import { backendOf } from './backend/registry.ts'
import { FlannelError, shown } from './errors.ts'
import { foldKeys } from './fold.ts'

export interface NetConf {
  /** The cluster's pod networks. Present: the family is on. */
  readonly network: { readonly 4?: CidrText; readonly 6?: CidrText }
  readonly backend: BackendConf
  /** By what masquerade and forwarding are realised. */
  readonly rules: RulesMode
  /** Subnet sizes and limits as written; they matter to the etcd datastore only. */
  readonly subnets: { readonly 4?: SubnetRange; readonly 6?: SubnetRange }
}

/** `iptables` where EnableNFTables is written as false, as flannel's manifests have it; nftables where it is true or left out. */
export type RulesMode = 'iptables' | 'nftables'

export interface SubnetRange {
  readonly length: number
  readonly min?: CidrText
  readonly max?: CidrText
}

const MAX_BYTES = 1 << 20

const Flag = v.boolean('expected true or false')
const Text = v.string('expected text')
const Length = v.pipe(v.number('expected a number'), v.integer('expected a whole number'), v.minValue(0))
const Written = v.object({
  network: v.optional(Text, ''),
  ipv6network: v.optional(Text, ''),
  enableipv4: v.optional(Flag, true),
  enableipv6: v.optional(Flag, false),
  enablenftables: v.optional(Flag),
  subnetlen: v.optional(Length),
  subnetmin: v.optional(Text),
  subnetmax: v.optional(Text),
  ipv6subnetlen: v.optional(Length),
  ipv6subnetmin: v.optional(Text),
  ipv6subnetmax: v.optional(Text),
})
type Written = v.InferOutput<typeof Written>

/**
 * Parses net-conf.json. Throws FlannelError naming field, value and remedy. Unknown keys are ignored, as flannel ignores them.
 */
export function parseNetConf(text: string): NetConf {
  if (text.length > MAX_BYTES)
    throw bad('net-conf.json', `it has ${text.length} characters`, 'a network configuration is a few lines of JSON')
  const folded = foldKeys(parseJson(text))
  if (folded === undefined) throw bad('net-conf.json', `it is ${shown(text)}`, 'write a JSON object')
  const parsed = v.safeParse(Written, Object.fromEntries(folded.values), { abortEarly: true, abortPipeEarly: true })
  if (!parsed.success) {
    const [issue] = parsed.issues
    const key = v.getDotPath(issue) ?? ''
    throw bad(folded.written.get(key) ?? key, `it is ${shown(issue.input)}`, issue.message)
  }
  const conf = parsed.output
  const network: { 4?: CidrText; 6?: CidrText } = {}
  const subnets: { 4?: SubnetRange; 6?: SubnetRange } = {}
  if (conf.enableipv4) {
    network[4] = networkOf(conf.network, 4, 'Network')
    subnets[4] = rangeOf(conf, network[4], 4)
  }
  if (conf.enableipv6) {
    network[6] = networkOf(conf.ipv6network, 6, 'IPv6Network')
    subnets[6] = rangeOf(conf, network[6], 6)
  }
  if (!conf.enableipv4 && !conf.enableipv6)
    throw bad('EnableIPv4', 'both address families are switched off', 'set EnableIPv4 or EnableIPv6 to true')
  const backend = backendConf(folded.values.get('backend'))
  requireFamilies(backend, network)
  requireTransport(backend, network)
  return { network, subnets, rules: conf.enablenftables === false ? 'iptables' : 'nftables', backend }
}

function requireFamilies(backend: BackendConf, network: NetConf['network']): void {
  const { families } = backendOf(backend)
  for (const family of [4, 6] as const) {
    if (network[family] === undefined || families.includes(family)) continue
    throw bad(
      `EnableIPv${family}`,
      `IPv${family} is on, and the backend ${backend.type} carries IPv${families.join(' and IPv')} only`,
      `set EnableIPv${family} to false, or take a backend for both families, such as vxlan`,
    )
  }
}

/** A mode that leads over a family needs the nodes' addresses of that family, which flannel publishes for families that are on. */
function requireTransport(backend: BackendConf, network: NetConf['network']): void {
  if (backend.type !== 'wireguard') return
  const family = backend.mode === 'ipv4' ? 4 : backend.mode === 'ipv6' ? 6 : undefined
  if (family === undefined || network[family] !== undefined) return
  throw bad(
    'Backend.Mode',
    `it is "${backend.mode}", and IPv${family} is off`,
    `set EnableIPv${family} to true, or take the mode "auto"`,
  )
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw bad(
      'net-conf.json',
      `it is not JSON (${why.slice(0, 120)})`,
      'write a JSON object such as {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}',
    )
  }
}

function networkOf(text: string, family: Family, field: string): CidrText {
  const example = family === 4 ? '10.244.0.0/16' : 'fd00:10:244::/56'
  if (text === '')
    throw bad(
      field,
      `it is missing although IPv${family} is on`,
      `write the cluster's IPv${family} pod network, such as "${example}", or set EnableIPv${family} to false`,
    )
  const cidr = tryParseCidr(text)
  if (cidr === undefined || familyOf(text) !== family)
    throw bad(field, `${shown(text)} is no IPv${family} prefix`, `write one such as "${example}"`)
  if (cidr.length === 0)
    throw bad(field, `${shown(text)} is the whole address space`, `write the pods' network only, such as "${example}"`)
  return formatCidr(cidr)
}

/** Defaults: /24 for networks of /22 or larger, /64 for IPv6 networks of /62 or larger, else two bits more than the network. */
function rangeOf(conf: Written, network: CidrText, family: Family): SubnetRange {
  const size = parseCidr(network).length
  const [written, min, max, field] =
    family === 4
      ? ([conf.subnetlen, conf.subnetmin, conf.subnetmax, 'Subnet'] as const)
      : ([conf.ipv6subnetlen, conf.ipv6subnetmin, conf.ipv6subnetmax, 'IPv6Subnet'] as const)
  const usual = family === 4 ? 24 : 64
  const length =
    written === undefined || written === 0 ? (size <= usual - 2 ? usual : Math.min(size + 2, bitsOf(family))) : written
  if (length > bitsOf(family))
    throw bad(`${field}Len`, `/${length} is no IPv${family} prefix length`, `write one up to ${bitsOf(family)}`)
  return {
    length,
    ...(min === undefined || min === '' ? {} : { min: subnetOf(min, length, family, `${field}Min`) }),
    ...(max === undefined || max === '' ? {} : { max: subnetOf(max, length, family, `${field}Max`) }),
  }
}

function subnetOf(text: string, length: number, family: Family, field: string): CidrText {
  const cidr = tryParseCidr(`${text}/${length}`)
  if (cidr === undefined || familyOf(text) !== family)
    throw bad(field, `${shown(text)} is no IPv${family} address`, 'write the first address of a subnet')
  return formatCidr(cidr)
}

const bad = (field: string, why: string, remedy: string): FlannelError =>
  new FlannelError('bad-net-conf', field, `network configuration: ${field}: ${why}`, remedy)

/** The families that are on, IPv4 first. */
export const familiesOf = (conf: NetConf): Family[] =>
  ([4, 6] as const).filter((family) => conf.network[family] !== undefined)
