/** Puts this node together from what its parts say: Node object, network configuration, interfaces, flags. */

import { tryParseIp, formatIp, type Family } from '#ip/address.ts'
import { containsCidr, parseCidr } from '#ip/prefix.ts'
import type { IpText, MacText } from '#ip/text.ts'
import { ROLES, type Role } from './annotations.ts'
import { shown } from './errors.ts'
import { isHostAddress, podCidrOf } from './lease.ts'
import type { Identity, Local, LocalFamily } from './local.ts'
import { familiesOf, type NetConf } from './net-conf.ts'
import type { NodeView } from './node-view.ts'
import type { ChosenUnderlay } from './underlay.ts'

type PerFamily<T> = { readonly [family in Family]?: T }

export interface Parts {
  readonly node: NodeView
  readonly conf: NetConf
  readonly underlay: PerFamily<ChosenUnderlay>
  /** `--public-ip`, `--public-ipv6`. */
  readonly publicIps: PerFamily<IpText>
  readonly macs: PerFamily<MacText>
  readonly ipMasq: boolean
  readonly randomFully: boolean
  readonly forwardRules: boolean
  readonly blackhole: boolean
  readonly kernelHasIpv6: boolean
  readonly identity?: Identity | undefined
}

export interface Composed {
  /** Families that are complete; undefined when none is. */
  readonly local: Local | undefined
  /** What the others lack, as sentences. */
  readonly missing: readonly string[]
}

/** A family whose part is missing at the moment keeps what it had in `last`: an address that is away for a second moves no tunnel. */
export function compose(parts: Parts, last?: Local): Composed {
  const missing: string[] = []
  const found: { 4?: LocalFamily; 6?: LocalFamily } = {}
  for (const family of familiesOf(parts.conf)) {
    const composed = composeFamily(parts, family)
    if (typeof composed === 'string') missing.push(composed)
    const own = typeof composed === 'string' ? last?.[family] : composed
    if (own !== undefined) found[family] = own
  }
  if (found[4] === undefined && found[6] === undefined) return { local: undefined, missing }
  const { ipMasq, randomFully, forwardRules, blackhole, kernelHasIpv6, identity } = parts
  return {
    local: {
      node: parts.node.name,
      backend: parts.conf.backend,
      ...(identity === undefined ? {} : { identity }),
      ipMasq,
      randomFully,
      forwardRules,
      blackhole,
      kernelHasIpv6,
      ...found,
    },
    missing,
  }
}

function composeFamily(parts: Parts, family: Family): LocalFamily | string {
  const { node, conf } = parts
  const network = conf.network[family]
  const chosen = parts.underlay[family]
  const subnet = podCidrOf(node, family)
  if (network === undefined) return `IPv${family} is switched off`
  if (subnet === undefined)
    return `node ${node.name} has no IPv${family} podCIDR: the controller manager assigns one when it runs with --allocate-node-cidrs and --cluster-cidr ${network}`
  if (!containsCidr(parseCidr(network), parseCidr(subnet)))
    return `the podCIDR ${subnet} of node ${node.name} is not inside the pod network ${network}: net-conf.json and the controller manager's --cluster-cidr must be the same`
  if (chosen === undefined) return `no interface has been chosen for IPv${family}`
  // As with flannel, the extension backend publishes the interface's address, whatever is asked for.
  const publicIp = conf.backend.type === 'extension' ? chosen.address : publicIpOf(parts, family, chosen.address)
  if (publicIp === undefined)
    return `node ${node.name}: an annotation or --public-ip names no IPv${family} address: ${namedIps(node, family)}`
  if (conf.backend.type === 'host-gw' && publicIp !== chosen.address)
    return `host-gw routes to the interface's own address ${chosen.address}, so ${publicIp} cannot be published instead: leave --public-ip out, or use vxlan`
  const mac = parts.macs[family]
  return {
    underlay: chosen.underlay,
    network,
    subnet,
    address: chosen.address,
    publicIp,
    ...(mac === undefined ? {} : { mac }),
  }
}

const NAMES = {
  4: { overwrite: 'publicIpOverwrite', node: 'nodePublicIp' },
  6: { overwrite: 'publicIpv6Overwrite', node: 'nodePublicIpv6' },
} as const satisfies Record<Family, { overwrite: Role; node: Role }>

/** Undefined when what was written is no address. */
function publicIpOf({ node, publicIps }: Parts, family: Family, address: IpText): IpText | undefined {
  const written = node.annotations[NAMES[family].overwrite] ?? node.annotations[NAMES[family].node] ?? publicIps[family]
  return written === undefined ? address : hostIp(written, family)
}

/** The address that an operator's annotation asks to use, for choosing the interface. */
export const askedIp = (node: NodeView, family: Family): IpText | undefined =>
  hostIp(node.annotations[NAMES[family].node] ?? '', family)

function hostIp(text: string, family: Family): IpText | undefined {
  const ip = tryParseIp(text)
  return ip?.family === family && isHostAddress(ip) ? formatIp(ip) : undefined
}

const namedIps = (node: NodeView, family: Family): string =>
  [NAMES[family].overwrite, NAMES[family].node]
    .map((role) => `${ROLES[role]} is ${shown(node.annotations[role])}`)
    .join(', ')
