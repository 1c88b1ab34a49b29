/**
 * What each kind of link has of its own: IFLA_INFO_DATA by IFLA_INFO_KIND (include/uapi/linux/if_link.h).
 *
 * To support another kind, add its attribute table here; everything else follows from it.
 */

import { ipAddress, ipOf, mac } from '#codec/address.ts'
import { attr, attributes, type AttributesValue } from '#codec/attributes.ts'
import { be16, be32, bool8, bytes, flag, mapped, u16, u32, u64, u8, type Codec, type Of } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { vethPeer } from './link-peer.ts'

const vxlanAttributes = attributes('vxlan', {
  id: attr(1, u32),
  group4: attr(2, ipOf(4)),
  link: attr(3, u32),
  local4: attr(4, ipOf(4)),
  ttl: attr(5, u8),
  tos: attr(6, u8),
  learning: attr(7, bool8),
  ageing: attr(8, u32),
  limit: attr(9, u32),
  portRange: attr(10, struct('ifla_vxlan_port_range', { low: be16, high: be16 })),
  proxy: attr(11, bool8),
  rsc: attr(12, bool8),
  l2miss: attr(13, bool8),
  l3miss: attr(14, bool8),
  port: attr(15, be16),
  group6: attr(16, ipOf(6)),
  local6: attr(17, ipOf(6)),
  udpChecksum: attr(18, bool8),
  udpZeroChecksum6Tx: attr(19, bool8),
  udpZeroChecksum6Rx: attr(20, bool8),
  remoteChecksumTx: attr(21, bool8),
  remoteChecksumRx: attr(22, bool8),
  gbp: attr(23, flag),
  external: attr(25, bool8),
  label: attr(26, be32),
  gpe: attr(27, flag),
  ttlInherit: attr(28, flag),
  /** 0 unset, 1 set, 2 inherit. */
  df: attr(29, u8),
  vniFilter: attr(30, bool8),
  localBypass: attr(31, bool8),
})

type VxlanWire = AttributesValue<typeof vxlanAttributes.table>

/** `link` is the underlay's index, `group` a multicast group or a default remote; `local` and `group` are of either family. */
export type Vxlan = Omit<VxlanWire, 'group4' | 'group6' | 'local4' | 'local6'> & {
  readonly local?: IpText | undefined
  readonly group?: IpText | undefined
}

const vxlan: Codec<Vxlan> = mapped<VxlanWire, Vxlan>(
  'vxlan',
  vxlanAttributes,
  ({ local4, local6, group4, group6, ...others }) => {
    const local = local4 ?? local6
    const group = group4 ?? group6
    return { ...others, ...(local === undefined ? {} : { local }), ...(group === undefined ? {} : { group }) }
  },
  ({ local, group, ...others }) => ({
    ...others,
    ...(local === undefined ? {} : familyOf(local) === 4 ? { local4: local } : { local6: local }),
    ...(group === undefined ? {} : familyOf(group) === 4 ? { group4: group } : { group6: group }),
  }),
)

/** Times are in hundredths of a second (USER_HZ). */
const bridge = attributes('bridge', {
  forwardDelay: attr(1, u32),
  helloTime: attr(2, u32),
  maxAge: attr(3, u32),
  ageingTime: attr(4, u32),
  /** 0 off, 1 kernel, 2 user space. */
  stpState: attr(5, u32),
  priority: attr(6, u16),
  vlanFiltering: attr(7, bool8),
  /** EtherType: 0x8100 or 0x88a8. */
  vlanProtocol: attr(8, be16),
  groupForwardMask: attr(9, u16),
  rootId: attr(10, bytes(8)),
  bridgeId: attr(11, bytes(8)),
  groupAddress: attr(20, mac),
  multicastRouter: attr(22, u8),
  multicastSnooping: attr(23, bool8),
  multicastQuerier: attr(25, bool8),
  nfCallIptables: attr(36, bool8),
  nfCallIp6tables: attr(37, bool8),
  nfCallArptables: attr(38, bool8),
  defaultPvid: attr(39, u16),
})

