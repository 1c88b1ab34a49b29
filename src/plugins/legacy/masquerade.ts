/** Masquerade rules that the reference plugins left in iptables: recognised by CHECK, removed by DEL and GC. */

import type { NetlinkSocket } from '#netlink/socket.ts'
import { listChains } from '#nft/list.ts'
import { referenceChain } from './names.ts'

const NAT = ['ip', 'ip6'] as const

/** Whether the reference's chain of this container exists; two netlink requests, no process. */
export const hasReferenceMasquerade = (nft: NetlinkSocket, network: string, containerId: string): boolean =>
  NAT.some((family) => hasChain(nft, family, referenceChain(network, containerId)))

export const hasChain = (nft: NetlinkSocket, family: 'ip' | 'ip6', name: string): boolean =>
  listChains(nft, { family, name: 'nat' }).some((chain) => chain.name === name)
