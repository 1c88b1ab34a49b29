/** The lab's network configuration, in the files that a cluster with flannel has. */

import { familyOf } from '#ip/prefix.ts'
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

/** The objects' text in files and in the ConfigMap. */
export const jsonText = (value: object): string => `${JSON.stringify(value, undefined, 2)}\n`
