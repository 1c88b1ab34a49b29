/** How what a plugin makes on the host is marked, so that DEL and GC find it with nothing but the attachment's name. */

import { hash } from 'node:crypto'

import type { Attachment } from '#cni/plugin.ts'

const sha256 = (text: string): string => hash('sha256', text)

/** ':' is in no network name, container ID or interface name. */
const nameOf = (network: string, { containerId, ifname }: Attachment): string => `${network}:${containerId}:${ifname}`

/** IFALIASZ is 256 with the closing NUL. */
const MAX_ALIAS = 255

/** The alias of the host's end of an attachment's link. Shown by `ip link`. */
export function aliasOf(network: string, attachment: Attachment): string {
  const alias = `heddle:${nameOf(network, attachment)}`
  return Buffer.byteLength(alias) <= MAX_ALIAS ? alias : `${aliasPrefix(network)}#${sha256(alias)}`
}

/** What the aliases of all attachments of a network begin with. */
export const aliasPrefix = (network: string): string =>
  network.length <= 128 ? `heddle:${network}:` : `heddle:#${sha256(network)}:`

/** Host-side names of an attachment's link, in the order of trying: the next one where a hash collides with another attachment's. */
export function hostNames(network: string, attachment: Attachment): readonly string[] {
  const digest = sha256(nameOf(network, attachment))
  return [0, 8, 16].map((at) => `veth${digest.slice(at, at + 8)}`)
}

/** Marks an nftables element: which network and which attachment, as hashes of fixed length, then in clear for people. */
export function ownerComment(network: string, attachment: Attachment): string {
  const tail = `${network} ${attachment.ifname} ${attachment.containerId}`
  return `${ownerMark(network, attachment)} ${tail}`.slice(0, 127)
}

/** The machine's part of an owner comment. */
export const ownerMark = (network: string, attachment: Attachment): string =>
  `${networkMark(network)}${sha256(nameOf(network, attachment)).slice(0, 16)}`

/** What the marks of all attachments of a network begin with. */
export const networkMark = (network: string): string => `${sha256(network).slice(0, 16)}-`

/** The mark in a comment. */
export const markOf = (comment: string | undefined): string => comment?.split(' ', 1)[0] ?? ''
