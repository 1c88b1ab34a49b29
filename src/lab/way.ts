/** The whole way of a packet from one pod to another, read from the kernels on both sides: each entry with the command that shows it. */

import { familyOf } from '#ip/prefix.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { listFdb } from '#netlink/fdb.ts'
import { findLink, getLink, kindOf, listLinks } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { listNeighs, type SeenNeigh } from '#netlink/neigh.ts'
import { getRoute } from '#netlink/route.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import type { LabView, NodeView, Place, PodView } from './check/view.ts'
import { fdbLine, neighLine, routeLine, vxlanLine, type NameOf } from './notation.ts'
import { netnsPath } from './paths.ts'
import type { LabPlan } from './plan.ts'
import { readIpip, readUdp, readWireguard } from './way-tunnels.ts'

/** What an entry means; the command line has a sentence for each. */
export type Meaning =
  | 'pod-route'
  | 'pod-gateway'
  | 'tunnel-route'
  | 'tunnel-neighbour'
  | 'tunnel-fdb'
  | 'tunnel-device'
  | 'ipip-route'
  | 'ipip-device'
  | 'udp-route'
  | 'udp-device'
  | 'wireguard-route'
  | 'wireguard-peer'
  | 'wireguard-endpoint'
  | 'plain-route'
  | 'plain-neighbour'
  | 'router-route'
  | 'router-neighbour'
  | 'underlay-route'
  | 'underlay-direct'
  | 'underlay-neighbour'
  | 'arrival-device'
  | 'arrival-route'
  | 'arrival-neighbour'
  | 'arrival-port'
  | 'missing'

export interface Entry {
  readonly meaning: Meaning
  readonly command: string
  /** The entry as the command prints it; undefined where the kernel has none. */
  readonly line: string | undefined
  /** Values that the sentence names. */
  readonly values: Readonly<Record<string, string>>
}

/** The entries of one place, in the order in which a packet meets them. */
export interface Stop {
  readonly place: string
  readonly entries: readonly Entry[]
}

export interface Way {
  readonly from: PodView
  readonly to: PodView
  readonly source: IpText
  readonly destination: IpText
  /** What the packets of this way carry around them between the nodes, where they are tunnelled. */
  readonly outer?: {
    readonly protocol: 'vxlan' | 'ipip' | 'wireguard' | 'udp'
    readonly source: IpText
    readonly destination: IpText
    /** Of UDP, where it is wrapped in that. */
    readonly port?: number
    readonly vni?: number
  }
  readonly stops: readonly Stop[]
}

/** Reads the way from one pod to another on a different node. A packet must have gone it already, so that neighbours are known. */
export function readWay(view: LabView, from: PodView, to: PodView, family: 4 | 6 = 4): Way {
  const source = ipOf(from, family)
  const destination = ipOf(to, family)
  const here = nodeOf(view, from)
  const there = nodeOf(view, to)
  const sending = readSending(here, there, destination)
  return {
    from,
    to,
    source,
    destination,
    ...(sending.outer === undefined ? {} : { outer: sending.outer }),
    stops: [
      { place: from.name, entries: readPod(from, destination) },
      { place: here.name, entries: sending.entries },
      { place: there.name, entries: readArrival(there, destination, sending.tunnelMac) },
    ],
  }
}

/** The pair that is shown: the first pods of the first two nodes; undefined in a lab of one node. */
export function shownPair(view: LabView): readonly [PodView, PodView] | undefined {
  const [from, to] = view.nodes.flatMap((node) => node.pods.slice(0, 1))
  return from === undefined || to === undefined ? undefined : [from, to]
}

/** The first pod of the last node, where that is in another subnet than the first two nodes and the way there may differ. */
export function shownBeyondRouter(plan: LabPlan, view: LabView): PodView | undefined {
  const [first, second] = plan.nodes
  const last = plan.nodes.at(-1)
  const differs = first !== undefined && second?.switch === first.switch && last?.switch !== first.switch
  return differs ? view.nodes.at(-1)?.pods[0] : undefined
}

const ipOf = (place: Place, family: 4 | 6): IpText => {
  const ip = place.ips.find((ip) => familyOf(ip) === family)
  if (ip === undefined) throw new Error(`${place.name} has no IPv${family} address`)
  return ip
}

function nodeOf(view: LabView, pod: PodView): NodeView {
  const node = view.nodes.find(({ name }) => name === pod.node)
  if (node === undefined) throw new Error(`${pod.name} is on no node of the lab`)
  return node
}

/** One namespace's kernel, while it is read. */
export class Kernel implements Disposable {
  readonly netlink: NetlinkSocket
  readonly #flag: string

  constructor({ namespace }: Place, family: 4 | 6) {
    this.netlink = NetlinkSocket.open({ netns: netnsPath(namespace) })
    this.#flag = family === 6 ? ' -6' : ''
  }

  readonly nameOf: NameOf = (index) => findLink(this.netlink, index)?.name ?? `if${index}`

  /** The entry of the routing table that decides, not the path that follows from it. */
  route(to: IpText): SeenRoute {
    return getRoute(this.netlink, to, { fibMatch: true })
  }

  routeEntry(meaning: Meaning, route: SeenRoute, values: Entry['values'] = {}): Entry {
    const dst = route.dst.endsWith('/0') ? 'default' : route.dst
    return { meaning, command: `ip${this.#flag} route show ${dst}`, line: routeLine(route, this.nameOf), values }
  }

  neigh(ip: IpText, index: number): SeenNeigh | undefined {
    return listNeighs(this.netlink, { index, family: familyOf(ip) }).find((neigh) => neigh.ip === ip)
  }

