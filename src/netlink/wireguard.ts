/** WireGuard devices: keys, ports, peers and what each peer may send. Like `wg`. */

import { formatCidr, parseCidr } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { Secret } from '#sys/secret.ts'
import { genlMessage, genlmsghdr, type GenlFamily } from './genl.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'
import { KEY_BYTES, type WgKeyText } from './wireguard-key.ts'
import { deviceAttributes, WG_CMD, WGPEER_F, type DeviceWire, type Endpoint, type PeerWire } from './wireguard-wire.ts'

export type { Endpoint }

/** The name of the generic netlink family, and of the kind of link. */
export const WIREGUARD = 'wireguard'

/** Settings of a device; what is absent stays as it is. */
export interface WgSettings {
  readonly privateKey?: Secret | undefined
  readonly listenPort?: number | undefined
  readonly fwmark?: number | undefined
}

/** A peer as it should be, whole. */
export interface WgPeer {
  readonly publicKey: WgKeyText
  readonly endpoint: Endpoint
  /** The sources that its packets may have, and the destinations that are sent to it. */
  readonly allowedIps: readonly CidrText[]
  /** Seconds between packets that keep a translation on the way alive; 0 is off. */
  readonly keepalive: number
  readonly presharedKey?: Secret | undefined
}

export interface SeenWgPeer extends Omit<WgPeer, 'endpoint'> {
  /** Absent until one was set or a packet came. */
  readonly endpoint?: Endpoint | undefined
  /** When the last handshake was, in seconds since 1970; 0: never. */
  readonly lastHandshake: number
  readonly rxBytes: bigint
}

export interface SeenWgDevice {
  readonly publicKey?: WgKeyText | undefined
  readonly listenPort: number
  readonly fwmark: number
  readonly peers: readonly SeenWgPeer[]
}

/** All zero: none, to the kernel. */
const NO_SECRET = new Secret(new Uint8Array(KEY_BYTES))

/** An attribute holds 64 kB, and an allowed IP takes up to 44 bytes of it. */
const ALLOWED_IPS_AT_ONCE = 1024

const setMessage = (family: GenlFamily, op: () => string, wire: DeviceWire): Message =>
  genlMessage(family, WG_CMD.SET_DEVICE, { op, write: (w) => deviceAttributes.write(w, wire) })

/** Like `wg set DEV private-key … listen-port …`. */
export const setDeviceMessage = (family: GenlFamily, index: number, settings: WgSettings): Message =>
  setMessage(family, () => `wg set ${index}`, { index, ...settings })

/**
 * Like `wg set DEV peer KEY endpoint … allowed-ips … persistent-keepalive … preshared-key …`: the peer is then as said, whatever it was
 * before. One message, and one more for each further thousand allowed IPs.
 */
export function setPeerMessages(family: GenlFamily, index: number, peer: WgPeer): Message[] {
  const { publicKey, endpoint, keepalive, presharedKey = NO_SECRET, allowedIps } = peer
  const messages: Message[] = []
  for (let from = 0; from === 0 || from < allowedIps.length; from += ALLOWED_IPS_AT_ONCE) {
    const list = allowedIps.slice(from, from + ALLOWED_IPS_AT_ONCE).map(allowedIp)
    const settings: PeerWire =
      from === 0
        ? { publicKey, presharedKey, flags: WGPEER_F.REPLACE_ALLOWEDIPS, endpoint, keepalive }
        : { publicKey, flags: WGPEER_F.UPDATE_ONLY }
    messages.push(
      setMessage(family, () => `wg set ${index} peer ${publicKey}`, {
        index,
        peers: { list: [{ ...settings, allowedIps: { list } }] },
      }),
    )
  }
  return messages
}

/** Like `wg set DEV peer KEY remove`. To the kernel one that is not there is removed. */
export const removePeerMessage = (family: GenlFamily, index: number, publicKey: WgKeyText): Message =>
  setMessage(family, () => `wg set ${index} peer ${publicKey} remove`, {
    index,
    peers: { list: [{ publicKey, flags: WGPEER_F.REMOVE_ME }] },
  })

function allowedIp(cidr: CidrText): { family: number; ip: IpText; length: number } {
  const { ip, length } = parseCidr(cidr)
  return { family: ip.family === 4 ? AF.INET : AF.INET6, ip: formatIp(ip), length }
}

/** Like `wg show DEV dump`, without the private key. Throws NetlinkError: ENODEV where there is no such device, EOPNOTSUPP where it is of another kind. */
export function readDevice(socket: NetlinkSocket, family: GenlFamily, index: number): SeenWgDevice {
  const message = genlMessage(family, WG_CMD.GET_DEVICE, {
    op: () => `wg show ${index}`,
    write: (w) => deviceAttributes.write(w, { index }),
  })
  const parts = socket.dump(message, (payload) => {
    genlmsghdr.read(payload)
    return deviceAttributes.read(payload)
  })
  return joinParts(parts)
}

/** A device that does not fit one message comes in several, and a peer's allowed IPs may go on in the next one, under its key again. */
export function joinParts(parts: readonly DeviceWire[]): SeenWgDevice {
  const peers: PeerWire[] = []
  for (const peer of parts.flatMap((part) => part.peers?.list ?? [])) {
    const last = peers.at(-1)
    if (last === undefined || last.publicKey !== peer.publicKey) peers.push(peer)
    else
      peers[peers.length - 1] = {
        ...last,
        allowedIps: { list: [...(last.allowedIps?.list ?? []), ...(peer.allowedIps?.list ?? [])] },
      }
  }
  const [first = {}] = parts
  return {
    ...(first.publicKey === undefined ? {} : { publicKey: first.publicKey }),
    listenPort: first.listenPort ?? 0,
    fwmark: first.fwmark ?? 0,
    peers: peers.flatMap((peer) => seenPeer(peer) ?? []),
  }
}

function seenPeer(wire: PeerWire): SeenWgPeer | undefined {
  const { publicKey, presharedKey, endpoint, keepalive = 0, allowedIps, lastHandshake, rxBytes = 0n } = wire
  if (publicKey === undefined) return undefined
  return {
    publicKey,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(presharedKey === undefined || presharedKey.equals(NO_SECRET) ? {} : { presharedKey }),
    keepalive,
    allowedIps: (allowedIps?.list ?? []).flatMap(({ ip, length }) =>
      ip === undefined || length === undefined ? [] : [formatCidr(parseCidr(`${ip}/${length}`))],
    ),
    lastHandshake: Number(lastHandshake?.seconds ?? 0n),
    rxBytes,
  }
}
