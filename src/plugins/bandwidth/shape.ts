/**
 * A limit as qdiscs: a token bucket (tbf) for all traffic; where networks are excepted, two classes (htb) with a filter for each network. Handles, class numbers and
 * priorities are the reference plugin's, so that either finds what the other made.
 */

import type { Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import { addQdiscMessage, deleteQdiscMessage, describeQdisc, listQdiscs, type SeenQdisc } from '#netlink/qdisc.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { handleOf, holds, TC_H } from '#netlink/tc.ts'
import { addHtbClassMessage, listHtbClasses } from '#netlink/tc-class.ts'
import { addFilterMessage, listFilters, type Filter } from '#netlink/tc-filter.ts'
import type { Limit, Scope } from './config.ts'

export interface Shape {
  readonly limit: Limit
  readonly scope: Scope
  /** Which address of a packet is the other side's. */
  readonly other: 'source' | 'destination'
}

/** How long a packet may wait before it is dropped. */
const LATENCY_S = 0.025

const MAX_U32 = 0xffff_ffff
const ETHERNET_HEADER = 14

/** Minor numbers of the classes. */
const SHAPED = 48
const UNSHAPED = 1

/** Bytes per second: no limit that any device reaches. Its bucket lasts a millisecond, so that no packet waits for a timer. */
const UNLIMITED = { rate: 100_000_000_000, burst: 100_000_000 }

/** A bucket smaller than a frame would let no frame through, ever. */
const bucketOf = ({ burst }: Limit, { mtu }: Link): number => Math.max(burst, mtu + ETHERNET_HEADER)

/** Like `tc qdisc add dev D root …` and what belongs to it; the first message fails with EEXIST where there is a qdisc already. */
export function shapeMessages(link: Link, { limit, scope, other }: Shape): readonly [Message, ...Message[]] {
  const { index } = link
  const burst = bucketOf(limit, link)
  if (scope.of === 'all') {
    const most = Math.min(MAX_U32, Math.floor(limit.rate * LATENCY_S) + burst)
    return [addQdiscMessage(index, { kind: 'tbf', rate: limit.rate, burst, limit: most })]
  }
  return [
    addQdiscMessage(index, { kind: 'htb', defaultClass: defaultClassOf(scope) }),
    addHtbClassMessage(index, { minor: SHAPED, rate: limit.rate, burst }),
    addHtbClassMessage(index, { minor: UNSHAPED, ...UNLIMITED }),
    ...filtersOf(scope, other).map((filter) => addFilterMessage(index, handleOf(1), filter)),
  ]
}

const defaultClassOf = (scope: Scope): number => (scope.of === 'only' ? UNSHAPED : SHAPED)

const filtersOf = (scope: Scope, end: Shape['other']): readonly Filter[] =>
  scope.of === 'all'
    ? []
    : [...new Set(scope.networks)].map((network) => ({
        class: handleOf(1, scope.of === 'only' ? SHAPED : UNSHAPED),
        end,
        network,
      }))

/** What takes a limit off, whichever kind it was; the kinds that it is not are refused, which is no failure. */
export const unshapeMessages = (index: number): readonly Message[] => [
  deleteQdiscMessage(index, 'tbf'),
  deleteQdiscMessage(index, 'htb'),
]

/** What is wrong with a device's limit; undefined when it is as it should be. */
export function wrongShape(netlink: NetlinkSocket, link: Link, shape: Shape): string | undefined {
  const root = listQdiscs(netlink, link.index).find(({ parent }) => parent === TC_H.ROOT)
  if (root === undefined) return `${link.name} has no limit`
  const { info } = root
  if (info.kind === 'tbf' && shape.scope.of === 'all') return wrongRate(link, shape.limit, info.rate, info.ticks)
  // For all traffic too: some versions of the reference make classes always.
  if (info.kind === 'htb') return wrongClasses(netlink, link, shape, info)
  return `${link.name} has the qdisc ${describeQdisc(root)} instead of its limit`
}

function wrongRate(link: Link, limit: Limit, rate: number, ticks: number): string | undefined {
  if (rate !== limit.rate) return `${link.name} is limited to ${rate * 8} bit/s, not ${limit.rate * 8}`
  const fits = [limit.burst, bucketOf(limit, link)].some((burst) => holds(ticks, burst, rate))
  return fits ? undefined : `${link.name} has another burst than ${limit.burst * 8} bit`
}

function wrongClasses(
  netlink: NetlinkSocket,
  link: Link,
  { limit, scope, other }: Shape,
  { defaultClass }: Extract<SeenQdisc['info'], { kind: 'htb' }>,
): string | undefined {
  if (defaultClass !== defaultClassOf(scope)) return `${link.name} limits other traffic by default than it should`
  const shaped = listHtbClasses(netlink, link.index).find(({ handle }) => handle === handleOf(1, SHAPED))
  if (shaped === undefined) return `${link.name} has lost the class with the limit`
  const seen = new Set(listFilters(netlink, link.index, handleOf(1)).map(keyOf))
  const missing = filtersOf(scope, other).find((filter) => !seen.has(keyOf(filter)))
  if (missing !== undefined && 'network' in missing) return `${link.name} has lost the filter for ${missing.network}`
  return wrongRate(link, limit, shaped.rate, shaped.ticks)
}

const keyOf = (filter: Filter | 'other'): string =>
  filter === 'other' || 'redirect' in filter ? 'other' : `${filter.class} ${filter.end} ${filter.network}`
