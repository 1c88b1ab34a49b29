/** Masquerade rules that the reference plugins left in iptables: recognised by CHECK, removed by DEL and GC. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { dropChain, dropStaleChains, hasChain, referenceChain } from './iptables.ts'

/** Whether the reference's chain of this container exists; two netlink requests, no process. */
export const hasReferenceMasquerade = (nft: NetlinkSocket, network: string, containerId: string): boolean =>
  hasChain(nft, referenceChain(network, containerId))

export const dropReferenceMasquerade = (host: PluginHost, network: string, containerId: string): Promise<void> =>
  dropChain(host, referenceChain(network, containerId))

export const dropStaleReferenceMasquerade = (
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
): Promise<void> => dropStaleChains(host, network, valid, /^CNI-[0-9a-f]{24}$/)
