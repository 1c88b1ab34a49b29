/** The CNI configuration of a cloud's nodes, as a cluster in OpenStack has it. */

import { join } from 'node:path'
import type { LabPaths, NodePaths } from '../paths.ts'
import type { CloudMode } from '../spec.ts'
import { MEMBER_CLOUD } from './clouds-yaml.ts'
import type { CloudPlan } from './plan.ts'
import { cloudPaths } from './state.ts'

/** CNI's name of the pod network. */
export const CLOUD_NETWORK = 'neutron'

/** The main plugin of each mode. */
export const MAIN_PLUGIN: { readonly [mode in CloudMode]: string } = {
  veth: 'neutron-veth',
  ipvlan: 'ipvlan',
  passthrough: 'host-device-plus',
}

/** Where a node has it. */
export const cniFile = ({ root }: NodePaths): string => join(root, 'etc/cni/net.d/10-neutron.conflist')

export function cloudConf(cloud: CloudPlan, paths: LabPaths): object {
  const { innerCloudsYaml: cloudsFile } = cloudPaths(paths.directory)
  const credentials = { cloudsFile, cloud: MEMBER_CLOUD }
  const ipam = {
    type: 'neutron-ipam',
    ...credentials,
    hostInterface: 'eth0',
    // A lab's metadata server would tell nothing that the address does not.
    portLookup: ['ip', 'mac'],
    validity: 'fixed_ips',
    pool: { minimum: 2, warm: 2, batch: 4, settleSeconds: Math.ceil(cloud.filterDelayMs / 1000) + 1 },
  }
  const main = { type: MAIN_PLUGIN[cloud.mode], ipam }
  const serviceLeg = { type: 'veth-host', serviceCIDRs: [cloud.serviceCidr] }
  const plugins = {
    veth: [{ ...main, master: 'eth0' }],
    ipvlan: [{ ...main, master: 'eth0', mode: 'l2' }, serviceLeg],
    passthrough: [{ type: MAIN_PLUGIN.passthrough, ...credentials, hostInterface: 'eth0' }, serviceLeg],
  }[cloud.mode]
  return { cniVersion: '1.1.0', name: CLOUD_NETWORK, plugins }
}
