/** The lab's network configuration, in the files that a cluster with flannel has. */

import * as v from 'valibot'
import { familyOf } from '#ip/prefix.ts'
import { cloudConf } from './cloud/network.ts'
import type { LabPaths } from './paths.ts'
import type { LabPlan } from './plan.ts'

/** CNI's name of the pod network, as in flannel's manifest. */
export const NETWORK_NAME = 'cbr0'

/** flannel's `net-conf.json`. */
export function netConf(plan: LabPlan): object {
  const network = plan.podNetworks.find((cidr) => familyOf(cidr) === 4)
  const network6 = plan.podNetworks.find((cidr) => familyOf(cidr) === 6)
  const { backend } = plan.spec
  return {
    ...(network === undefined ? { EnableIPv4: false } : { Network: network }),
    ...(network6 === undefined ? {} : { EnableIPv6: true, IPv6Network: network6 }),
    Backend: backend === 'directrouting' ? { Type: 'vxlan', DirectRouting: true } : { Type: backend },
  }
}

/** The configuration list of every node, as flannel's manifest has it, in the version that knows GC and STATUS. */
export const cniConf = (): object => ({
  name: NETWORK_NAME,
  cniVersion: '1.1.0',
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
})

/** The configuration list of this lab's nodes. */
export const confOf = (plan: LabPlan, paths: LabPaths): object =>
  plan.cloud === undefined ? cniConf() : cloudConf(plan.cloud, paths)

/** The objects' text in files and in the ConfigMap. */
export const jsonText = (value: object): string => `${JSON.stringify(value, undefined, 2)}\n`

/** Plugins of a configuration list, in their order, with the address book that the first one asks. */
export function pluginsOf(conf: object): string {
  const Conf = v.object({
    plugins: v.array(v.looseObject({ type: v.string(), ipam: v.optional(v.looseObject({ type: v.string() })) })),
  })
  const { plugins } = v.parse(Conf, conf)
  // flannel's delegates are named by nobody but flannel.
  return plugins
    .flatMap(({ type, ipam }) => [
      type,
      ...(type === 'flannel' ? ['bridge', 'host-local'] : []),
      ...(ipam === undefined ? [] : [ipam.type]),
    ])
    .join(', ')
}