/** IFLA_BRPORT_*: a link's settings as a port of a bridge. Like `bridge link set dev D …`. */
export const bridgePort = attributes('bridge port', {
  /** 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking. */
  state: attr(1, u8),
  priority: attr(2, u16),
  cost: attr(3, u32),
  hairpin: attr(4, bool8),
  guard: attr(5, bool8),
  rootBlock: attr(6, bool8),
  fastLeave: attr(7, bool8),
  learning: attr(8, bool8),
  flood: attr(9, bool8),
  proxyArp: attr(10, bool8),
  multicastFlood: attr(27, bool8),
  multicastToUnicast: attr(28, bool8),
  vlanTunnel: attr(29, bool8),
  broadcastFlood: attr(30, bool8),
  neighSuppress: attr(32, bool8),
  isolated: attr(33, bool8),
  locked: attr(39, bool8),
})

export type BridgePort = Of<typeof bridgePort>

const macvlan = attributes('macvlan', {
  /** `MACVLAN_MODE`. */
  mode: attr(1, u32),
  flags: attr(2, u16),
  bcQueueLen: attr(7, u32),
})

/** MACVLAN_MODE_*. */
export const MACVLAN_MODE = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 } as const

const ipvlan = attributes('ipvlan', {
  /** `IPVLAN_MODE`. */
  mode: attr(1, u16),
  flags: attr(2, u16),
})

/** IPVLAN_MODE_*. */
export const IPVLAN_MODE = { l2: 0, l3: 1, l3s: 2 } as const

const vlan = attributes('vlan', {
  id: attr(1, u16),
  flags: attr(2, struct('ifla_vlan_flags', { flags: u32, mask: u32 })),
  protocol: attr(5, be16),
})

/** IFLA_IPTUN_*: IPv4 in IPv4. */
const ipip = attributes('ipip', {
  link: attr(1, u32),
  local: attr(2, ipAddress),
  remote: attr(3, ipAddress),
  ttl: attr(4, u8),
  tos: attr(5, u8),
  proto: attr(9, u8),
  pathMtuDiscovery: attr(10, bool8),
  encapType: attr(15, u16),
  encapFlags: attr(16, u16),
  encapSourcePort: attr(17, be16),
  encapDestinationPort: attr(18, be16),
  external: attr(19, flag),
  fwmark: attr(20, u32),
})

const vrf = attributes('vrf', { table: attr(1, u32) })

const tun = attributes('tun', {
  owner: attr(1, u32),
  group: attr(2, u32),
  /** 1 tun, 2 tap. */
  type: attr(3, u8),
  packetInfo: attr(4, bool8),
  vnetHeader: attr(5, bool8),
  persist: attr(6, bool8),
  multiQueue: attr(7, bool8),
})

const geneve = attributes('geneve', {
  id: attr(1, u32),
  remote: attr(2, ipOf(4)),
  ttl: attr(3, u8),
  tos: attr(4, u8),
  port: attr(5, be16),
  external: attr(6, flag),
  remote6: attr(7, ipOf(6)),
})

const bond = attributes('bond', { mode: attr(1, u8), activeSlave: attr(2, u32), miimon: attr(3, u32) })

const macsec = attributes('macsec', { sci: attr(1, u64) })

/** Kinds without data of their own. */
const plain = attributes('link', {})

export const linkKinds = {
  veth: attributes('veth', { peer: attr(1, vethPeer) }),
  bridge,
  vxlan,
  macvlan,
  macvtap: macvlan,
  ipvlan,
  vlan,
  ipip,
  vrf,
  tun,
  geneve,
  bond,
  macsec,
  dummy: plain,
  ifb: plain,
  wireguard: plain,
  nlmon: plain,
} as const

export type LinkKinds = typeof linkKinds
export type LinkKind = keyof LinkKinds

/** A link's kind with its own settings. Kinds that have no table here are `other`, with their bytes. */
export type LinkInfo =
  | { readonly [K in LinkKind]: { readonly kind: K; readonly data?: Of<LinkKinds[K]> | undefined } }[LinkKind]
  | { readonly kind: 'other'; readonly name: string; readonly data?: Uint8Array | undefined }

export const isLinkKind = (name: string): name is LinkKind => Object.hasOwn(linkKinds, name)
