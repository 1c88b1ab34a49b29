/** Which questions a check asks: a pure function of the view. */

import { familyOf } from '#ip/prefix.ts'
import type { Family, IpText } from '#ip/text.ts'
import { POD_PORT, UNDERLAY_MTU } from '../plan.ts'
import type { LabView, NodeView, Place, PodView } from './view.ts'

/** Groups of a lab whose nodes carry the packets between pods. */
export const backendGroups = [
  'pod-pod',
  'pod-node',
  'node-pod',
  'pod-outside',
  'mtu',
  'above-mtu',
  'host-port',
] as const satisfies readonly Group[]

/** All groups, those of a cloud too, in the order in which they are shown. */
export const groups = [
  'pod-pod',
  'same-node',
  'same-network',
  'other-network',
  'pod-node',
  'node-pod',
  'node-node',
  'pod-outside',
  'pod-internet',
  'node-internet',
  'service',
  'node-service',
  'floating-ip',
  'mtu',
  'above-mtu',
  'host-port',
] as const
export type Group = (typeof groups)[number]

interface Common {
  readonly group: Group
  readonly family: Family
  readonly from: Place
  readonly to: Place
  readonly ip: IpText
}

/** An echo request is answered. */
export interface ReachCheck extends Common {
  readonly kind: 'reach'
}

/** A packet of exactly this length that must not be fragmented is answered, or refused as too big. */
export interface SizeCheck extends Common {
  readonly kind: 'size'
  readonly length: number
  readonly expect: 'reply' | 'too-big'
}

/** The other side sees this source address: the node's, when the node masquerades. */
export interface SourceCheck extends Common {
  readonly kind: 'source'
  readonly source: IpText
}

/** A node's port leads to the pod. */
export interface PortCheck extends Common {
  readonly kind: 'port'
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  /** The pod that must answer. */
  readonly pod: PodView
}

/** What is too long for the pod's link is answered from the node by ICMP with this MTU: path MTU discovery works through the port mapping. */
export interface PathMtuCheck extends Common {
  readonly kind: 'path-mtu'
  readonly port: number
  readonly pod: PodView
}

export type Check = ReachCheck | SizeCheck | SourceCheck | PortCheck | PathMtuCheck

/** Every question for this lab. Their number grows with the square of the number of pods. */
export function casesFor(view: LabView): Check[] {
  return view.families.flatMap((family) => [
    ...podToPod(view, family),
    ...podToNode(view, family),
    ...nodeToPod(view, family),
    ...podToOutside(view, family),
    ...sizes(view, family),
    ...hostPorts(view, family),
  ])
}

const podsOf = (view: LabView): PodView[] => view.nodes.flatMap((node) => node.pods)

/** A place's address of this family, or nothing where it has none: asking is then pointless, and `missing` says so. */
const ipOf = (place: Place, family: Family): IpText | undefined => place.ips.find((ip) => familyOf(ip) === family)

/** Pods that lack an address of a family of the lab. */
export const missing = (view: LabView): { readonly pod: PodView; readonly family: Family }[] =>
  podsOf(view).flatMap((pod) =>
    view.families.filter((family) => ipOf(pod, family) === undefined).map((family) => ({ pod, family })),
  )

export function reach(group: Group, family: Family, from: Place, to: Place): ReachCheck[] {
  const ip = ipOf(to, family)
  return ip === undefined ? [] : [{ kind: 'reach', group, family, from, to, ip }]
}

const podToPod = (view: LabView, family: Family): Check[] => {
  const pods = podsOf(view)
  return pods.flatMap((from) => pods.flatMap((to) => (from === to ? [] : reach('pod-pod', family, from, to))))
}

const podToNode = (view: LabView, family: Family): Check[] =>
  podsOf(view).flatMap((from) => view.nodes.flatMap((to) => reach('pod-node', family, from, to)))

const nodeToPod = (view: LabView, family: Family): Check[] =>
  view.nodes.flatMap((from) => podsOf(view).flatMap((to) => reach('node-pod', family, from, to)))

const podToOutside = (view: LabView, family: Family): Check[] =>
  view.nodes.flatMap((node) => {
    const ip = ipOf(view.outside, family)
    const source = ipOf(node, family)
    if (ip === undefined || source === undefined) return []
    return node.pods.map((from): SourceCheck => ({
      kind: 'source',
      group: 'pod-outside',
      family,
      from,
      to: view.outside,
      ip,
      source,
    }))
  })

/** From the first pod of every node, and from every node, to the first pod of every other node. */
function sizes(view: LabView, family: Family): Check[] {
  return view.nodes.flatMap((node) => {
    const [first] = node.pods
    if (first === undefined) return []
    return others(view, node).flatMap((other) => {
      const [to] = other.pods
      const ip = to === undefined ? undefined : ipOf(to, family)
      if (to === undefined || ip === undefined) return []
      return [
        size({ group: 'mtu', family, from: first, to, ip }, to.mtu, 'reply'),
        size({ group: 'above-mtu', family, from: first, to, ip }, to.mtu + 1, 'too-big'),
        size({ group: 'mtu', family, from: node, to, ip }, to.mtu, 'reply'),
        // A node without encapsulation has no smaller link to this pod than its own.
        size({ group: 'above-mtu', family, from: node, to, ip }, to.mtu + 1, 'too-big'),
      ]
    })
  })
}

export const size = (common: Common, length: number, expect: SizeCheck['expect']): SizeCheck => ({
  kind: 'size',
  ...common,
  length,
  expect,
})

const others = (view: LabView, node: NodeView): NodeView[] => view.nodes.filter((other) => other !== node)

/** From outside, from the pod itself (hairpin) and from its neighbour on the node. */
function hostPorts(view: LabView, family: Family): Check[] {
  return view.nodes.flatMap((node) => {
    const pod = node.pods.find((pod) => pod.hostPort !== undefined)
    const ip = ipOf(node, family)
    if (pod?.hostPort === undefined || ip === undefined || ipOf(pod, family) === undefined) return []
    const port = pod.hostPort
    const common = { group: 'host-port', family, to: node, ip, port, pod } as const
    const outside: Check[] = [
      { kind: 'port', ...common, from: view.outside, protocol: 'tcp' },
      { kind: 'port', ...common, from: view.outside, protocol: 'udp' },
      ...(pod.mtu < UNDERLAY_MTU ? [{ kind: 'path-mtu', ...common, from: view.outside } as const] : []),
    ]
    const inside = node.pods.slice(0, 2).map((from): PortCheck => ({ kind: 'port', ...common, from, protocol: 'tcp' }))
    return [...outside, ...inside]
  })
}

/** Pods that must answer on POD_PORT while the check runs. */
export const responders = (checks: readonly Check[]): PodView[] => [
  ...new Set(checks.flatMap((check) => ('pod' in check ? [check.pod] : []))),
]

export { POD_PORT }
