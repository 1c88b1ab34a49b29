/**
 * subnet.env: what the flannel CNI plugin, Docker's helper scripts and a flanneld after us read. Written byte for byte as flannel
 * writes it (pkg/subnet/subnet.go), read with patience.
 */

import { ipNetOf, tryParseCidr, tryParseIpNet, formatCidr, formatIpNet } from '#ip/prefix.ts'
import type { CidrText, IpNetText } from '#ip/text.ts'
import { parseCidr } from '#ip/prefix.ts'
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

/**
 * Reads subnet.env. Undefined when it is half-written or damaged: no subnet, no MTU, or a value that is not what it should be.
 * Of a key that is there twice the later one counts; unknown keys, comments and quotes are tolerated.
 */
export function parseSubnetEnv(text: string): SubnetEnv | undefined {
  const values = new Map<string, string>()
  // Without its last line break the file was not written to the end.
  if (!text.endsWith('\n')) return undefined
  for (const line of text.split('\n')) {
    const match = /^\s*(?:export\s+)?([A-Z0-9_]+)=(.*?)\s*$/.exec(line)
    const [, key, value] = match ?? []
    if (key !== undefined && value !== undefined) values.set(key, value.replace(/^(["'])(.*)\1$/, '$2'))
  }
  const v4 = family(values, 4, 'FLANNEL_NETWORK', 'FLANNEL_SUBNET')
  const v6 = family(values, 6, 'FLANNEL_IPV6_NETWORK', 'FLANNEL_IPV6_SUBNET')
  const mtu = values.get('FLANNEL_MTU') ?? ''
  const ipMasq = values.get('FLANNEL_IPMASQ') ?? ''
  if (v4 === 'bad' || v6 === 'bad' || (v4 === undefined && v6 === undefined)) return undefined
  if (!/^[1-9]\d{1,4}$/.test(mtu) || !/^(true|false)$/.test(ipMasq)) return undefined
  return {
    networks: { 4: v4?.networks ?? [], 6: v6?.networks ?? [] },
    subnet: { ...(v4 === undefined ? {} : { 4: v4.subnet }), ...(v6 === undefined ? {} : { 6: v6.subnet }) },
    mtu: Number(mtu),
    ipMasq: ipMasq === 'true',
  }
}

function family(
  values: ReadonlyMap<string, string>,
  wanted: Family,
  networkKey: string,
  subnetKey: string,
): { readonly networks: CidrText[]; readonly subnet: IpNetText } | 'bad' | undefined {
  const networks = values.get(networkKey)
  const subnet = values.get(subnetKey)
  if (networks === undefined && subnet === undefined) return undefined
  const cidrs = (networks ?? '').split(',').map((text) => tryParseCidr(text.trim()))
  const net = tryParseIpNet(subnet ?? '')
  if (net?.ip.family !== wanted) return 'bad'
  const read = cidrs.flatMap((cidr) => (cidr?.ip.family === wanted ? [formatCidr(cidr)] : []))
  return read.length === cidrs.length ? { networks: read, subnet: formatIpNet(net) } : 'bad'
}
