/**
 * flannel's wireguard backend: one WireGuard device (or one per family), one peer on it for each node, and one route for the whole pod network. Which peer
 * a packet goes to is decided by the device, from the peers' allowed IPs.
 */

import { isPrivate, parseIp, type Family } from '#ip/address.ts'
import type { CidrText } from '#ip/text.ts'
import { defaultPriority, MAIN_TABLE, type Entry } from '#state/entry.ts'
import type { Backend } from '../backend/backend.ts'
import { owned } from '../backend/direct.ts'
import type { Lease, LeaseFamily } from '../lease.ts'
import { firstAlone, localFamilies, type Local, type LocalFamily } from '../local.ts'
import type { WireguardConf } from './conf.ts'
import { parseWireguardData, type WireguardPeerData } from './data.ts'

/** IPv6 40, UDP 8, WireGuard 32 bytes in front of and behind a pod's packet; flannel reserves as much for IPv4. */
const OVERHEAD = 80
const OWNER = 'flannel/wireguard'

/** Name of the device that carries a family's pods. */
export const WIREGUARD_DEVICES = { 4: 'flannel-wg', 6: 'flannel-wg-v6' } as const satisfies Record<Family, string>

export function wireguard(conf: WireguardConf): Backend {
  const isSeparate = conf.mode === 'separate'
  const portOf = (family: Family): number => (isSeparate && family === 6 ? conf.listenPortV6 : conf.listenPort)

  /** The families between nodes that a device may use. */
  const transports = (local: Local, carried: readonly Family[]): readonly Family[] => {
    if (isSeparate) return carried
    if (conf.mode === 'auto') return localFamilies(local)
    return [conf.mode === 'ipv4' ? 4 : 6]
  }
  /** Devices with the families of pods that each carries. */
  const devices = (local: Local): { name: string; port: number; carried: readonly Family[] }[] => {
    const families = localFamilies(local)
    if (!isSeparate) return [{ name: WIREGUARD_DEVICES[4], port: conf.listenPort, carried: families }]
    return families.map((family) => ({ name: WIREGUARD_DEVICES[family], port: portOf(family), carried: [family] }))
  }
  const mtuOf = (local: Local, carried: readonly Family[]): number =>
    Math.min(...transports(local, carried).map((family) => conf.mtu ?? local[family]?.underlay.mtu ?? Infinity)) -
    OVERHEAD

  const device = (local: Local, { name, port, carried }: ReturnType<typeof devices>[number]): Entry[] => {
    const { identity } = local
    if (identity?.kind !== 'wireguard') return []
    const own = carried.flatMap((family) => local[family] ?? [])
    const { publicKey, privateKey } = identity
    return [
      { kind: 'link', name, up: true, mtu: mtuOf(local, carried), data: { type: 'wireguard' } },
      ...own.map(({ subnet }): Entry => ({ kind: 'address', dev: name, address: firstAlone(subnet) })),
      { kind: 'wireguard', dev: name, publicKey, privateKey, listenPort: port },
      ...own.map(({ network }) => networkRoute(network, name)),
    ]
  }

  const peer = (
    dev: string,
    { publicKey }: WireguardPeerData,
    transport: LeaseFamily,
    port: number,
    allowed: readonly CidrText[],
  ): Entry => ({
    kind: 'wgpeer',
    dev,
    publicKey,
    endpoint: { ip: transport.publicIp, port },
    allowedIps: allowed.toSorted(),
    keepalive: conf.keepalive,
    ...(conf.psk === undefined ? {} : { presharedKey: conf.psk }),
  })

  const separatePeers = (local: Local, lease: Lease): Entry[] =>
    localFamilies(local).flatMap((family) => {
      const theirs = lease[family]
      if (theirs?.data.kind !== 'wireguard') return []
      const port = theirs.data.port ?? portOf(family)
      return [peer(WIREGUARD_DEVICES[family], theirs.data, theirs, port, [theirs.subnet])]
    })

  /** The device has one key and one port, whichever family's annotation says them. Flannel writes another port into that of IPv6, where nobody listens. */
  const singlePeer = (local: Local, lease: Lease): Entry[] => {
    const transport = transportOf(conf, local, lease)
    const said = (lease[4] ?? lease[6])?.data
    if (transport === undefined || said?.kind !== 'wireguard') return []
    const allowed = localFamilies(local).flatMap((family) => lease[family]?.subnet ?? [])
    return [peer(WIREGUARD_DEVICES[4], said, transport, said.port ?? conf.listenPort, allowed)]
  }

  return {
    type: 'wireguard',
    families: [4, 6],
    deviceName: () => undefined,
    readData: parseWireguardData,
    mtu: (local) => Math.min(...devices(local).map(({ carried }) => mtuOf(local, carried))),
    published: ({ identity }, family) =>
      identity?.kind === 'wireguard'
        ? { kind: 'wireguard', publicKey: identity.publicKey, port: portOf(family) }
        : { kind: 'none' },
    devicePlan: (local) =>
      owned(
        devices(local).flatMap((one) => device(local, one)),
        { owner: OWNER, reason: `node/${local.node}` },
      ),
    peerPlan: (local, lease) =>
      owned(isSeparate ? separatePeers(local, lease) : singlePeer(local, lease), {
        owner: OWNER,
        reason: `node/${lease.node}`,
      }),
    objection: (_own, { data }) =>
      data.kind === 'wireguard' ? undefined : { code: 'no-data', why: 'it publishes no public key' },
  }
}

/** Like `ip route replace NETWORK dev DEV`. */
const networkRoute = (network: CidrText, dev: string): Entry => ({
  kind: 'route',
  dst: network,
  table: MAIN_TABLE,
  priority: defaultPriority(network),
  type: 'unicast',
  dev,
})

/** Over which family a peer is reached; undefined when there is no way to it in the mode that was chosen. */
export function transportOf({ mode }: WireguardConf, local: Local, lease: Lease): LeaseFamily | undefined {
  const reach = (family: Family): LeaseFamily | undefined => (local[family] === undefined ? undefined : lease[family])
  if (mode === 'ipv4') return reach(4)
  if (mode === 'ipv6') return reach(6)
  const [v4, v6] = [reach(4), reach(6)]
  if (v4 === undefined || v6 === undefined) return v4 ?? v6
  if (isPublic(v4.publicIp)) return v4
  return isPublic(v6.publicIp) && isPublicNode(local[6]) ? v6 : v4
}

const isPublicNode = (own: LocalFamily | undefined): boolean => own !== undefined && isPublic(own.publicIp)

const isPublic = (ip: LeaseFamily['publicIp']): boolean => !isPrivate(parseIp(ip))
