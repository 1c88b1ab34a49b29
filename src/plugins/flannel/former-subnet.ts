/**
 * The bridge still has the address of a subnet that this node had before (it joined another cluster, or its podCIDR changed): the plugin bridge then refuses every
 * ADD with "already has an IP address different from". Where no pod is connected any more nobody needs that address, and it goes.
 */

import { tryAgain } from '#cni/errors.ts'
import type { NetConf } from '#cni/config.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { addToIp, formatIp } from '#ip/address.ts'
import { formatCidr, ipNetOf, networkOf, parseCidr, parseIpNet } from '#ip/prefix.ts'
import type { CidrText, IpNetText } from '#ip/text.ts'
import { deleteAddr, listAddrs } from '#netlink/addr.ts'
import { findLink, kindOf, listLinks } from '#netlink/link.ts'
import { hasCode } from '#sys/errno.ts'
import { conflictsOf } from '../bridge/gateways.ts'
import type { SubnetEnv } from './subnet-env.ts'

/** Source: the plugin bridge's default. */
const USUAL_BRIDGE = 'cni0'

/** Removes gateway addresses of former subnets from the delegate's bridge. Throws CniError 11 while pods are connected to it. */
export function leaveFormerSubnets(delegate: NetConf, env: SubnetEnv, host: PluginHost): void {
  const { type, raw } = delegate
  // With forceAddress the plugin bridge does it by itself.
  if (type !== 'bridge' || raw['isGateway'] !== true || raw['forceAddress'] === true) return
  const name = typeof raw['bridge'] === 'string' && raw['bridge'] !== '' ? raw['bridge'] : USUAL_BRIDGE
  const link = findLink(host.netlink, name)
  if (link === undefined || kindOf(link) !== 'bridge') return
  const present = listAddrs(host.netlink, { index: link.index }).map(({ address }) => address)
  const wanted = env.subnets.map(gatewayOf)
  const former = wanted
    .flatMap((address) => (present.includes(address) ? [] : conflictsOf(address, present)))
    // Any other address is somebody's own, for whatever he wants it.
    .filter((address) => address === gatewayOf(networkText(address)) && !wanted.includes(address))
  if (former.length === 0) return
  const ports = listLinks(host.netlink).filter(({ master }) => master === link.index)
  if (ports.length > 0) throw inUse(name, former, wanted, ports.length)
  for (const address of new Set(former)) {
    host.failpoint('flannel.former')
    try {
      deleteAddr(host.netlink, { index: link.index, address })
      host.log(
        'warn',
        `flannel: ${name} had ${address} of a subnet that this node has no more; removed, no pod is connected`,
      )
    } catch (error) {
      // Another ADD was faster.
      if (!hasCode(error, 'EADDRNOTAVAIL', 'ENODEV')) throw error
    }
  }
}

const inUse = (name: string, former: readonly IpNetText[], wanted: readonly IpNetText[], pods: number) =>
  tryAgain(
    `${JSON.stringify(name)} already has an IP address different from ${wanted.join(', ')}: ${former.join(', ')}, of a subnet that this node has no more, and ${pods} pods are connected to it`,
    `their addresses lead nowhere: delete these pods (kubectl drain), and the next ADD mends ${name} by itself; or by hand, for all of them at once: ip link delete ${name}`,
  )

/** As host-local and the plugin bridge choose it: the first address of the subnet. */
const gatewayOf = (subnet: CidrText): IpNetText => {
  const { ip, length } = parseCidr(subnet)
  return ipNetOf(formatIp(addToIp(ip, 1)), length)
}

const networkText = (address: IpNetText): CidrText => formatCidr(networkOf(parseIpNet(address)))
