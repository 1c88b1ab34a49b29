/** Lays the cables of a wiring: bridges and taps in the namespace `fabric`, cards in VMs, legs of the router. The only part that touches the kernel. */

import { writeFileSync } from 'node:fs'
import { cidrText } from '#ip/prefix.ts'
import { addrMessage, listAddrs } from '#netlink/addr.ts'
import { createLink, deleteLink, findLink, getLink, kindOf, listLinks, setLink } from '#netlink/link.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import { RT_TABLE, RTPROT } from '#netlink/route-names.ts'
import type { Route, SeenRoute } from '#netlink/route-codec.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { inNetns, openNetns } from '#sys/netns.ts'
import { netnsPath } from '../paths.ts'
import type { LabPlan, NodePlan } from '../plan.ts'
import type { Bridge, Cable, Card, Leg, RouterRoute, Wiring } from './wiring.ts'

/** Makes what is missing and removes what is too much. Cards that VMs have moved or renamed stay as they are. */
export async function layCables(plan: LabPlan, router: string, wiring: Wiring): Promise<void> {
  using fabric = NetlinkSocket.open({ netns: netnsPath(plan.fabric.namespace) })
  const links = listLinks(fabric)
  const wanted = new Set([...wiring.cards, ...wiring.legs].map(({ tap }) => tap))
  // Like pulling a card: the other end goes with it, wherever it is.
  const surplus = links.filter(({ name }) => name.startsWith('tap') && !wanted.has(name))
  for (const { name } of surplus) await deleteLink(fabric, name)
  for (const bridge of wiring.bridges) ensureBridge(fabric, bridge)
  for (const card of wiring.cards) plugIn(fabric, card, plan)
  for (const leg of wiring.legs) plugLeg(fabric, leg, router)
  const bridges = new Set(wiring.bridges.map(({ name }) => name))
  for (const link of links)
    if (kindOf(link) === 'bridge' && link.name.startsWith('brq') && !bridges.has(link.name))
      await deleteLink(fabric, link.name)
  configureRouter(router, wiring)
}

function ensureBridge(fabric: NetlinkSocket, { name, mtu }: Bridge): void {
  if (findLink(fabric, name) === undefined) createLink(fabric, { name, info: { kind: 'bridge' }, mtu, up: true })
}

/** `label` stays at the end in the fabric: it tells what was plugged in where, and under which name. */
function cable(
  fabric: NetlinkSocket,
  { tap, bridge, mac, mtu, port }: Cable,
  { namespace, name, label }: { readonly namespace: string; readonly name: string; readonly label: string },
): void {
  const netnsFd = openNetns(netnsPath(namespace))
  try {
    const peer = { name, netnsFd, mac, mtu }
    createLink(fabric, { name: tap, mtu, alias: `${label} port ${port}`, info: { kind: 'veth', data: { peer } } })
    setLink(fabric, tap, { master: getLink(fabric, bridge).index, up: true })
  } finally {
    nativeSys().close(netnsFd)
  }
}

/** A card appears in its VM as hardware does: down, without addresses. Only the first is configured, as cloud-init does at boot. */
function plugIn(fabric: NetlinkSocket, card: Card, plan: LabPlan): void {
  const node = plan.nodes.find(({ name }) => name === card.node)
  if (node === undefined || findLink(fabric, card.tap) !== undefined) return
  const name = card.isFirst ? 'eth0' : freeName(fabric, node)
  cable(fabric, card, { namespace: node.namespace, name, label: `${node.name}/${name}` })
  if (card.isFirst) configureVm(node)
}

/** The lowest ethN that no card of this VM has, nor was plugged in under: a pod may hold that one. */
function freeName(fabric: NetlinkSocket, { name: node, namespace }: NodePlan): string {
  using vm = NetlinkSocket.open({ netns: netnsPath(namespace) })
  const there = new Set(listLinks(vm).map(({ name }) => name))
  const given = new Set(listLinks(fabric).map(({ alias }) => alias?.split(' ', 1)[0]))
  for (let n = 1; ; n++) if (!there.has(`eth${n}`) && !given.has(`${node}/eth${n}`)) return `eth${n}`
}

function configureVm(node: NodePlan): void {
  using vm = NetlinkSocket.open({ netns: netnsPath(node.namespace) })
  setLink(vm, 'eth0', { up: true })
  const { index } = getLink(vm, 'eth0')
  send(vm, [
    ...node.underlay.map(({ address }) => addrMessage('replace', { index, address })),
    ...node.gateways.map((gateway) =>
      routeMessage('replace', { dst: cidrText('0.0.0.0/0'), gateway, oif: index, protocol: RTPROT.STATIC }),
    ),
  ])
}

function plugLeg(fabric: NetlinkSocket, leg: Leg, router: string): void {
  if (findLink(fabric, leg.tap) === undefined)
    cable(fabric, leg, { namespace: router, name: leg.name, label: leg.name })
  using netlink = NetlinkSocket.open({ netns: netnsPath(router) })
  setLink(netlink, leg.name, { up: true })
  const { index } = getLink(netlink, leg.name)
  const there = listAddrs(netlink, { index, family: 4 }).map(({ address }) => address)
  const messages = [
    ...there
      .filter((address) => !leg.addresses.includes(address))
      .map((address) => addrMessage('delete', { index, address })),
    ...leg.addresses
      .filter((address) => !there.includes(address))
      .map((address) => addrMessage('add', { index, address })),
  ]
  if (messages.length > 0) send(netlink, messages)
}

/** Routes of Neutron's bear the protocol `static`; the kernel makes those of the legs. */
function configureRouter(router: string, wiring: Wiring): void {
  inNetns(netnsPath(router), () => writeFileSync('/proc/sys/net/ipv4/ip_forward', '1'))
  using netlink = NetlinkSocket.open({ netns: netnsPath(router) })
  const held = listRoutes(netlink, { family: 4, table: RT_TABLE.MAIN, protocol: RTPROT.STATIC })
  const wanted = new Map(wiring.routes.map((route) => [route.destination, route]))
  const surplus = held.filter(({ dst }) => !wanted.has(dst))
  const missing = wiring.routes.filter((route) => !held.some((one) => isSame(one, route)))
  const messages = [
    ...surplus.map((route) => routeMessage('delete', route)),
    ...missing.map((route) => routeMessage('replace', routeOf(netlink, route))),
  ]
  if (messages.length > 0) send(netlink, messages)
}

function routeOf(netlink: NetlinkSocket, { destination, nexthops, leg }: RouterRoute): Route {
  const oif = getLink(netlink, leg).index
  const common = { dst: destination, protocol: RTPROT.STATIC }
  const [gateway] = nexthops
  return nexthops.length === 1 && gateway !== undefined
    ? { ...common, gateway, oif }
    : { ...common, nexthops: nexthops.map((hop) => ({ gateway: hop, oif })) }
}

function isSame(held: SeenRoute, { destination, nexthops }: RouterRoute): boolean {
  const hops = held.nexthops?.map(({ gateway }) => gateway) ?? [held.gateway]
  return held.dst === destination && hops.length === nexthops.length && nexthops.every((hop) => hops.includes(hop))
}

/** One batch; the first failure is thrown. */
function send(netlink: NetlinkSocket, messages: Parameters<NetlinkSocket['batch']>[0]): void {
  const error = netlink.batch(messages).find((result) => result !== undefined)
  if (error !== undefined) throw error
}
