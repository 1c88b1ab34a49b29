/** Which servers of the cloud the Nodes of a cluster are. Pure. */

import type { IpText } from '#ip/address.ts'
import type { Port } from '#openstack/neutron/port.ts'
import type { NodeView } from './node-view.ts'

/** Nova's ports, in any zone (`compute:nova`). */
export const isServerPort = (port: Pick<Port, 'device_owner' | 'device_id'>): boolean =>
  port.device_owner.startsWith('compute:') && port.device_id !== ''

/**
 * Ids of a node's servers, in small letters: those that its Node tells, and those whose ports have its addresses. The second matter where
 * there is no cloud provider, and where firmware writes the id of the machine in another order of bytes.
 */
export function serversOf(node: NodeView, ports: readonly Port[]): ReadonlySet<string> {
  const addresses: ReadonlySet<IpText> = new Set(
    node.chosen === undefined ? node.addresses : [...node.addresses, node.chosen],
  )
  const found = ports.filter(
    (port) => isServerPort(port) && port.fixed_ips.some(({ ip_address }) => addresses.has(ip_address)),
  )
  return new Set([...node.servers, ...found.map(({ device_id }) => device_id)].map((id) => id.toLowerCase()))
}