  neighEntry(meaning: Meaning, ip: IpText, index: number, values: Entry['values'] = {}): Entry {
    const neigh = this.neigh(ip, index)
    return {
      meaning,
      command: `ip neigh show ${ip}`,
      line: neigh === undefined ? undefined : neighLine(neigh, this.nameOf),
      values: { ip, mac: neigh?.mac ?? '?', ...values },
    }
  }

  /** What the wrapped packet meets on its way to `remote`. */
  underlayEntries(remote: IpText): Entry[] {
    const underlay = this.route(remote)
    const hop = underlay.gateway ?? remote
    return [
      this.routeEntry(hop === remote ? 'underlay-direct' : 'underlay-route', underlay, { remote, hop }),
      ...(underlay.oif === undefined ? [] : [this.neighEntry('underlay-neighbour', hop, underlay.oif)]),
    ]
  }

  [Symbol.dispose](): void {
    this.netlink[Symbol.dispose]()
  }
}

function readPod(pod: PodView, destination: IpText): Entry[] {
  using kernel = new Kernel(pod, familyOf(destination))
  const route = kernel.route(destination)
  const { gateway, oif } = route
  const values = { gateway: gateway ?? destination }
  return [
    kernel.routeEntry('pod-route', route, values),
    ...(gateway === undefined || oif === undefined ? [] : [kernel.neighEntry('pod-gateway', gateway, oif)]),
  ]
}

export interface Sending {
  readonly entries: readonly Entry[]
  readonly outer?: Way['outer']
  /** The other tunnel end's MAC: the inner frame is addressed to it. */
  readonly tunnelMac?: MacText | undefined
}

function readSending(node: NodeView, there: NodeView, destination: IpText): Sending {
  using kernel = new Kernel(node, familyOf(destination))
  const route = kernel.route(destination)
  const { gateway, oif } = route
  const device = oif === undefined ? undefined : getLink(kernel.netlink, oif)
  if (device !== undefined && kindOf(device) === 'wireguard')
    return readWireguard(kernel, route, device, node, destination)
  if (device !== undefined && kindOf(device) === 'tun') return readUdp(kernel, route, device, node, there)
  if (gateway === undefined || device === undefined) return { entries: [kernel.routeEntry('missing', route)] }
  if (kindOf(device) === 'ipip') return readIpip(kernel, route, device, gateway)
  if (kindOf(device) === 'vxlan') return readTunnel(kernel, route, device, gateway)
  // A default route knows nothing of pods: whoever is behind it has to.
  const by = route.dst.endsWith('/0') ? 'router' : 'plain'
  return {
    entries: [
      kernel.routeEntry(`${by}-route`, route, { gateway, device: device.name }),
      kernel.neighEntry(`${by}-neighbour`, gateway, device.index),
    ],
  }
}

function readTunnel(kernel: Kernel, route: SeenRoute, device: Link, gateway: IpText): Sending {
  const { netlink, nameOf } = kernel
  const mac = kernel.neigh(gateway, device.index)?.mac
  const fdb = listFdb(netlink, { index: device.index }).find((entry) => entry.mac === mac && entry.dst !== undefined)
  const data = device.info?.kind === 'vxlan' ? (device.info.data ?? {}) : {}
  const entries: Entry[] = [
    kernel.routeEntry('tunnel-route', route, { gateway, device: device.name }),
    kernel.neighEntry('tunnel-neighbour', gateway, device.index, { device: device.name }),
    {
      meaning: 'tunnel-fdb',
      command: 'bridge fdb',
      line: fdb === undefined ? undefined : fdbLine(fdb, nameOf),
      values: { mac: mac ?? '?', remote: fdb?.dst ?? '?' },
    },
    {
      meaning: 'tunnel-device',
      command: `ip -d link show ${device.name}`,
      line: vxlanLine(device, nameOf),
      values: { device: device.name, vni: String(data.id ?? '?'), port: String(data.port ?? '?') },
    },
  ]
  const { local, id, port } = data
  if (fdb?.dst === undefined || local === undefined || id === undefined || port === undefined) {
    return { entries, tunnelMac: mac }
  }
  return {
    entries: [...entries, ...kernel.underlayEntries(fdb.dst)],
    outer: { protocol: 'vxlan', source: local, destination: fdb.dst, port, vni: id },
    tunnelMac: mac,
  }
}

function readArrival(node: NodeView, destination: IpText, tunnelMac: MacText | undefined): Entry[] {
  using kernel = new Kernel(node, familyOf(destination))
  const { netlink, nameOf } = kernel
  const device = tunnelMac === undefined ? undefined : listLinks(netlink).find(({ mac }) => mac === tunnelMac)
  const route = kernel.route(destination)
  const bridge = route.oif
  const mac = bridge === undefined ? undefined : kernel.neigh(destination, bridge)?.mac
  const port = bridge === undefined ? undefined : listFdb(netlink, { master: bridge }).find((fdb) => fdb.mac === mac)
  return [
    ...(device === undefined
      ? []
      : [
          {
            meaning: 'arrival-device',
            command: `ip -d link show ${device.name}`,
            line: vxlanLine(device, nameOf),
            values: { device: device.name, mac: device.mac ?? '?' },
          } as const,
        ]),
    kernel.routeEntry('arrival-route', route, { bridge: bridge === undefined ? '?' : nameOf(bridge) }),
    ...(bridge === undefined ? [] : [kernel.neighEntry('arrival-neighbour', destination, bridge)]),
    {
      meaning: 'arrival-port',
      command: `bridge fdb show br ${bridge === undefined ? '?' : nameOf(bridge)}`,
      line: port === undefined ? undefined : fdbLine(port, nameOf),
      values: { mac: mac ?? '?', port: port === undefined ? '?' : nameOf(port.index) },
    },
  ]
}
