/** Names of the iptables chains that the reference plugins make. Source: containernetworking/plugins pkg/utils/utils.go. */

import { createHash } from 'node:crypto'

const MAX_CHAIN = 28

/** `CNI-`, an optional prefix, and as much of the SHA-512 of network and container as fits into 28 characters. */
export function referenceChain(network: string, containerId: string, prefix = ''): string {
  const hash = createHash('sha512').update(`${network}${containerId}`).digest('hex')
  return `CNI-${prefix}${hash}`.slice(0, MAX_CHAIN)
}
