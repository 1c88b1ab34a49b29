/** Fewer routes that lead every address where it led before. Pure; longest prefix wins, as in every router. */

import { formatIp, ip4, ip6, parseIp, type Ip, type IpText } from '#ip/address.ts'
import { familyOf, formatCidr, networkOf, parseCidr, type Cidr, type CidrText } from '#ip/prefix.ts'
import { bitsOf } from '#ip/address.ts'
import type { WantedRoute } from '#openstack/neutron/router.ts'

/**
 * `none`: as they are. `exact`: networks that are wanted as a whole become one route; nothing else is led anywhere. `cover`: also
 * networks in which addresses are free; whoever sends to those sends to that node.
 */
export type Aggregation = 'none' | 'exact' | 'cover'

/** A covering network has at least this length: 16 addresses. */
export const COVER_LENGTH = { 4: 28, 6: 124 } as const

interface Leaf {
  readonly first: bigint
  readonly length: number
  readonly nexthop: IpText
  readonly hops: ReadonlySet<IpText>
}

/** The smallest network that holds both sides. */
interface Fork {
  readonly first: bigint
  readonly length: number
  readonly sides: readonly [Tree, Tree]
  /** Next hops with which this network needs the fewest routes. */
  readonly hops: ReadonlySet<IpText>
}
type Tree = Leaf | Fork

const isFork = (tree: Tree): tree is Fork => 'sides' in tree

const common = (a: bigint, b: bigint, bits: number): number => {
  const differing = a ^ b
  return differing === 0n ? bits : bits - differing.toString(2).length
}

function fork(left: Tree, right: Tree, length: number, bits: number): Fork {
  const both = left.hops.intersection(right.hops)
  const rest = BigInt(bits - length)
  return {
    first: (left.first >> rest) << rest,
    length,
    sides: [left, right],
    hops: both.size > 0 ? both : left.hops.union(right.hops),
  }
}

/** Leaves in rising order, none within another. */
function grow(leaves: readonly Leaf[], bits: number): Tree | undefined {
  const [first] = leaves
  const last = leaves.at(-1)
  if (first === undefined || last === undefined) return undefined
  if (first === last) return first
  const length = common(first.first, last.first, bits)
  const bit = 1n << BigInt(bits - length - 1)
  const at = leaves.findIndex((leaf) => (leaf.first & bit) !== 0n)
  const [left, right] = [grow(leaves.slice(0, at), bits), grow(leaves.slice(at), bits)]
  return left === undefined || right === undefined ? (left ?? right) : fork(left, right, length, bits)
}

/** The next hop of all addresses of a network, if there is one, and no address is free. */
function whole(tree: Tree): IpText | undefined {
  if (!isFork(tree)) return tree.nexthop
  const [left, right] = tree.sides
  if (left.length !== tree.length + 1 || right.length !== tree.length + 1) return undefined
  const hop = whole(left)
  return hop !== undefined && hop === whole(right) ? hop : undefined
}

type Emit = (tree: Tree, nexthop: IpText) => void

function exact(tree: Tree, emit: Emit): void {
  const hop = whole(tree)
  if (hop !== undefined) emit(tree, hop)
  else if (isFork(tree)) for (const side of tree.sides) exact(side, emit)
}

function cover(tree: Tree, shortest: number, above: IpText | undefined, emit: Emit): void {
  if (tree.length < shortest && isFork(tree)) {
    for (const side of tree.sides) cover(side, shortest, undefined, emit)
    return
  }
  let hop = above
  if (hop === undefined || !tree.hops.has(hop)) {
    // The same choice for the same addresses, so that nothing changes without a reason.
    hop = [...tree.hops].toSorted()[0]
    if (hop !== undefined) emit(tree, hop)
  }
  if (isFork(tree)) for (const side of tree.sides) cover(side, shortest, hop, emit)
}

const valueOf = ({ ip }: Cidr): bigint => BigInt(ip.value)
const ipOf = (value: bigint, family: 4 | 6): Ip => (family === 4 ? ip4(Number(value)) : ip6(value))

/** Routes that say the same in fewer words. Destinations must not contain each other; two next hops for one: the first counts. */
export function aggregate(routes: readonly WantedRoute[], how: Aggregation): readonly WantedRoute[] {
  if (how === 'none') return routes
  const found: WantedRoute[] = []
  for (const family of [4, 6] as const) {
    const bits = bitsOf(family)
    const leaves = new Map<CidrText, Leaf>()
    for (const { destination, nexthop } of routes) {
      if (familyOf(destination) !== family || leaves.has(destination)) continue
      const cidr = parseCidr(destination)
      leaves.set(destination, { first: valueOf(cidr), length: cidr.length, nexthop, hops: new Set([nexthop]) })
    }
    const rising = [...leaves.values()].toSorted((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
    const tree = grow(rising, bits)
    if (tree === undefined) continue
    const emit: Emit = ({ first, length }, nexthop) => {
      const destination = formatCidr(networkOf({ ip: ipOf(first, family), length }))
      found.push({ destination, nexthop: formatIp(parseIp(nexthop)) })
    }
    if (how === 'exact') exact(tree, emit)
    else cover(tree, COVER_LENGTH[family], undefined, emit)
  }
  return found
}
