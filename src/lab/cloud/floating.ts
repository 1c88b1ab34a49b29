/** Floating IPs that a lab has from the start: of the first VM, and of its first pod. Like `openstack floating ip create --port P --fixed-ip-address A`. */

import type { IpText } from '#ip/text.ts'
import { createFloatingIp } from '#openstack/neutron/floating-ip.ts'
import { Ports } from '#openstack/neutron/port.ts'
import { observeEth0 } from '../observe.ts'
import type { LabPaths } from '../paths.ts'
import type { LabPlan } from '../plan.ts'
import { tenantClient } from './check.ts'
import { cloudPaths, readState } from './state.ts'

export async function giveFloatingIps(plan: LabPlan, paths: LabPaths): Promise<void> {
  const state = readState(cloudPaths(paths.directory))
  const [node] = plan.nodes
  const pod = node?.pods[0]
  const fixed: readonly (IpText | undefined)[] = [
    node?.underlay[0]?.ip,
    pod === undefined ? undefined : observeEth0(pod.namespace)?.ips[0],
  ]
  using client = tenantClient(paths)
  for (const address of fixed) {
    if (address === undefined || state === undefined) continue
    const [port] = await new Ports(client).list({ ip: address })
    if (port === undefined) throw new Error(`no port of the cloud has the address ${address}`)
    await createFloatingIp(client, { network: state.external, target: { port: port.id, address } })
  }
}
