/**
 * flannel's vxlan backend: one VXLAN device per address family, one FDB entry, one permanent neighbour and one onlink route per peer.
 *
 * Nothing is learned and nothing is flooded. What two nodes must agree on is flannel's: device address, entry forms, next hop S0.
 */

import type { Family } from '#ip/address.ts'
import { parseIp } from '#ip/address.ts'
import type { Entry, Origin } from '#state/entry.ts'
import { parseVtepData } from '../backend-data.ts'
import type { LeaseFamily } from '../lease.ts'
import { firstAlone, firstOf, localFamilies, type Local, type LocalFamily } from '../local.ts'
import { isOnLink } from '../on-link.ts'
import type { Backend } from './backend.ts'
import { directRoute, mainRoute, owned } from './direct.ts'
import type { VxlanConf } from './vxlan-conf.ts'

/**
 * Bytes in front of a pod's packet on the wire, without the outer Ethernet header: inner Ethernet 14, VXLAN 8, UDP 8, IP 20 or 40.
 * Flannel subtracts 50 for both families, so its IPv6 tunnels fragment.
 */
const OVERHEAD = { 4: 50, 6: 70 } as const satisfies Record<Family, number>

const OWNER = 'flannel/vxlan'

export function vxlan(conf: VxlanConf): Backend {
  const deviceName = (family: Family): string => (family === 4 ? `flannel.${conf.vni}` : `flannel-v6.${conf.vni}`)
  const deviceMtu = (own: LocalFamily, family: Family): number => (conf.mtu ?? own.underlay.mtu) - OVERHEAD[family]

  const device = (local: Local, family: Family, own: LocalFamily): Entry[] => {
    const dev = deviceName(family)
    const link: Entry = {
      kind: 'link',
      name: dev,
      up: true,
      mtu: deviceMtu(own, family),
      ...(own.mac === undefined ? {} : { mac: own.mac }),
      data: {
        type: 'vxlan',
        vni: conf.vni,
        local: own.address,
        dev: own.underlay.dev,
        port: conf.port,
        learning: conf.learning,
        gbp: conf.gbp,
      },
    }
    const noRa: Entry = { kind: 'sysctl', key: `net/ipv6/conf/${dev}/accept_ra`, value: '0', dev }
    const address: Entry = { kind: 'address', dev, address: firstAlone(own.subnet) }
    return local.kernelHasIpv6 ? [link, noRa, address] : [link, address]
  }

  const isDirect = ({ underlay }: LocalFamily, peer: LeaseFamily): boolean =>
    conf.directRouting && isOnLink(underlay.routes, parseIp(peer.publicIp), underlay.dev)

  const tunnel = (family: Family, peer: LeaseFamily): Entry[] => {
    if (peer.data.kind !== 'vtep') return []
    const dev = deviceName(family)
    const hop = firstOf(peer.subnet)
    const { mac } = peer.data
    return [
      { kind: 'neigh', dev, ip: hop, mac },
      { kind: 'fdb', dev, mac, dst: peer.publicIp },
      { ...mainRoute(peer), dev, via: hop, onlink: true },
    ]
  }

  return {
    type: 'vxlan',
    families: [4, 6],
    deviceName,
    readData: parseVtepData,
    mtu: (local) =>
      Math.min(
        ...localFamilies(local).map((family) =>
          local[family] === undefined ? Infinity : deviceMtu(local[family], family),
        ),
      ),
    published: (local, family) => {
      const mac = local[family]?.mac
      return mac === undefined ? { kind: 'none' } : { kind: 'vtep', vni: conf.vni, mac }
    },
    devicePlan: (local) =>
      localFamilies(local).flatMap((family) => {
        const own = local[family]
        return own === undefined
          ? []
          : owned(device(local, family, own), { owner: OWNER, reason: `node/${local.node}` })
      }),
    peerPlan: (local, lease) => {
      const origin: Origin = { owner: OWNER, reason: `node/${lease.node}` }
      return localFamilies(local).flatMap((family) => {
        const peer = lease[family]
        const own = local[family]
        if (peer === undefined || own === undefined) return []
        const direct = isDirect(own, peer)
        return owned(direct ? [directRoute(own, peer)] : tunnel(family, peer), origin)
      })
    },
    objection: (_own, { data }) => {
      if (data.kind !== 'vtep') return { code: 'no-data', why: 'it publishes no tunnel end' }
      if (data.vni !== undefined && data.vni !== conf.vni)
        return {
          code: 'vni-differs',
          why: `its VNI is ${data.vni}, ours ${conf.vni}: frames would be dropped at the other end`,
        }
      return undefined
    },
  }
}
