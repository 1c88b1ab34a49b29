/** The subnets that nodes may lease: the network configuration's SubnetLen, SubnetMin and SubnetMax, checked as flannel checks them for etcd. */

import { addToIp, bitsOf, formatIp, type Family, type Ip } from '#ip/address.ts'
import { cidrOf, containsCidr, formatCidr, lastOf, parseCidr, type Cidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { FlannelError } from '../errors.ts'
import type { NetConf } from '../net-conf.ts'
import type { Subnets } from './key.ts'

/** Subnets of one length from `first` to `last`, both included. */
export interface LeaseRange {
  readonly network: Cidr
  readonly length: number
  readonly first: Ip
  readonly last: Ip
}

export interface LeaseRanges {
  readonly 4: LeaseRange
  readonly 6?: LeaseRange
}

/**
 * Defaults: from the second subnet of the network to the last. Throws FlannelError `bad-net-conf` where IPv4 is off (a lease in etcd is an IPv4 one,
 * with IPv6 beside it at most), or a length or limit is impossible.
 */
export function leaseRanges(conf: NetConf): LeaseRanges {
  if (conf.network[4] === undefined)
    throw bad(
      'EnableIPv4',
      'it is off, and leases in etcd have an IPv4 subnet',
      'switch it on, or use Kubernetes as the datastore',
    )
  const v4 = rangeOf(conf, conf.network[4], 4)
  return conf.network[6] === undefined ? { 4: v4 } : { 4: v4, 6: rangeOf(conf, conf.network[6], 6) }
}

const LIMITS = { 4: { network: 28, length: 30, prefix: '' }, 6: { network: 124, length: 126, prefix: 'IPv6' } } as const

function rangeOf(conf: NetConf, text: CidrText, family: Family): LeaseRange {
  const network = parseCidr(text)
  const { length: written, min, max } = conf.subnets[family] ?? { length: network.length + 2 }
  const { prefix, ...limits } = LIMITS[family]
  if (network.length > limits.network)
    throw bad(`${prefix}Network`, `${text} is too small to be divided`, `take a /${limits.network} or larger`)
  if (written < network.length + 2 || written > limits.length)
    throw bad(
      `${prefix}SubnetLen`,
      `${written} does not divide ${text} into subnets`,
      `write one from ${network.length + 2} to ${limits.length}`,
    )
  const step = sizeOf(family, written)
  const limit = (cidr: CidrText | undefined, field: string, usual: Ip): Ip => {
    if (cidr === undefined) return usual
    const subnet = parseCidr(cidr)
    if (!containsCidr(network, subnet))
      throw bad(
        `${prefix}${field}`,
        `${formatIp(subnet.ip)} is not inside ${text}`,
        'write the first address of a subnet of it',
      )
    return subnet.ip
  }
  const first = limit(min, 'SubnetMin', addToIp(network.ip, step))
  const last = limit(max, 'SubnetMax', cidrOf(lastOf(network), written).ip)
  if (first.value > last.value)
    throw bad(`${prefix}SubnetMin`, `${formatIp(first)} comes after SubnetMax ${formatIp(last)}`, 'exchange them')
  return { network, length: written, first, last }
}

const sizeOf = (family: Family, length: number): bigint => 1n << BigInt(bitsOf(family) - length)

/** Whether a lease fits the configuration as it is now. */
export function fits(ranges: LeaseRanges, subnets: Subnets): boolean {
  if ((ranges[6] === undefined) !== (subnets[6] === undefined)) return false
  return isWithin(ranges[4], subnets[4]) && (ranges[6] === undefined || isWithin(ranges[6], subnets[6]))
}

function isWithin({ length, first, last }: LeaseRange, text: CidrText | undefined): boolean {
  if (text === undefined) return false
  const { ip, length: own } = parseCidr(text)
  return own === length && ip.value >= first.value && ip.value <= last.value
}

/** False for a lease of the whole network or more: it is nobody's, and shall not keep everybody from having one. */
export const isPart = (ranges: LeaseRanges, subnets: Subnets): boolean =>
  ([4, 6] as const).every((family) => {
    const [range, text] = [ranges[family], subnets[family]]
    return range === undefined || text === undefined || parseCidr(text).length > range.network.length
  })

/** So many free subnets are looked at; one of them is taken by chance, so that nodes that come together rarely want the same. */
const CANDIDATES = 100

/** A free subnet of each family; undefined when there is none. `random` gives 0 ≤ x < 1. */
export function chooseSubnets(
  ranges: LeaseRanges,
  taken: readonly Subnets[],
  random: () => number,
): Subnets | undefined {
  const v4 = chooseFree(
    ranges[4],
    taken.map((one) => one[4]),
    random,
  )
  if (v4 === undefined) return undefined
  if (ranges[6] === undefined) return { 4: v4 }
  const v6 = chooseFree(
    ranges[6],
    taken.flatMap((one) => one[6] ?? []),
    random,
  )
  return v6 === undefined ? undefined : { 4: v4, 6: v6 }
}

function chooseFree(range: LeaseRange, taken: readonly CidrText[], random: () => number): CidrText | undefined {
  const { first, last, length } = range
  const step = sizeOf(first.family, length)
  // In order, so that one walk over both finds what lies between.
  const held = taken
    .map((text) => parseCidr(text))
    .map((cidr) => ({ from: BigInt(cidr.ip.value), to: BigInt(lastOf(cidr).value) }))
    .toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))
  const free: Cidr[] = []
  let at = 0
  let heldTo = -1n
  for (let next = BigInt(first.value); next <= BigInt(last.value) && free.length < CANDIDATES; next += step) {
    for (; ; at++) {
      const one = held[at]
      if (one === undefined || one.from > next + step - 1n) break
      if (one.to > heldTo) heldTo = one.to
    }
    if (heldTo < next) free.push(cidrOf(addToIp(first, next - BigInt(first.value)), length))
  }
  const chosen = free[Math.min(Math.floor(random() * free.length), free.length - 1)]
  return chosen === undefined ? undefined : formatCidr(chosen)
}

const bad = (field: string, why: string, remedy: string): FlannelError =>
  new FlannelError('bad-net-conf', field, `network configuration: ${field}: ${why}`, remedy)
