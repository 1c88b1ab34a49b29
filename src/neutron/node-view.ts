/** What is used of a Node. All of it is as hostile as any input: what cannot be read is left out, and harms only this Node. */

import * as v from 'valibot'

import { formatIp, tryParseIp, type IpText } from '#ip/address.ts'
import { familyOf, formatCidr, tryParseCidr, type CidrText } from '#ip/prefix.ts'
import type { Family } from '#ip/text.ts'
import { NODE_ADDRESS, NODE_POD_CIDRS, ROUTES_CONDITION } from './annotations.ts'

export interface NodeView {
  readonly name: string
  readonly uid: string
  /** Ids of its server, as kubelet and the cloud provider tell them; usually one. */
  readonly servers: readonly string[]
  /** InternalIPs, in their order; pods' addresses may be among them. */
  readonly addresses: readonly IpText[]
  /** By annotation; counts before all others. */
  readonly chosen: IpText | undefined
  readonly podCidrs: readonly CidrText[]
  /** Its condition {@link ROUTES_CONDITION}; undefined where it has none. */
  readonly routesMissing: boolean | undefined
}

const MAX_ADDRESSES = 1_024
const MAX_CIDRS = 64

const Text = v.fallback(v.pipe(v.string(), v.maxLength(4_096)), '')
const Shape = v.object({
  metadata: v.object({
    name: v.pipe(v.string(), v.maxLength(253)),
    uid: v.pipe(v.string(), v.maxLength(128)),
    annotations: v.fallback(v.record(v.string(), v.unknown()), {}),
  }),
  spec: v.fallback(v.object({ providerID: Text, podCIDR: Text, podCIDRs: v.fallback(v.array(Text), []) }), {
    providerID: '',
    podCIDR: '',
    podCIDRs: [],
  }),
  status: v.fallback(
    v.object({
      addresses: v.fallback(v.array(v.object({ type: Text, address: Text })), []),
      conditions: v.fallback(v.array(v.object({ type: Text, status: Text })), []),
      nodeInfo: v.fallback(v.object({ systemUUID: Text }), { systemUUID: '' }),
    }),
    { addresses: [], conditions: [], nodeInfo: { systemUUID: '' } },
  ),
})

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i

const ips = (texts: readonly string[]): readonly IpText[] => [
  ...new Set(texts.flatMap((text) => tryParseIp(text) ?? []).map(formatIp)),
]

const cidrs = (texts: readonly string[]): readonly CidrText[] => [
  ...new Set(texts.flatMap((text) => tryParseCidr(text) ?? []).map(formatCidr)),
]

const annotation = (annotations: Readonly<Record<string, unknown>>, key: string): string => {
  const value = annotations[key]
  return typeof value === 'string' && value.length <= 4_096 ? value : ''
}

/** @throws v.ValiError what has neither name nor uid */
export function nodeView(node: unknown): NodeView {
  const { metadata, spec, status } = v.parse(Shape, node)
  const { name, uid, annotations } = metadata
  const listed = annotation(annotations, NODE_POD_CIDRS)
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '')
  const ownCidrs = spec.podCIDRs.length > 0 ? spec.podCIDRs : [spec.podCIDR]
  const internal = status.addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address)
  // `openstack:///UUID`, with a region before the last slash where there are several.
  const provider = spec.providerID.startsWith('openstack:') ? (UUID.exec(spec.providerID)?.[0] ?? '') : ''
  const servers = [provider, status.nodeInfo.systemUUID].filter((id) => UUID.test(id)).map((id) => id.toLowerCase())
  const condition = status.conditions.find(({ type }) => type === ROUTES_CONDITION)
  return {
    name,
    uid,
    servers: [...new Set(servers)],
    addresses: ips(internal.slice(0, MAX_ADDRESSES)),
    chosen: ips([annotation(annotations, NODE_ADDRESS).trim()])[0],
    podCidrs: cidrs((listed.length > 0 ? listed : ownCidrs).slice(0, MAX_CIDRS)),
    routesMissing: condition === undefined ? undefined : condition.status === 'True',
  }
}

/** By all of these a mark may name a node: its UID, its server's id, its name. */
export const namesOf = (node: NodeView): readonly string[] => [node.uid, node.name, ...node.servers]

/** The addresses of a family that a node may be reached by. */
export const addressesOf = (node: NodeView, family: Family): readonly IpText[] =>
  node.addresses.filter((address) => familyOf(address) === family)
