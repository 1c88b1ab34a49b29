/** The gateway of a VLAN: a veth pair on the host, one end a port of the bridge in that VLAN, the other with the gateway's address. */

import type { PluginHost } from '#cni/plugin.ts'
import { createLinkMessage, findLink, getLink, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { distrustful, hostNetns, writeSysctls } from '../link/host-netns.ts'
import { checkInterfaceName } from '../link/interface-name.ts'
import { aliasOf, hostNames } from '../link/owner.ts'
import { sendAll } from '../link/veth.ts'
import type { BridgeConf } from './config.ts'
import { setVlans } from './port.ts'

/** Like the bridge it serves all pods of the VLAN, and stays. Throws CniError 7 when `<bridge>.<vlan>` is longer than a name may be. */
export function ensureVlanGateway(host: PluginHost, bridge: Link, conf: BridgeConf): Link {
  const name = checkInterfaceName(`${bridge.name}.${conf.vlan}`, 'the name of the VLAN gateway, "bridge"."vlan",')
  const there = findLink(host.netlink, name)
  if (there !== undefined) return there
  // Not an attachment, but named and marked like one, so that two calls choose the same name.
  const owner = { containerId: 'gateway', ifname: name }
  const port = hostNames(bridge.name, owner)[0] ?? name
  const mtu = bridge.mtu
  sendAll(host.netlink, [
    createLinkMessage({ name: port, mtu, master: bridge.index, info: { kind: 'veth', data: { peer: { name, mtu } } } }),
    setLinkMessage(port, { alias: aliasOf(bridge.name, owner) }),
  ])
  writeSysctls(hostNetns(host).fd, [...distrustful(port), ...distrustful(name)])
  setVlans(host, getLink(host.netlink, port).index, { ...conf, vlanTrunk: [] })
  sendAll(host.netlink, [setLinkMessage(port, { up: true }), setLinkMessage(name, { up: true })])
  return getLink(host.netlink, name)
}
