/** Nodes for tests: a cluster of any size, as its members would write themselves. */

import { formatIp, ip4 } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { cidrText } from '#ip/prefix.ts'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import type { BackendConf } from './backend-conf.ts'
import type { VxlanConf } from './backend/vxlan-conf.ts'
import type { Local } from './local.ts'
import type { NodeView } from './node-view.ts'

export const vxlanConf: VxlanConf = {
  type: 'vxlan',
  vni: 1,
  port: 8472,
  gbp: false,
  learning: false,
  directRouting: false,
}

/** Node 0: 10.244.0.0/24 at 192.168.0.1, and its IPv6 counterpart if asked for. */
export function localNode(options: { readonly ipv6?: boolean; readonly conf?: BackendConf } = {}): Local {
  return {
    node: 'node-0',
    backend: options.conf ?? vxlanConf,
    ipMasq: true,
    randomFully: true,
    forwardRules: true,
    blackhole: false,
    kernelHasIpv6: true,
    4: {
      underlay: {
        dev: 'eth0',
        mtu: 1500,
        routes: [
          { dst: cidrText('192.168.0.0/20'), dev: 'eth0' },
          { dst: cidrText('0.0.0.0/0'), via: ipText('192.168.0.254'), dev: 'eth0' },
        ],
      },
      network: cidrText('10.0.0.0/8'),
      subnet: cidrText('10.244.0.0/24'),
      address: ipText('192.168.0.1'),
      publicIp: ipText('192.168.0.1'),
      mac: parseMac('02:00:00:00:00:00'),
    },
    ...(options.ipv6 === true
      ? {
          6: {
            underlay: { dev: 'eth0', mtu: 1500, routes: [] },
            network: cidrText('fd00:244::/32'),
            subnet: cidrText('fd00:244::/64'),
            address: ipText('2001:db8::1'),
            publicIp: ipText('2001:db8::1'),
            mac: parseMac('02:06:00:00:00:00'),
          },
        }
      : {}),
  }
}

export const macOf = (i: number, first = 0): MacText => macFromBytes(Uint8Array.from([2, first, 0, 0, i >> 8, i & 255]))

/** Peer `i` ≥ 1: pods 10.(244 + i/256).(i%256).0/24, address 192.168.0.1 + i. */
export function peerNode(i: number, annotations: NodeView['annotations'] = {}, more: Partial<NodeView> = {}): NodeView {
  const subnet = (244 << 16) + (i << 8) - (i >= 3072 ? 244 << 16 : 0)
  return {
    name: `node-${i}`,
    uid: `uid-${i}`,
    created: new Date(1_700_000_000_000 + i * 1000).toISOString(),
    podCidrs: [`${formatIp(ip4(0x0a00_0000 + subnet))}/24`, `fd00:244:0:${i.toString(16)}::/64`],
    annotations: {
      marker: 'true',
      backendType: 'vxlan',
      backendData: JSON.stringify({ VNI: 1, VtepMAC: macOf(i) }),
      backendV6Data: JSON.stringify({ VNI: 1, VtepMAC: macOf(i, 6) }),
      publicIp: formatIp(ip4(0xc0a8_0001 + i)),
      publicIpv6: `2001:db8::${(i + 1).toString(16)}`,
      ...annotations,
    },
    ...more,
  }
}
