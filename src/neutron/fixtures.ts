/** Objects as the API and the cloud would give them, for tests of plans. */

import { ipText } from '#ip/address.ts'
import type { FloatingIp } from '#openstack/neutron/floating-ip.ts'
import type { Port } from '#openstack/neutron/port.ts'
import type { NodeView } from './node-view.ts'
import type { PodView } from './pod-view.ts'

export const nodeFixture = (name: string, more: Partial<NodeView> = {}): NodeView => ({
  name,
  uid: `uid-${name}`,
  servers: [`server-${name}`],
  addresses: [],
  chosen: undefined,
  podCidrs: [],
  routesMissing: undefined,
  ...more,
})

export const podFixture = (name: string, node: string, address: string, more: Partial<PodView> = {}): PodView => ({
  key: `default/${name}`,
  uid: `uid-${name}`,
  node,
  addresses: address === '' ? [] : [ipText(address)],
  isOver: false,
  isReady: true,
  floating: undefined,
  floatingStatus: undefined,
  created: 0,
  ...more,
})

/** A port with fixed IPs of one subnet; by default a card of a server. */
export const portFixture = (
  id: string,
  addresses: readonly string[],
  { tags = [], ...more }: Partial<Omit<Port, 'tags'>> & { readonly tags?: readonly string[] } = {},
): Port => ({
  id,
  name: '',
  network_id: 'net',
  project_id: 'p',
  mac_address: '02:00:00:00:00:01' as Port['mac_address'],
  fixed_ips: addresses.map((ip) => ({ subnet_id: 'sub', ip_address: ipText(ip) })),
  allowed_address_pairs: [],
  device_id: '',
  device_owner: 'compute:nova',
  status: 'ACTIVE',
  admin_state_up: true,
  port_security_enabled: true,
  security_groups: [],
  tags: [...tags],
  'binding:host_id': undefined,
  revision_number: 1,
  ...more,
})

export const floatingFixture = (id: string, address: string, more: Partial<FloatingIp> = {}): FloatingIp => ({
  id,
  floating_ip_address: ipText(address),
  floating_network_id: 'ext',
  fixed_ip_address: undefined,
  port_id: undefined,
  router_id: undefined,
  project_id: 'p',
  status: 'DOWN',
  description: '',
  tags: [],
  revision_number: 1,
  ...more,
})
