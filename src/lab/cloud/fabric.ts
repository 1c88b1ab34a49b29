/** What a lab's cloud has before Neutron is asked: the external network with the Internet behind it, where the cloud's own services are too. */

import { addrMessage } from '#netlink/addr.ts'
import { createLink, getLink, setLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { ipNetOf, parseCidr } from '#ip/prefix.ts'
import { nativeSys } from '#sys/addon.ts'
import { openNetns } from '#sys/netns.ts'
import { netnsPath } from '../paths.ts'
import { UNDERLAY_MTU, type LabPlan } from '../plan.ts'
import { EXTERNAL_BRIDGE, type CloudPlan } from './plan.ts'

/** Connects the outside to the external bridge. VMs and the router are plugged in when Neutron knows them. */
export function connectCloud(plan: LabPlan, { external, services }: CloudPlan): void {
  using fabric = NetlinkSocket.open({ netns: netnsPath(plan.fabric.namespace) })
  createLink(fabric, { name: EXTERNAL_BRIDGE, info: { kind: 'bridge' }, mtu: UNDERLAY_MTU, up: true })
  const { index } = getLink(fabric, EXTERNAL_BRIDGE)
  const { length } = parseCidr(external.cidr)
  fabric.request(addrMessage('add', { index, address: ipNetOf(services.ip, length) }))
  const netnsFd = openNetns(netnsPath(plan.outside.namespace))
  try {
    const peer = { name: 'eth0', netnsFd, mtu: UNDERLAY_MTU }
    createLink(fabric, { name: 'outside', mtu: UNDERLAY_MTU, info: { kind: 'veth', data: { peer } } })
    setLink(fabric, 'outside', { master: index, up: true })
  } finally {
    nativeSys().close(netnsFd)
  }
  using outside = NetlinkSocket.open({ netns: netnsPath(plan.outside.namespace) })
  setLink(outside, 'eth0', { up: true })
  const eth0 = getLink(outside, 'eth0').index
  for (const { address } of plan.outside.addresses) outside.request(addrMessage('add', { index: eth0, address }))
}
