/** What a lab should be: the flags of `heddle lab up`, checked. */

import { LabError } from './error.ts'

export const backends = ['vxlan', 'directrouting', 'host-gw', 'udp', 'ipip', 'wireguard', 'alloc'] as const
/** Of one's own families, IPv4 first. */
export const familiesOf = ({ ipv4, ipv6 }: Pick<LabSpec, 'ipv4' | 'ipv6'>): readonly (4 | 6)[] => [
  ...(ipv4 ? [4 as const] : []),
  ...(ipv6 ? [6 as const] : []),
]

/** Where nodes learn of each other: Nodes of Kubernetes, or leases in etcd. */
export const datastores = ['kubernetes', 'etcd'] as const
export type LabDatastore = (typeof datastores)[number]

export const topologies = ['flat', 'routed'] as const

/**
 * How pods of different nodes reach each other. `directrouting` is flannel's vxlan with `DirectRouting`: plain routes within a subnet, tunnel across. With
 * `alloc` the nodes leave it to the network between them: the lab's router has a route for each node, as a cloud's table has.
 */
export type LabBackend = (typeof backends)[number]

/** `flat`: all nodes in one subnet. `routed`: two subnets with a router between them. */
export type LabTopology = (typeof topologies)[number]

/**
 * How pods get into the cloud's networks. `veth`: by routes and proxy neighbours of their VM. `ipvlan`: on the VM's own card, several addresses on one MAC.
 * `passthrough`: each pod has a card of the VM, attached by Nova.
 */
export const cloudModes = ['veth', 'ipvlan', 'passthrough'] as const
export type CloudMode = (typeof cloudModes)[number]

/** Nodes are virtual machines of a cloud: a real Neutron, and beside it a router and an anti-spoofing that do what its database says. */
export interface CloudSpec {
  readonly kind: 'neutron'
  readonly mode: CloudMode
  /** Milliseconds from Neutron's answer until an address of a port may send: its agents need 1,600 to 2,000. */
  readonly filterDelayMs: number
}

export interface LabSpec {
  readonly name: string
  readonly nodes: number
  readonly podsPerNode: number
  readonly backend: LabBackend
  readonly topology: LabTopology
  readonly datastore: LabDatastore
  /** False: IPv6 alone, between nodes too. */
  readonly ipv4: boolean
  readonly ipv6: boolean
  readonly cloud?: CloudSpec | undefined
}

export const MAX_NODES = 100
export const MAX_PODS_PER_NODE = 100
/** Each address is a request or a part of one to Neutron, and its networks are /24. */
export const MAX_CLOUD_NODES = 9
export const MAX_CLOUD_PODS = 9

/** Short enough that socket paths below the state directory stay under the 108 bytes of sun_path. */
const NAME = /^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/

export const defaultSpec: LabSpec = {
  name: 'lab',
  nodes: 3,
  podsPerNode: 2,
  backend: 'vxlan',
  topology: 'flat',
  datastore: 'kubernetes',
  ipv4: true,
  ipv6: false,
}

/** Returns the name if it is one for a lab. Throws `LabError` `bad-name`: the name becomes a directory and a prefix of namespaces. */
export function labName(name: string): string {
  if (NAME.test(name)) return name
  throw new LabError(
    'bad-name',
    `${JSON.stringify(name.slice(0, 64))} cannot name a lab`,
    'Use 1 to 20 lower-case letters, digits and dashes, with a letter or digit at both ends, such as "lab" or "lab-2".',
  )
}

