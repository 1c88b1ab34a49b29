/** What dead nodes left in the cloud, and what is done about it. Pure. */

import { containsCidr, parseCidr, tryParseCidr, type Cidr } from '#ip/prefix.ts'
import { markOf, UNNAMED_CLUSTER, type Mark } from '#openstack/mark.ts'
import type { FloatingIp } from '#openstack/neutron/floating-ip.ts'
import type { AddressPair, Port } from '#openstack/neutron/port.ts'
import { namesOf, type NodeView } from './node-view.ts'
import { isServerPort, serversOf } from './servers.ts'

export interface GcView {
  readonly cluster: string
  readonly nodes: readonly NodeView[]
  /** The nodes are known for certain: not suspiciously few, and somebody is there. */
  readonly isCertain: boolean
  readonly ports: readonly Port[]
  readonly floating: readonly FloatingIp[]
  /** Ids that nobody alive owned in the round before. */
  readonly doubted: ReadonlySet<string>
  /** Objects that are removed in one round. */
  readonly limit: number
}

/** One object that goes, with what has to go before it. */
export type Leftover =
  | {
      readonly kind: 'port'
      readonly id: string
      readonly mark: Mark
      /** Floating IPs that lead to it: whoever gets its address next must not get these too. */
      readonly unpoint: readonly string[]
      /** Of the node's own port: what lets pods use addresses that this port reserves. */
      readonly pairs:
        | { readonly port: string; readonly keep: readonly AddressPair[]; readonly revision: number }
        | undefined
      /** It is a card of this server. */
      readonly server: string | undefined
    }
  | { readonly kind: 'floating-ip'; readonly id: string; readonly mark: Mark }

export interface GcPlan {
  readonly remove: readonly Leftover[]
  /** For the next round's `doubted`. */
  readonly doubted: ReadonlySet<string>
  /** Without an owner now, those of `remove` included. */
  readonly found: readonly { readonly id: string; readonly mark: Mark }[]
}

const pairCidr = (pair: AddressPair): Cidr | undefined =>
  tryParseCidr(
    pair.ip_address.includes('/') ? pair.ip_address : `${pair.ip_address}/${pair.ip_address.includes(':') ? 128 : 32}`,
  )

/** The pairs of a node's port without those for addresses that a port reserves; undefined where there are none. */
function pairsOf(
  port: Port,
  mark: Mark,
  byId: ReadonlyMap<string, Port>,
): Extract<Leftover, { kind: 'port' }>['pairs'] {
  const owner = mark.subject === undefined ? undefined : byId.get(mark.subject)
  if (owner === undefined || (mark.kind !== 'prefix' && mark.kind !== 'address')) return undefined
  const reserved = port.fixed_ips.map((fixed) =>
    parseCidr(`${fixed.ip_address}/${fixed.ip_address.includes(':') ? 128 : 32}`),
  )
  const keep = owner.allowed_address_pairs.filter((pair) => {
    const cidr = pairCidr(pair)
    // A pair that reaches beyond what this port reserves is not its own.
    return cidr === undefined || !reserved.some((one) => containsCidr(cidr, one)) || sizeBeyond(cidr, reserved)
  })
  if (keep.length === owner.allowed_address_pairs.length) return undefined
  return { port: owner.id, keep, revision: owner.revision_number }
}

const sizeBeyond = (cidr: Cidr, reserved: readonly Cidr[]): boolean =>
  BigInt(reserved.filter((one) => containsCidr(cidr, one)).length) <
  1n << BigInt((cidr.ip.family === 4 ? 32 : 128) - cidr.length)

export function planGc(view: GcView): GcPlan {
  const nothing: GcPlan = { remove: [], doubted: new Set(), found: [] }
  if (view.cluster === UNNAMED_CLUSTER || view.cluster === '') return nothing
  // Doubts are kept for when one knows more.
  if (!view.isCertain || view.nodes.length === 0) return { ...nothing, doubted: view.doubted }
  const servers = new Set(view.nodes.flatMap((node) => [...serversOf(node, view.ports)]))
  const alive = new Set(view.nodes.flatMap(namesOf).map((name) => name.toLowerCase())).union(servers)
  const byId = new Map(view.ports.map((port) => [port.id, port]))
  const isDead = (mark: Mark | undefined): mark is Mark =>
    mark !== undefined && mark.cluster === view.cluster && !alive.has(mark.node.toLowerCase())
  /** A server whose Node was deleted and registered anew has another UID, and the same cards under the same pods. */
  const isUsed = (port: Port | undefined): boolean =>
    port !== undefined && isServerPort(port) && servers.has(port.device_id.toLowerCase())

  const leftovers: Leftover[] = []
  for (const port of view.ports) {
    const mark = markOf(port)
    if (!isDead(mark) || mark.kind === 'floating-ip') continue
    if (isUsed(port) || isUsed(byId.get(mark.subject ?? ''))) continue
    leftovers.push({
      kind: 'port',
      id: port.id,
      mark,
      unpoint: view.floating.filter((one) => one.port_id === port.id).map(({ id }) => id),
      pairs: pairsOf(port, mark, byId),
      server: isServerPort(port) ? port.device_id : undefined,
    })
  }
  for (const one of view.floating) {
    const mark = markOf(one)
    if (!isDead(mark) || mark.kind !== 'floating-ip' || isUsed(byId.get(one.port_id ?? ''))) continue
    leftovers.push({ kind: 'floating-ip', id: one.id, mark })
  }
  const remove = leftovers.filter(({ id }) => view.doubted.has(id)).slice(0, view.limit)
  return {
    remove,
    doubted: new Set(leftovers.map(({ id }) => id)),
    found: leftovers.map(({ id, mark }) => ({ id, mark })),
  }
}
