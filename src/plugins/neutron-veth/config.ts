/** The configuration of neutron-veth. */

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, ipSchema, parseWith } from '#cni/schema.ts'
import { checkInterfaceName } from '../link/interface-name.ts'
import type { Gateways } from '../link/leg.ts'
import { gatewaysOf } from '../veth-host/config.ts'

const schema = v.object({
  /** The node's card in the pods' network; '' for the one that neutron-ipam keeps, else for the link of the default route. */
  master: v.nullish(v.string(), ''),
  /** 0 for the network's. */
  mtu: v.nullish(intSchema(0, 65_535), 0),
  linkLocal: v.nullish(ipSchema),
  linkLocal6: v.nullish(ipSchema),
  /** The card answers for the pod's addresses. */
  proxyNeighbours: v.nullish(v.boolean(), true),
  /** The network is told when an address has come to this node. */
  announce: v.nullish(v.boolean(), true),
  /** A dummy device of the host with `linkLocal`, so that pods can ping their gateway; '' for none. */
  dummy: v.nullish(v.string(), ''),
})

export interface NeutronVethConf {
  readonly what: string
  readonly master: string
  readonly mtu: number
  readonly gateways: Gateways
  readonly proxyNeighbours: boolean
  readonly announce: boolean
  readonly dummy: string
}

/** Throws CniError 7. */
export function neutronVethConf(input: PluginInput): NeutronVethConf {
  const what = `neutron-veth configuration of network ${JSON.stringify(input.config.name)}`
  if (input.config.ipam.type === '')
    throw invalidConfig(`${what} has no "ipam"`, 'a routed link cannot do without addresses')
  const { linkLocal, linkLocal6, dummy, ...conf } = parseWith(schema, input.config.raw, what)
  return {
    ...conf,
    what,
    gateways: gatewaysOf({ linkLocal, linkLocal6 }, what),
    dummy: dummy === '' ? '' : checkInterfaceName(dummy, `${what}: "dummy"`),
  }
}
