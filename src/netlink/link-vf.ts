/** Virtual functions of SR-IOV cards, as their physical function holds them: IFLA_VFINFO_LIST (include/uapi/linux/if_link.h). */

import { attr, attributes, many, nest } from '#codec/attributes.ts'
import { macFromBytes, macToBytes } from '#ip/mac.ts'
import { be16, bytes, mapped, pad, u32, type Codec } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import type { MacText } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { RTM } from './constants.ts'
import { ifinfomsg } from './link-peer.ts'
import type { Message } from './message.ts'
import type { NetlinkSocket } from './socket.ts'

const setting = (name: string) => struct(name, { vf: u32, setting: u32 })

/** The kernel keeps 32 bytes for an address of any kind; Ethernet's are the first six. */
const vfMac: Codec<{ readonly vf: number; readonly mac: MacText }> = mapped(
  'ifla_vf_mac',
  struct('ifla_vf_mac', { vf: u32, bytes: bytes(32) }),
  (wire) => ({ vf: wire.vf, mac: macFromBytes(wire.bytes.subarray(0, 6)) }),
  ({ vf, mac }) => {
    const address = new Uint8Array(32)
    address.set(macToBytes(mac))
    return { vf, bytes: address }
  },
)

const vlanList = attributes('vf vlan', {
  info: attr(1, struct('ifla_vf_vlan_info', { vf: u32, vlan: u32, qos: u32, protocol: be16, _pad: pad(2) })),
})

const vfInfo = attributes('vf', {
  mac: attr(1, vfMac),
  vlan: attr(2, struct('ifla_vf_vlan', { vf: u32, vlan: u32, qos: u32 })),
  spoofCheck: attr(4, setting('ifla_vf_spoofchk')),
  linkState: attr(5, setting('ifla_vf_link_state')),
  rate: attr(6, struct('ifla_vf_rate', { vf: u32, min: u32, max: u32 })),
  trust: attr(9, setting('ifla_vf_trust')),
  vlans: nest(12, vlanList),
})

/** Only what is about virtual functions. */
export const vfLinkAttributes = attributes('link', {
  vfs: nest(22, attributes('vfs', { list: many(1, vfInfo) })),
  extMask: attr(29, u32),
})

/** ETH_P_8021Q and ETH_P_8021AD. */
export const VLAN_PROTOCOL = { '802.1q': 0x8100, '802.1ad': 0x88a8 } as const

const LINK_STATES = ['auto', 'enable', 'disable'] as const

/** What the physical function enforces for one of its virtual functions; what is absent stays as it is. */
export interface VfSettings {
  readonly mac?: MacText | undefined
  /** Tag that the card adds and removes; id 0 for none. `protocol` is one of `VLAN_PROTOCOL`. */
  readonly vlan?: { readonly id: number; readonly qos: number; readonly protocol: number } | undefined
  /** Frames with another source address are dropped. */
  readonly spoofCheck?: boolean | undefined
  /** It may change its own address and become promiscuous. */
  readonly trust?: boolean | undefined
  /** `auto` follows the physical function. */
  readonly linkState?: (typeof LINK_STATES)[number] | undefined
  /** Mbit/s; 0 for no limit. */
  readonly rate?: { readonly min: number; readonly max: number } | undefined
}

const headerOf = (index: number) => ({ family: AF.UNSPEC, type: 0, index, flags: 0, change: 0 })

const switchOf = (vf: number, on: boolean | undefined) => (on === undefined ? undefined : { vf, setting: on ? 1 : 0 })

/** Like `ip link set PF vf N mac … vlan … qos … proto … spoofchk on trust on state auto min_tx_rate … max_tx_rate …`. */
export function setVfMessage(pf: number, vf: number, settings: VfSettings): Message {
  const { mac, vlan, spoofCheck, trust, linkState, rate } = settings
  const info = {
    mac: mac === undefined ? undefined : { vf, mac },
    vlans: vlan === undefined ? undefined : { info: { vf, vlan: vlan.id, qos: vlan.qos, protocol: vlan.protocol } },
    spoofCheck: switchOf(vf, spoofCheck),
    trust: switchOf(vf, trust),
    linkState: linkState === undefined ? undefined : { vf, setting: LINK_STATES.indexOf(linkState) },
    rate: rate === undefined ? undefined : { vf, ...rate },
  }
  return {
    op: () => `link set ${pf} vf ${vf}`,
    type: RTM.SETLINK,
    flags: 0,
    write(w) {
      ifinfomsg.write(w, headerOf(pf))
      vfLinkAttributes.write(w, { vfs: { list: [info] } })
    },
  }
}

/** RTEXT_FILTER_VF, and RTEXT_FILTER_SKIP_STATS. */
const WITH_VFS = 1 | 8

/** Like `ip link show dev PF`: its virtual functions by number. Empty for a link that has none. */
export function listVfs(socket: NetlinkSocket, pf: number): ReadonlyMap<number, VfSettings> {
  const message: Message = {
    op: () => `link show ${pf}`,
    type: RTM.GETLINK,
    flags: 0,
    write(w) {
      ifinfomsg.write(w, headerOf(pf))
      vfLinkAttributes.write(w, { extMask: WITH_VFS })
    },
  }
  return socket.get(message, (payload) => {
    ifinfomsg.read(payload)
    payload.keepUnknown = false
    const list = vfLinkAttributes.read(payload).vfs?.list ?? []
    return new Map(list.flatMap((info) => (info.mac === undefined ? [] : [[info.mac.vf, readVf(info)] as const])))
  })
}

type VfInfo = ReturnType<typeof vfInfo.read>

/** What a driver does not know it leaves out. */
export function readVf({ mac, vlan, vlans, spoofCheck, trust, linkState, rate }: VfInfo): VfSettings {
  const tag = vlans?.info ?? (vlan === undefined ? undefined : { ...vlan, protocol: VLAN_PROTOCOL['802.1q'] })
  return {
    mac: mac?.mac,
    vlan: tag === undefined ? undefined : { id: tag.vlan, qos: tag.qos, protocol: tag.protocol },
    spoofCheck: spoofCheck === undefined ? undefined : spoofCheck.setting === 1,
    trust: trust === undefined ? undefined : trust.setting === 1,
    linkState: linkState === undefined ? undefined : LINK_STATES[linkState.setting],
    rate: rate === undefined ? undefined : { min: rate.min, max: rate.max },
  }
}
