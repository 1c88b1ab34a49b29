/**
 * flannel's udp backend: one TUN device with one route for the whole pod network, and a relay that carries its packets in UDP, each as it is, to
 * the peer whose subnet it goes to (`../udp`, `../relay`).
 *
 * IPv4 only, as with flannel. The annotation `backend-type` is empty text, not `udp`.
 */

import * as v from 'valibot'

import { defaultPriority, MAIN_TABLE, type Entry } from '#state/entry.ts'
import { Flag, readOptions, whole } from '../backend-options.ts'
import type { Folded } from '../fold.ts'
import { firstAlone } from '../local.ts'
import { noData, type Backend } from './backend.ts'
import { owned } from './direct.ts'

export interface UdpConf {
  readonly type: 'udp'
  /** Of this node and of every peer; a written 0 means flannel's 8285. */
  readonly port: number
  /** Take datagrams from addresses that no peer publishes, as flannel does. */
  readonly anySource: boolean
}

const DEFAULT_PORT = 8285

const Udp = v.object({ port: v.optional(whole(65_535), 0), anysource: Flag })

export function udpConf(folded: Folded): UdpConf {
  const { port, anysource } = readOptions(Udp, folded)
  return { type: 'udp', port: port === 0 ? DEFAULT_PORT : port, anySource: anysource }
}

export const UDP_DEVICE = 'flannel0'

/** IPv4 20 and UDP 8 bytes. */
const OVERHEAD = 28
const OWNER = 'flannel/udp'

export function udp({ port, anySource }: UdpConf): Backend {
  const mtu: Backend['mtu'] = (local) => (local[4] === undefined ? Infinity : local[4].underlay.mtu - OVERHEAD)
  return {
    ...noData,
    type: '',
    families: [4],
    mtu,
    devicePlan(local) {
      const own = local[4]
      if (own === undefined) return []
      const dev = UDP_DEVICE
      const entries: Entry[] = [
        { kind: 'link', name: dev, up: true, mtu: mtu(local), data: { type: 'tun' } },
        // ICMP errors of the relay's come from this node's own address, out of the device.
        { kind: 'sysctl', key: `net/ipv4/conf/${dev}/accept_local`, value: '1', dev },
        ...noIpv6(local.kernelHasIpv6, dev),
        { kind: 'address', dev, address: firstAlone(own.subnet) },
        {
          kind: 'route',
          dst: own.network,
          table: MAIN_TABLE,
          priority: defaultPriority(own.network),
          type: 'unicast',
          dev,
        },
        { kind: 'relay', dev, address: own.address, port, network: own.network, subnet: own.subnet, anySource },
      ]
      return owned(entries, { owner: OWNER, reason: `node/${local.node}` })
    },
    peerPlan(local, lease) {
      const peer = lease[4]
      if (local[4] === undefined || peer === undefined) return []
      const entry: Entry = { kind: 'relaypeer', relay: UDP_DEVICE, dst: peer.subnet, via: peer.publicIp }
      return owned([entry], { owner: OWNER, reason: `node/${lease.node}` })
    },
    objection: () => undefined,
  }
}

/** The tunnel carries none; the kernel would send router solicitations into it. */
const noIpv6 = (kernelHasIpv6: boolean, dev: string): Entry[] =>
  kernelHasIpv6 ? [{ kind: 'sysctl', key: `net/ipv6/conf/${dev}/disable_ipv6`, value: '1', dev }] : []
