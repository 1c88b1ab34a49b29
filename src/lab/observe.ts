/** What the kernel holds in the lab's namespaces now. */

import { parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { listAddrs } from '#netlink/addr.ts'
import { findLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { isNamespaceFile } from '#sys/netns.ts'
import type { LabView, NodeView, PodView } from './check/view.ts'
import { netnsPath } from './paths.ts'
import { LabError } from './error.ts'
import { familiesOf } from './spec.ts'
import { namespacesOf, type LabPlan, type NodePlan, type PodPlan } from './plan.ts'

export interface Interface {
  readonly ips: readonly IpText[]
  readonly mtu: number
}

/** Global addresses and MTU of eth0 in a namespace; undefined while there is no such namespace or no eth0. */
export function observeEth0(namespace: string): Interface | undefined {
  const netns = netnsPath(namespace)
  if (!isNamespaceFile(netns)) return undefined
  using netlink = NetlinkSocket.open({ netns })
  const link = findLink(netlink, 'eth0')
  if (link === undefined) return undefined
  const addrs = listAddrs(netlink, { index: link.index }).filter(({ scope }) => scope === 'global')
  return { ips: addrs.map(({ address }) => formatIp(parseIpNet(address).ip)), mtu: link.mtu }
}

/** Throws `LabError` `damaged` when a namespace of the lab is gone: nothing can be asked then. */
export function requireNamespaces(plan: LabPlan): void {
  const gone = namespacesOf(plan).filter((name) => !isNamespaceFile(netnsPath(name)))
  if (gone.length === 0) return
  const { name } = plan.spec
  throw new LabError(
    'damaged',
    `lab ${name} has lost ${gone.length} of its network namespaces: ${gone.slice(0, 3).join(', ')}${gone.length > 3 ? ' …' : ''}`,
    `Make it anew: heddle lab down --name ${name}, then heddle lab up.`,
  )
}

/** The lab as it is: a pod that has no eth0 yet is shown without addresses. */
export function observeLab(plan: LabPlan): LabView {
  return {
    families: familiesOf(plan.spec),
    nodes: plan.nodes.map(viewNode),
    outside: {
      name: 'outside',
      namespace: plan.outside.namespace,
      ips: plan.outside.addresses.map(({ ip }) => ip),
    },
  }
}

const viewNode = (node: NodePlan): NodeView => ({
  name: node.name,
  namespace: node.namespace,
  ips: node.underlay.map(({ ip }) => ip),
  pods: node.pods.map(viewPod),
})

function viewPod(pod: PodPlan): PodView {
  const eth0 = observeEth0(pod.namespace)
  return {
    name: pod.name,
    namespace: pod.namespace,
    node: pod.node,
    ips: eth0?.ips ?? [],
    mtu: eth0?.mtu ?? 0,
    hostPort: pod.hostPort,
  }
}
