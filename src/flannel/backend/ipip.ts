/**
 * flannel's ipip backend: one IP-in-IP device (RFC 2003) without a remote end, one onlink route per peer that names it.
 *
 * The device is ours alone: `tunl0`, which the kernel makes by itself, is left to others. The outer header takes the inner one's DF bit, so that packets
 * that may be fragmented still pass an underlay with a hidden smaller MTU.
 */

import { parseIp } from '#ip/address.ts'
import * as v from 'valibot'
import type { Entry } from '#state/entry.ts'
import { Flag, readOptions } from '../backend-options.ts'
import type { Folded } from '../fold.ts'
import { firstAlone } from '../local.ts'
import { isOnLink } from '../on-link.ts'
import { noData, type Backend } from './backend.ts'
import { directRoute, mainRoute, owned } from './direct.ts'

export interface IpipConf {
  readonly type: 'ipip'
  /** A plain route to peers that are on-link. */
  readonly directRouting: boolean
}

const Ipip = v.object({ directrouting: Flag })

export function ipipConf(folded: Folded): IpipConf {
  return { type: 'ipip', directRouting: readOptions(Ipip, folded).directrouting }
}

export const IPIP_DEVICE = 'flannel.ipip'

/** The outer IPv4 header, in bytes. */
const OVERHEAD = 20
const OWNER = 'flannel/ipip'

export function ipip({ directRouting }: IpipConf): Backend {
  const mtu: Backend['mtu'] = (local) => (local[4] === undefined ? Infinity : local[4].underlay.mtu - OVERHEAD)
  return {
    ...noData,
    type: 'ipip',
    families: [4],
    mtu,
    devicePlan(local) {
      const own = local[4]
      if (own === undefined) return []
      const link: Entry = {
        kind: 'link',
        name: IPIP_DEVICE,
        up: true,
        mtu: mtu(local),
        data: { type: 'ipip', local: own.address, pathMtuDiscovery: false },
      }
      const address: Entry = { kind: 'address', dev: IPIP_DEVICE, address: firstAlone(own.subnet) }
      return owned([link, address], { owner: OWNER, reason: `node/${local.node}` })
    },
    peerPlan(local, lease) {
      const own = local[4]
      const peer = lease[4]
      if (own === undefined || peer === undefined) return []
      const isDirect = directRouting && isOnLink(own.underlay.routes, parseIp(peer.publicIp), own.underlay.dev)
      const route: Entry = isDirect
        ? directRoute(own, peer)
        : { ...mainRoute(peer), dev: IPIP_DEVICE, via: peer.publicIp, onlink: true }
      return owned([route], { owner: OWNER, reason: `node/${lease.node}` })
    },
    objection: () => undefined,
  }
}
