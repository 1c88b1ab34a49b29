/** Which questions a check of a lab in a cloud asks: the article's matrix, as a pure function of the view. */

import type { IpText } from '#ip/text.ts'
import { reach, size, type Check, type Group, type PortCheck, type SourceCheck } from '../check/cases.ts'
import type { LabView, NodeView, Place, PodView } from '../check/view.ts'
import { POD_PORT } from '../plan.ts'
import { serviceIp } from './plan.ts'

export interface FloatingView {
  readonly ip: IpText
  readonly fixed: IpText
}

export interface CloudView {
  readonly lab: LabView
  /** The network of each node, by name. */
  readonly networks: ReadonlyMap<string, string>
  /** The router's own address outside: who has no floating IP is seen as it. */
  readonly gateway: IpText | undefined
  readonly floating: readonly FloatingView[]
}

const FAMILY = 4

/** Without pods it asks about the VMs alone. */
export function cloudCases(view: CloudView): Check[] {
  const { nodes } = view.lab
  const pods = nodes.flatMap((node) => node.pods)
  return [
    ...pods.flatMap((from) =>
      pods.flatMap((to) => (from === to ? [] : reach(groupOf(view, from, to), FAMILY, from, to))),
    ),
    ...pods.flatMap((from) => nodes.flatMap((to) => reach('pod-node', FAMILY, from, to))),
    ...nodes.flatMap((from) => pods.flatMap((to) => reach('node-pod', FAMILY, from, to))),
    ...nodes.flatMap((from) => nodes.flatMap((to) => (from === to ? [] : reach('node-node', FAMILY, from, to)))),
    ...pods.flatMap((from) => internet(view, 'pod-internet', from)),
    ...nodes.flatMap((from) => internet(view, 'node-internet', from)),
    ...pods.flatMap((from) => services(nodes, 'service', from)),
    ...nodes.flatMap((from) => services(nodes, 'node-service', from)),
    ...inward(view, pods),
    ...sizes(nodes),
  ]
}

function groupOf({ networks }: CloudView, from: PodView, to: PodView): Group {
  if (from.node === to.node) return 'same-node'
  return networks.get(from.node) === networks.get(to.node) ? 'same-network' : 'other-network'
}

function internet({ lab, gateway, floating }: CloudView, group: Group, from: Place): SourceCheck[] {
  const [ip] = lab.outside.ips
  const source = floating.find(({ fixed }) => from.ips.includes(fixed))?.ip ?? gateway
  return ip === undefined || source === undefined
    ? []
    : [{ kind: 'source', group, family: FAMILY, from, to: lab.outside, ip, source }]
}

const port = (group: Group, from: Place, to: Place, ip: IpText, pod: PodView): PortCheck[] =>
  (['tcp', 'udp'] as const).map((protocol) => ({
    kind: 'port',
    group,
    family: FAMILY,
    from,
    to,
    ip,
    protocol,
    port: POD_PORT,
    pod,
  }))

/** The services of the first pod of every node: one of them is local. A pod's own is left out, which needs kube-proxy's hairpin. */
const services = (nodes: readonly NodeView[], group: Group, from: Place): PortCheck[] =>
  nodes.flatMap(({ pods: [first] }) =>
    first === undefined || first.name === from.name ? [] : port(group, from, first, serviceIp(first.name), first),
  )

function inward({ lab, floating }: CloudView, pods: readonly PodView[]): PortCheck[] {
  const machines = lab.nodes.map((node): PodView => ({ ...node, node: node.name, mtu: 0 }))
  return floating.flatMap(({ ip, fixed }) => {
    const target = [...pods, ...machines].find(({ ips }) => ips.includes(fixed))
    return target === undefined ? [] : port('floating-ip', lab.outside, target, ip, target)
  })
}

/** From the first pod of every node to that of every other one: exactly the MTU goes through, one byte more is refused. */
const sizes = (nodes: readonly NodeView[]): Check[] =>
  nodes.flatMap(({ name, pods: [from] }) =>
    nodes.flatMap(({ name: other, pods: [to] }) => {
      const ip = to?.ips[0]
      if (from === undefined || to === undefined || ip === undefined || name === other) return []
      return [
        size({ group: 'mtu', family: FAMILY, from, to, ip }, to.mtu, 'reply'),
        size({ group: 'above-mtu', family: FAMILY, from, to, ip }, from.mtu + 1, 'too-big'),
      ]
    }),
  )
