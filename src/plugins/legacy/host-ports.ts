/** Port mappings that the reference plugins left in iptables: recognised by CHECK, removed by DEL and GC. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { dropChain, dropStaleChains, hasChain, referenceChain } from './iptables.ts'

const chainOf = (network: string, containerId: string): string => referenceChain(network, containerId, 'DN-')

/** Whether the reference's chain of this container exists; two netlink requests, no process. */
export const hasReferencePorts = (nft: NetlinkSocket, network: string, containerId: string): boolean =>
  hasChain(nft, chainOf(network, containerId))

export const dropReferencePorts = (host: PluginHost, network: string, containerId: string): Promise<void> =>
  dropChain(host, chainOf(network, containerId))

export const dropStaleReferencePorts = (
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
): Promise<void> => dropStaleChains(host, network, valid, /^CNI-DN-[0-9a-f]{21}$/)
