/** The way through devices that wrap packets instead of frames: IP-in-IP, WireGuard, and the TUN device of udp. */

import { contains, familyOf, parseCidr } from '#ip/prefix.ts'
import { parseIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { findFamily, openGenl } from '#netlink/genl.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { SeenRoute } from '#netlink/route-codec.ts'
import { readDevice, WIREGUARD, type SeenWgPeer } from '#netlink/wireguard.ts'
import type { NodeView } from './check/view.ts'
import { ipipLine, tunLine } from './notation.ts'
import { netnsPath } from './paths.ts'
import type { Entry, Kernel, Sending } from './way.ts'

/** The route names the other node, the device its own end; nothing else is needed. */
export function readIpip(kernel: Kernel, route: SeenRoute, device: Link, gateway: IpText): Sending {
  const local = device.info?.kind === 'ipip' ? device.info.data?.local : undefined
  const entries: Entry[] = [
    kernel.routeEntry('ipip-route', route, { gateway, device: device.name }),
    {
      meaning: 'ipip-device',
      command: `ip -d link show ${device.name}`,
      line: ipipLine(device),
      values: { device: device.name },
    },
    ...kernel.underlayEntries(gateway),
  ]
  return local === undefined
    ? { entries }
    : { entries, outer: { protocol: 'ipip', source: local, destination: gateway } }
}

/** Flannel's, and so the lab's. */
const UDP_PORT = 8285

/** One route for all pods into a process, which knows the peers; the kernel does not. */
export function readUdp(kernel: Kernel, route: SeenRoute, device: Link, node: NodeView, there: NodeView): Sending {
  const [source, remote] = [node, there].map(({ ips }) => ips.find((ip) => familyOf(ip) === 4))
  const entries: Entry[] = [
    kernel.routeEntry('udp-route', route, { device: device.name }),
    {
      meaning: 'udp-device',
      command: `ip -d link show ${device.name}`,
      line: tunLine(device),
      values: { device: device.name, remote: remote ?? '?', port: String(UDP_PORT) },
    },
    ...(remote === undefined ? [] : kernel.underlayEntries(remote)),
  ]
  if (source === undefined || remote === undefined) return { entries }
  return { entries, outer: { protocol: 'udp', source, destination: remote, port: UDP_PORT } }
}

/** One route for all pods; which peer gets a packet is decided by the device, from the peers' allowed IPs. */
export function readWireguard(
  kernel: Kernel,
  route: SeenRoute,
  device: Link,
  node: NodeView,
  destination: IpText,
): Sending {
  const peer = peerFor(node, device.index, destination)
  const remote = peer?.endpoint
  const shown = remote === undefined ? undefined : remote.ip.includes(':') ? `[${remote.ip}]` : remote.ip
  const entries: Entry[] = [
    kernel.routeEntry('wireguard-route', route, { device: device.name }),
    {
      meaning: 'wireguard-peer',
      command: `wg show ${device.name} allowed-ips`,
      line: peer === undefined ? undefined : `${peer.publicKey} ${peer.allowedIps.join(' ')}`,
      values: { destination },
    },
    {
      meaning: 'wireguard-endpoint',
      command: `wg show ${device.name} endpoints`,
      line: peer === undefined || remote === undefined ? undefined : `${peer.publicKey} ${shown}:${remote.port}`,
      values: { remote: remote?.ip ?? '?' },
    },
    ...(remote === undefined ? [] : kernel.underlayEntries(remote.ip)),
  ]
  const source = remote === undefined ? undefined : node.ips.find((ip) => familyOf(ip) === familyOf(remote.ip))
  if (remote === undefined || source === undefined) return { entries }
  return { entries, outer: { protocol: 'wireguard', source, destination: remote.ip, port: remote.port } }
}

/** The peer with the longest allowed IP that holds the address. */
function peerFor(node: NodeView, index: number, destination: IpText): SeenWgPeer | undefined {
  using socket = openGenl({ netns: netnsPath(node.namespace) })
  const family = findFamily(socket, WIREGUARD)
  if (family === undefined) return undefined
  const ip = parseIp(destination)
  let best: { readonly length: number; readonly peer: SeenWgPeer } | undefined
  for (const peer of readDevice(socket, family, index).peers) {
    for (const allowed of peer.allowedIps) {
      const cidr = parseCidr(allowed)
      if (contains(cidr, ip) && (best === undefined || cidr.length > best.length)) best = { length: cidr.length, peer }
    }
  }
  return best?.peer
}
