/** Address ranges of host-local: what the configuration may say, checked once, so that the allocator only sees sound ranges. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import { parseWith } from '#cni/schema.ts'
import { addToIp, bitsOf, compareIp, formatIp, parseIp, tryParseIp, type Ip } from '#ip/address.ts'
import {
  contains,
  equalCidr,
  formatCidr,
  formatIpNet,
  lastOf,
  networkOf,
  tryParseIpNet,
  type Cidr,
} from '#ip/prefix.ts'

/** A stretch of addresses inside one subnet, both ends included. */
export interface Range {
  readonly subnet: Cidr
  readonly start: Ip
  readonly end: Ip
  /** Never handed out where it lies inside the range. */
  readonly gateway: Ip
}

/** Alternative ranges of one family: an attachment gets one address of each set. */
export type RangeSet = readonly Range[]

const text = v.nullish(v.string())

export const rangeSchema = v.object({ subnet: v.string(), rangeStart: text, rangeEnd: text, gateway: text })
type RangeText = v.InferOutput<typeof rangeSchema>

/** Reads `ranges` (or `ipRanges`): a list of range sets. `field` is its path in the configuration, for errors. Throws CniError 7. */
export function parseRangeSets(value: unknown, field: string): readonly RangeSet[] {
  const sets = parseWith(v.array(v.array(rangeSchema)), value, field)
  return sets.map((set, i) => rangeSetOf(set, `${field}[${i}]`))
}

/** One range set from its texts. Throws CniError 7 naming the field, its value and what is wrong. */
export function rangeSetOf(texts: readonly RangeText[], field: string): RangeSet {
  if (texts.length === 0) throw invalidConfig(`${field} is empty`, 'give each range set at least one {"subnet": ...}')
  const set = texts.map((range, i) => rangeOf(range, `${field}[${i}]`))
  const [first] = set
  for (const [i, range] of set.entries()) {
    if (first !== undefined && range.start.family !== first.start.family) {
      throw invalidConfig(
        `${field} mixes IPv4 and IPv6`,
        'an attachment gets one address of each set: put the families into separate sets for dual stack',
      )
    }
    for (const [j, earlier] of set.slice(0, i).entries())
      refuseOverlap(earlier, `${field}[${j}]`, range, `${field}[${i}]`)
  }
  return set
}

/** Two sets that share addresses would hand one address out twice. Throws CniError 7. */
export function refuseOverlappingSets(sets: readonly RangeSet[]): void {
  for (const [i, set] of sets.entries()) {
    for (const [j, earlier] of sets.slice(0, i).entries()) {
      for (const a of earlier) for (const b of set) refuseOverlap(a, `range set ${j}`, b, `range set ${i}`)
    }
  }
}

function refuseOverlap(a: Range, nameA: string, b: Range, nameB: string): void {
  if (a.start.family !== b.start.family) return
  if (compareIp(a.start, b.end) > 0 || compareIp(b.start, a.end) > 0) return
  throw invalidConfig(
    `${nameB} (${formatRange(b)}) overlaps ${nameA} (${formatRange(a)})`,
    'give every range addresses of its own',
  )
}

/** `10.0.0.1-10.0.0.254`. */
export const formatRange = (range: Range): string => `${formatIp(range.start)}-${formatIp(range.end)}`

export const formatRangeSet = (set: RangeSet): string => set.map(formatRange).join(', ')

export const rangeHolds = (range: Range, ip: Ip): boolean =>
  ip.family === range.start.family && compareIp(range.start, ip) <= 0 && compareIp(ip, range.end) <= 0

/** The range of the set that an address belongs to. */
export const rangeOfSet = (set: RangeSet, ip: Ip): Range | undefined => set.find((range) => rangeHolds(range, ip))

function rangeOf(texts: RangeText, field: string): Range {
  const subnet = subnetOf(texts.subnet, `${field}.subnet`)
  const first = addToIp(subnet.ip, 1)
  const gateway = optionalIp(texts.gateway, `${field}.gateway`) ?? first
  if (gateway.family !== subnet.ip.family) {
    throw invalidConfig(`${field}.gateway ${formatIp(gateway)} is not of the family of ${formatCidr(subnet)}`)
  }
  const last = subnet.ip.family === 4 ? addToIp(lastOf(subnet), -1) : lastOf(subnet)
  const start = within(subnet, optionalIp(texts.rangeStart, `${field}.rangeStart`), `${field}.rangeStart`) ?? first
  const end = within(subnet, optionalIp(texts.rangeEnd, `${field}.rangeEnd`), `${field}.rangeEnd`) ?? last
  if (compareIp(start, end) > 0) {
    throw invalidConfig(
      `${field}.rangeStart ${formatIp(start)} lies after rangeEnd ${formatIp(end)}`,
      'exchange the two, or leave one out',
    )
  }
  return { subnet, start, end, gateway }
}

function subnetOf(value: string, field: string): Cidr {
  const net = tryParseIpNet(value)
  if (net === undefined) {
    throw invalidConfig(
      `${field} is ${JSON.stringify(value.slice(0, 64))}`,
      'a subnet such as "10.22.0.0/16" is expected',
    )
  }
  const subnet = networkOf(net)
  if (!equalCidr(subnet, net)) {
    throw invalidConfig(
      `${field} ${formatIpNet(net)} has host bits set`,
      `the network of that length is ${formatCidr(subnet)}`,
    )
  }
  if (subnet.length > bitsOf(subnet.ip.family) - 2) {
    throw invalidConfig(
      `${field} ${formatCidr(subnet)} is too small to allocate from`,
      'take a prefix of at least four addresses: /30 or /126',
    )
  }
  return subnet
}

function optionalIp(value: string | null | undefined, field: string): Ip | undefined {
  if (value === null || value === undefined || value === '') return undefined
  if (tryParseIp(value) === undefined) {
    throw invalidConfig(`${field} is ${JSON.stringify(value.slice(0, 64))}`, 'an IP address is expected')
  }
  return parseIp(value)
}

function within(subnet: Cidr, ip: Ip | undefined, field: string): Ip | undefined {
  if (ip === undefined || contains(subnet, ip)) return ip
  throw invalidConfig(`${field} ${formatIp(ip)} is not in the subnet ${formatCidr(subnet)}`)
}
