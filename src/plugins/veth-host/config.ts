/** The configuration of veth-host. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { cidrSchema, intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import { familyOf } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import type { Gateways } from '../link/leg.ts'
import { checkInterfaceName } from '../link/interface-name.ts'

/** Each is a route in every pod. */
const MAX_CIDRS = 64
const cidrs = v.pipe(v.array(cidrSchema), v.maxLength(MAX_CIDRS))

const schema = v.object({
  /** Of the leg, in the pod. */
  ifName: v.nullish(v.string(), ''),
  linkLocal: v.nullish(ipSchema),
  linkLocal6: v.nullish(ipSchema),
  /** What kube-proxy or another service proxy of the host rewrites. */
  serviceCIDRs: v.nullish(cidrs),
  /** What else is reached through the host. */
  hostStackCIDRs: v.nullish(cidrs, []),
  /** The pod reaches its node through the leg. */
  nodeRoute: v.nullish(v.boolean(), true),
  masqueradeServices: v.nullish(v.boolean(), true),
  /** The node's card; '' for the link of the default route. */
  master: v.nullish(v.string(), ''),
  /** 0 for that of the pod's interface. */
  mtu: v.nullish(intSchema(0, 65_535), 0),
  /** Of neutron-ipam; '' for its default. */
  stateDir: v.nullish(v.union([v.literal(''), v.pipe(v.string(), v.startsWith('/'))]), ''),
})

export interface VethHostConf {
  readonly what: string
  readonly ifName: string
  readonly gateways: Gateways
  readonly serviceCidrs: readonly CidrText[]
  readonly stackCidrs: readonly CidrText[]
  readonly nodeRoute: boolean
  readonly masqueradeServices: boolean
  readonly master: string
  readonly mtu: number
  readonly stateDir: string
}

/** kubeadm's. */
const SERVICE_CIDRS = v.parse(cidrs, ['10.96.0.0/12'])
export const LINK_LOCAL = v.parse(ipSchema, '169.254.1.1')
export const LINK_LOCAL6 = v.parse(ipSchema, 'fe80::1')

/** Throws CniError 7. */
export function vethHostConf(input: PluginInput): VethHostConf {
  const what = `veth-host configuration of network ${JSON.stringify(input.config.name)}`
  const conf = parseWith(schema, input.config.raw, what)
  return {
    what,
    ifName: conf.ifName === '' ? 'veth0' : checkInterfaceName(conf.ifName, `${what}: "ifName"`),
    gateways: gatewaysOf(conf, what),
    serviceCidrs: conf.serviceCIDRs ?? SERVICE_CIDRS,
    stackCidrs: conf.hostStackCIDRs,
    nodeRoute: conf.nodeRoute,
    masqueradeServices: conf.masqueradeServices,
    master: conf.master,
    mtu: conf.mtu,
    stateDir: conf.stateDir,
  }
}

/** Throws CniError 7 for addresses of the other family. */
export function gatewaysOf(
  { linkLocal, linkLocal6 }: Pick<v.InferOutput<typeof schema>, 'linkLocal' | 'linkLocal6'>,
  what: string,
): Gateways {
  const gateways = { 4: linkLocal ?? LINK_LOCAL, 6: linkLocal6 ?? LINK_LOCAL6 }
  for (const [family, key] of [
    [4, 'linkLocal'],
    [6, 'linkLocal6'],
  ] as const)
    if (familyOf(gateways[family]) !== family)
      throw invalidConfig(`${what}: "${key}" is ${gateways[family]}`, `write an IPv${family} address`)
  return gateways
}
