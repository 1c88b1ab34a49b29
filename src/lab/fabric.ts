/** The lab's machines and cables: namespaces, links, addresses and routes, as a data centre has them before Kubernetes comes. */

import { writeFileSync } from 'node:fs'
import { cidrText, familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { addrMessage } from '#netlink/addr.ts'
import { createLink, getLink, setLink } from '#netlink/link.ts'
import type { Message } from '#netlink/message.ts'
import { neighMessage } from '#netlink/neigh.ts'
import { routeMessage } from '#netlink/route.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { createNetnsOnPool, deleteNetns, inNetns, openNetns } from '#sys/netns.ts'
import { netnsPath } from './paths.ts'
import { namespacesOf, UNDERLAY_MTU, type LabPlan, type Located, type NodePlan } from './plan.ts'

/**
 * From so many nodes on, every node knows the others of its subnet by permanent neighbour entries. The limits of the neighbour tables
 * (gc_thresh) count the learned entries of all namespaces of a machine together, and n nodes that talk to each other need n² of them.
 */
const STATIC_NEIGHBOURS_FROM = 20

/** Makes every namespace of the plan, with its loopback up. Throws when one exists already. */
export async function makeNamespaces(plan: LabPlan): Promise<void> {
  await Promise.all(namespacesOf(plan).map((name) => createNetnsOnPool(netnsPath(name))))
  for (const name of namespacesOf(plan)) {
    const netns = netnsPath(name)
    using netlink = NetlinkSocket.open({ netns })
    setLink(netlink, 'lo', { up: true })
    // A new namespace inherits IPv4 settings from the machine; a lab is to be the same on every machine.
    writeSysctls(netns, {
      'net/ipv4/ip_forward': '0',
      'net/ipv4/conf/all/rp_filter': '0',
      'net/ipv4/conf/default/rp_filter': '0',
      // A router cannot ask for neighbours before its link-local address has passed duplicate address detection, which takes up to two seconds.
      'net/ipv6/conf/default/accept_dad': '0',
    })
  }
}

/** Removes namespaces that are there. The kernel takes their links away with them, a little later. Returns how many there were. */
export const removeNamespaces = (names: readonly string[]): number =>
  names.filter((name) => deleteNetns(netnsPath(name))).length

/** Connects nodes and the outside to the fabric, with addresses and default routes. */
export function connect(plan: LabPlan): void {
  const netns = netnsPath(plan.fabric.namespace)
  // A router that sends packets back where they came from would tell nodes of a shorter way.
  const silent = { 'net/ipv4/conf/all/send_redirects': '0', 'net/ipv4/conf/default/send_redirects': '0' }
  writeSysctls(netns, { 'net/ipv4/ip_forward': '1', 'net/ipv6/conf/all/forwarding': '1', ...silent })
  using fabric = NetlinkSocket.open({ netns })
  const switches = new Map(
    plan.fabric.switches.map(({ name, addresses }) => {
      createLink(fabric, { name, info: { kind: 'bridge' }, mtu: UNDERLAY_MTU, up: true })
      const { index } = getLink(fabric, name)
      send(fabric, addressMessages(index, addresses))
      return [name, index]
    }),
  )
  plugIn(fabric, 'outside', { namespace: plan.outside.namespace })
  send(fabric, addressMessages(getLink(fabric, 'outside').index, plan.fabric.toOutside))
  configureOutside(plan)
  for (const node of plan.nodes) {
    plugIn(fabric, node.name, { namespace: node.namespace, mac: node.mac, master: switches.get(node.switch) })
    configureNode(plan, node)
  }
  if (plan.spec.backend === 'alloc') send(fabric, cloudRoutes(plan, switches))
}

/** What a cloud's route table says: each node's pods are behind the node. */
const cloudRoutes = (plan: LabPlan, switches: ReadonlyMap<string, number>): Message[] =>
  plan.nodes.flatMap((node) =>
    node.podCidrs.map((dst) => {
      const gateway = node.underlay.find(({ ip }) => familyOf(ip) === familyOf(dst))?.ip
      return routeMessage('add', { dst, gateway, oif: switches.get(node.switch) })
    }),
  )

/** A cable: the fabric's end is named after what it leads to, the other end is eth0. */
function plugIn(
  fabric: NetlinkSocket,
  name: string,
  to: { readonly namespace: string; readonly mac?: NodePlan['mac']; readonly master?: number | undefined },
): void {
  const netnsFd = openNetns(netnsPath(to.namespace))
  try {
    const peer = { name: 'eth0', netnsFd, mac: to.mac, mtu: UNDERLAY_MTU }
    createLink(fabric, { name, mtu: UNDERLAY_MTU, info: { kind: 'veth', data: { peer } } })
    setLink(fabric, name, { master: to.master, up: true })
  } finally {
    nativeSys().close(netnsFd)
  }
}

function configureOutside(plan: LabPlan): void {
  using netlink = NetlinkSocket.open({ netns: netnsPath(plan.outside.namespace) })
  const index = bringUp(netlink)
  send(netlink, [
    ...addressMessages(index, plan.outside.addresses),
    ...plan.outside.routes.map((dst, i) => routeMessage('add', { dst, gateway: plan.outside.gateways[i], oif: index })),
  ])
}

function configureNode(plan: LabPlan, node: NodePlan): void {
  using netlink = NetlinkSocket.open({ netns: netnsPath(node.namespace) })
  const index = bringUp(netlink)
  send(netlink, [
    ...addressMessages(index, node.underlay),
    ...node.gateways.map((gateway) => defaultRoute(gateway, index)),
    ...(plan.nodes.length < STATIC_NEIGHBOURS_FROM ? [] : neighbourMessages(plan, node, index)),
  ])
}

/** eth0's index, once it is up. */
function bringUp(netlink: NetlinkSocket): number {
  setLink(netlink, 'eth0', { up: true })
  return getLink(netlink, 'eth0').index
}

const addressMessages = (index: number, located: readonly Located[]): Message[] =>
  // The plan keeps addresses apart: waiting for duplicate address detection would only cost a second.
  located.map(({ ip, address }) => addrMessage('add', { index, address, nodad: ip.includes(':') }))

const defaultRoute = (gateway: IpText, oif: number): Message =>
  routeMessage('add', { dst: cidrText(gateway.includes(':') ? '::/0' : '0.0.0.0/0'), gateway, oif })

const neighbourMessages = (plan: LabPlan, node: NodePlan, index: number): Message[] =>
  plan.nodes
    .filter((other) => other !== node && other.switch === node.switch)
    .flatMap((other) => other.underlay.map(({ ip }) => neighMessage('add', { index, ip, mac: other.mac })))

/** One batch; the first failure is thrown. */
function send(netlink: NetlinkSocket, messages: readonly Message[]): void {
  const error = netlink.batch(messages).find((result) => result !== undefined)
  if (error !== undefined) throw error
}

function writeSysctls(netns: string, values: Readonly<Record<string, string>>): void {
  inNetns(netns, () => {
    for (const [key, value] of Object.entries(values)) writeFileSync(`/proc/sys/${key}`, value)
  })
}
