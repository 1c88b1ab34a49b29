/** A lab's cloud as it is now, for a check: the router's address from the kernel, floating IPs from Neutron. */

import { formatIp } from '#ip/address.ts'
import { parseIpNet } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { listAddrs } from '#netlink/addr.ts'
import { listLinks } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { OpenStackClient } from '#openstack/client.ts'
import { loadCloud } from '#openstack/clouds-file.ts'
import { OpenStackError } from '#openstack/errors.ts'
import { listFloatingIps } from '#openstack/neutron/floating-ip.ts'
import type { Check } from '../check/cases.ts'
import type { LabView } from '../check/view.ts'
import { LabError } from '../error.ts'
import { netnsPath, type LabPaths } from '../paths.ts'
import type { LabPlan } from '../plan.ts'
import { cloudCases } from './cases.ts'
import { MEMBER_CLOUD } from './clouds-yaml.ts'
import type { CloudPlan } from './plan.ts'
import { cloudPaths } from './state.ts'

/** A client of the lab's tenant, from this machine. */
export const tenantClient = (paths: LabPaths): OpenStackClient =>
  new OpenStackClient(loadCloud({ file: cloudPaths(paths.directory).cloudsYaml, cloud: MEMBER_CLOUD, env: {} }), {
    userAgent: 'heddle-lab',
  })

/** Throws `LabError` `failed` when the cloud does not answer. */
export async function cloudChecks(plan: LabPlan, cloud: CloudPlan, paths: LabPaths, lab: LabView): Promise<Check[]> {
  using client = tenantClient(paths)
  const floating = await listFloatingIps(client).catch((error: unknown) => {
    if (!(error instanceof OpenStackError)) throw error
    const { log } = cloudPaths(paths.directory)
    throw new LabError('failed', `the lab's cloud does not answer: ${error.message}`, `See ${log}.`, { cause: error })
  })
  return cloudCases({
    lab,
    networks: new Map(plan.nodes.map((node) => [node.name, node.switch])),
    gateway: gatewayOf(cloud.router),
    floating: floating.flatMap(({ floating_ip_address: ip, fixed_ip_address: fixed }) =>
      fixed === undefined ? [] : [{ ip, fixed }],
    ),
  })
}

/** The first address of `qg-…`; those of floating IPs come after it, with the length 32. */
function gatewayOf(router: string): IpText | undefined {
  using netlink = NetlinkSocket.open({ netns: netnsPath(router) })
  const outer = listLinks(netlink).find(({ name }) => name.startsWith('qg-'))
  if (outer === undefined) return undefined
  const own = listAddrs(netlink, { index: outer.index, family: 4 }).map(({ address }) => parseIpNet(address))
  const first = own.find(({ length }) => length < 32)
  return first === undefined ? undefined : formatIp(first.ip)
}
