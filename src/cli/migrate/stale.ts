/** Which entries belong to nodes that are gone. Pure. Of no cluster, or one that does not know this node, nothing is said: an empty list deletes nobody. */

import type { NodeView } from '#flannel/node-view.ts'
import { parseVtepData } from '#flannel/backend-data.ts'
import { parseCidr, tryParseCidr, formatCidr } from '#ip/prefix.ts'
import { formatIp, tryParseIp } from '#ip/address.ts'
import type { Facts } from './facts.ts'
import type { FlannelEntry } from './entry.ts'

export type Verdict = 'fresh' | 'stale' | 'unknown'

/** A function, because one reading of five thousand nodes serves as many entries. */
export function judgeEntries({
  cluster,
  subnetFile: { content },
}: Pick<Facts, 'cluster' | 'subnetFile'>): (entry: FlannelEntry) => Verdict {
  const unknown = (): Verdict => 'unknown'
  if (typeof cluster === 'string' || typeof content !== 'object') return unknown
  const own = cluster.nodes.find(({ name }) => name === cluster.node)
  const ownSubnets = new Set(subnetsOf(own === undefined ? [] : [own]))
  if (ownSubnets.size === 0 || !content.subnets.every((subnet) => ownSubnets.has(formatCidr(parseCidr(subnet)))))
    return unknown
  const subnets = new Set([...subnetsOf(cluster.nodes), ...content.networks])
  const hops = new Set([...subnets].map((subnet) => formatIp(parseCidr(subnet).ip)))
  const macs = new Set(cluster.nodes.flatMap(macsOf))
  // Whoever cannot be read at the moment is not gone.
  const unread = new Set(cluster.nodes.filter((node) => macsOf(node).length === 0).flatMap(addressesOf))
  return (entry) => {
    const isKnown =
      entry.kind === 'route'
        ? subnets.has(entry.dst)
        : entry.kind === 'neigh'
          ? hops.has(entry.ip)
          : macs.has(entry.mac) || unread.has(entry.dst)
    return isKnown ? 'fresh' : 'stale'
  }
}

/** In canonical text; what is no prefix is left out. */
const subnetsOf = (nodes: readonly NodeView[]) =>
  nodes.flatMap(({ podCidrs }) =>
    podCidrs.flatMap((text) => {
      const cidr = tryParseCidr(text)
      return cidr === undefined ? [] : [formatCidr(cidr)]
    }),
  )

function macsOf({ annotations: { backendData, backendV6Data } }: NodeView) {
  return [backendData, backendV6Data].flatMap((data) => {
    try {
      return [parseVtepData(data, 'backend-data').mac]
    } catch {
      return []
    }
  })
}

const addressesOf = ({ annotations: { publicIp, publicIpv6 } }: NodeView) =>
  [publicIp, publicIpv6].flatMap((text) => {
    const ip = text === undefined ? undefined : tryParseIp(text)
    return ip === undefined ? [] : [formatIp(ip)]
  })