/** Completes and checks a specification. Throws `LabError` `bad-spec` naming the field, the value and the wish. */
export function labSpec(given: Partial<LabSpec>): LabSpec {
  const spec: LabSpec = { ...defaultSpec, ...given, ...(given.cloud === undefined ? {} : inCloud(given)) }
  labName(spec.name)
  requireCount('nodes', spec.nodes, MAX_NODES)
  if (spec.cloud === undefined || spec.podsPerNode !== 0) requireCount('pods', spec.podsPerNode, MAX_PODS_PER_NODE)
  requireOneOf('backend', spec.backend, backends)
  requireOneOf('topology', spec.topology, topologies)
  requireOneOf('datastore', spec.datastore, datastores)
  if (spec.datastore === 'etcd' && !spec.ipv4)
    throw new LabError(
      'bad-spec',
      'leases in etcd have an IPv4 subnet, and IPv4 is switched off',
      'Use --ipv6 instead of --ipv6-only, or leave --datastore out.',
    )
  if (spec.datastore === 'etcd' && spec.cloud !== undefined)
    throw new LabError('bad-spec', 'datastore is etcd, and the cloud has its own', 'Leave --datastore or --cloud out.')
  if (!spec.ipv4 && !spec.ipv6)
    throw new LabError('bad-spec', 'neither IPv4 nor IPv6 is asked for', 'Leave at least one of them on.')
  if ((spec.backend === 'ipip' || spec.backend === 'udp') && spec.ipv6) {
    throw new LabError(
      'bad-spec',
      `backend ${spec.backend} carries IPv4 only, and IPv6 is asked for`,
      'Use --backend vxlan, wireguard, host-gw or alloc with IPv6, or leave IPv6 out.',
    )
  }
  if (spec.backend === 'host-gw' && spec.topology === 'routed') {
    throw new LabError(
      'bad-spec',
      'backend host-gw does not work in topology routed: its routes name the other node itself as next hop, and a next hop must be in the same subnet',
      'Use --backend directrouting, which tunnels only between subnets, or --topology flat.',
    )
  }
  return spec
}

/** In a cloud, its networks carry the pods' packets: there is no backend to choose, and half of the nodes are in a second network. */
function inCloud({ backend, topology, ipv6, ipv4, nodes, podsPerNode, cloud }: Partial<LabSpec>): Partial<LabSpec> {
  if (cloud?.kind !== 'neutron') requireOneOf('cloud', String(cloud?.kind), ['neutron'])
  requireOneOf('mode', cloud?.mode ?? '', cloudModes)
  if (
    !Number.isInteger(cloud?.filterDelayMs) ||
    (cloud?.filterDelayMs ?? -1) < 0 ||
    (cloud?.filterDelayMs ?? 0) > 10_000
  ) {
    throw new LabError('bad-spec', `filter delay is ${cloud?.filterDelayMs}`, 'Give milliseconds from 0 to 10000.')
  }
  if (backend !== undefined && backend !== defaultSpec.backend && backend !== 'alloc') {
    throw new LabError('bad-spec', `backend is ${backend}, and the cloud carries pods itself`, 'Leave --backend out.')
  }
  if (ipv6 === true || ipv4 === false)
    throw new LabError('bad-spec', "IPv6 is asked for, and the cloud's networks have IPv4 only", 'Leave it out.')
  if (topology !== undefined && topology !== defaultSpec.topology && topology !== 'routed')
    throw new LabError('bad-spec', `topology is ${topology}`, 'Leave --topology out.')
  if ((nodes ?? 0) > MAX_CLOUD_NODES) requireCount('nodes', nodes ?? 0, MAX_CLOUD_NODES)
  if ((podsPerNode ?? 0) > MAX_CLOUD_PODS) requireCount('pods', podsPerNode ?? 0, MAX_CLOUD_PODS)
  return { backend: 'alloc', topology: 'routed' }
}

function requireCount(field: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return
  throw new LabError('bad-spec', `${field} is ${value}`, `Give a whole number from 1 to ${max}.`)
}

function requireOneOf(field: string, value: string, allowed: readonly string[]): void {
  if (allowed.includes(value)) return
  throw new LabError('bad-spec', `${field} is ${JSON.stringify(value)}`, `Give one of ${allowed.join(', ')}.`)
}
