/**
 * subnet.env: what the flannel CNI plugin, Docker's helper scripts and a flanneld after us read. Written byte for byte as flannel
 * writes it (pkg/subnet/subnet.go); `src/plugins/flannel/subnet-env.ts` reads it.
 */

import { ipNetOf, parseCidr } from '#ip/prefix.ts'
import type { CidrText, IpNetText } from '#ip/text.ts'
import type { Family } from '#ip/address.ts'
import { gatewayOf, type Local } from './local.ts'

export interface SubnetEnv {
  /** The cluster's pod networks; several only in files of old. */
  readonly networks: { readonly [family in Family]: readonly CidrText[] }
  /** The first usable address with the subnet's length: `10.244.1.1/24`. */
  readonly subnet: { readonly 4?: IpNetText; readonly 6?: IpNetText }
  readonly mtu: number
  readonly ipMasq: boolean
}

export function subnetEnvOf(local: Local, mtu: number): SubnetEnv {
  const gateway = (subnet: CidrText): IpNetText => ipNetOf(gatewayOf(subnet), parseCidr(subnet).length)
  const v4 = local[4]
  const v6 = local[6]
  return {
    networks: { 4: v4 === undefined ? [] : [v4.network], 6: v6 === undefined ? [] : [v6.network] },
    subnet: {
      ...(v4 === undefined ? {} : { 4: gateway(v4.subnet) }),
      ...(v6 === undefined ? {} : { 6: gateway(v6.subnet) }),
    },
    mtu,
    ipMasq: local.ipMasq,
  }
}

export function formatSubnetEnv({ networks, subnet, mtu, ipMasq }: SubnetEnv): string {
  const v4 = subnet[4] === undefined ? '' : `FLANNEL_NETWORK=${networks[4].join(',')}\nFLANNEL_SUBNET=${subnet[4]}\n`
  const v6 =
    subnet[6] === undefined ? '' : `FLANNEL_IPV6_NETWORK=${networks[6].join(',')}\nFLANNEL_IPV6_SUBNET=${subnet[6]}\n`
  return `${v4}${v6}FLANNEL_MTU=${mtu}\nFLANNEL_IPMASQ=${ipMasq}\n`
}
