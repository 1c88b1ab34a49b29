/** Reads what the flannel agent tells this node's plugins: /run/flannel/subnet.env. Tolerant of what historic writers wrote (several networks, comments). */

import { readFileSync } from 'node:fs'

import { messageOf, tryAgain } from '#cni/errors.ts'
import { formatCidr, tryParseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'

export interface SubnetEnv {
  /** The cluster's networks, IPv4 first. */
  readonly networks: readonly CidrText[]
  /** This node's subnets, one of each family at most; at least one. */
  readonly subnets: readonly CidrText[]
  readonly mtu: number
  /** The agent masquerades, so the plugin must not. */
  readonly ipMasq: boolean
}

/** Throws CniError 11 while the file is missing or incomplete: the agent has not come so far yet. */
export function readSubnetEnv(path: string): SubnetEnv {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw notReady(`${path} cannot be read (${messageOf(error)})`)
  }
  const parsed = parseSubnetEnv(text)
  if (typeof parsed === 'string') throw notReady(`${path} is incomplete: ${parsed}`)
  return parsed
}

const notReady = (msg: string) =>
  tryAgain(
    msg,
    "the flannel agent writes this file when it has a subnet: see the agent's log on this node, and whether the node has a podCIDR",
  )

/** The values, or what is missing or wrong. */
export function parseSubnetEnv(text: string): SubnetEnv | string {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=')
    if (equals > 0 && !line.startsWith('#')) values.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim())
  }
  const networks: CidrText[] = []
  const subnets: CidrText[] = []
  for (const family of ['', 'IPV6_']) {
    const network = cidrs(values.get(`FLANNEL_${family}NETWORK`))
    const subnet = cidrs(values.get(`FLANNEL_${family}SUBNET`))
    if (network === undefined) return `FLANNEL_${family}NETWORK is no prefix`
    if (subnet === undefined || subnet.length > 1) return `FLANNEL_${family}SUBNET is no prefix`
    if (network.length > 0 && subnet.length === 0) return `FLANNEL_${family}SUBNET is missing`
    if (network.length === 0 && subnet.length > 0) return `FLANNEL_${family}NETWORK is missing`
    networks.push(...network)
    subnets.push(...subnet)
  }
  if (subnets.length === 0) return 'neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET is there'
  const mtu = Number(values.get('FLANNEL_MTU') ?? Number.NaN)
  if (!Number.isInteger(mtu) || mtu < 68 || mtu > 65_535) return 'FLANNEL_MTU is missing or no MTU'
  const ipMasq = values.get('FLANNEL_IPMASQ')
  if (ipMasq !== 'true' && ipMasq !== 'false') return 'FLANNEL_IPMASQ is missing or neither true nor false'
  return { networks, subnets, mtu, ipMasq: ipMasq === 'true' }
}

/** A comma-separated list of prefixes, [] for none, undefined for a bad one. */
function cidrs(text: string | undefined): readonly CidrText[] | undefined {
  if (text === undefined || text === '') return []
  const list: CidrText[] = []
  for (const part of text.split(',')) {
    const cidr = tryParseCidr(part.trim())
    if (cidr === undefined) return undefined
    list.push(formatCidr(cidr))
  }
  return list
}
