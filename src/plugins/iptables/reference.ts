/**
 * What the reference plugins call things in iptables. Heddle's iptables backends call them the same, so that a node can be moved from one to the other with
 * its pods running. Source: containernetworking/plugins pkg/utils/utils.go and iptables.go, plugins/meta/portmap/chain.go.
 */

import { createHash } from 'node:crypto'

import { targetOf } from '#iptables/edit.ts'
import { valueOf, type Rule } from '#iptables/rule.ts'

const MAX_CHAIN = 28
/** Bytes of a comment that iptables keeps, without its closing NUL. Source: linux/netfilter/xt_comment.h. */
const MAX_COMMENT = 255

/** `CNI-`, an optional prefix, and as much of the SHA-512 of network and container as fits into 28 characters. */
export function referenceChain(network: string, containerId: string, prefix = ''): string {
  const hash = createHash('sha512').update(`${network}${containerId}`).digest('hex')
  return `CNI-${prefix}${hash}`.slice(0, MAX_CHAIN)
}

/** The comment by which rules of a container are known: `name: "NET" id: "CID"`, with `dnat ` before it for ports. */
export function referenceComment(network: string, containerId: string, prefix: '' | 'dnat ' = ''): string {
  const text = `${prefix}name: "${network}" id: "${containerId}"`
  return text.length <= MAX_COMMENT ? text : `${text.slice(0, MAX_COMMENT - 3)}...`
}

export interface Jump {
  readonly chain: string
  readonly network: string
}

/** Where a rule leads and for which network, when it is one of the reference's rules that lead to a container's chain. */
export function jumpOf(rule: Rule): Jump | undefined {
  const chain = targetOf(rule)
  const network = /^(?:dnat )?name: "([^"]*)" id: "/.exec(valueOf(rule, '--comment') ?? '')?.[1]
  return chain === undefined || network === undefined ? undefined : { chain, network }
}
