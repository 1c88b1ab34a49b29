/** Where the pods of chained plugins are, when the call does not say: the records of attachments know. */

import { listRecords, readRecord, type AttachmentRecord } from '#cni/attachment/record.ts'
import type { Attachment, GcInput, PluginHost, PluginInput } from '#cni/plugin.ts'
import { netnsId } from '#sys/netns.ts'
import { openPodIfThere, type Pod } from './pod.ts'

/** DEL: behind CNI_NETNS, or where the attachment was made. Undefined where the namespace is gone. */
export function podOf(input: PluginInput, host: PluginHost, type: string): Pod | undefined {
  const given = openPodIfThere(input.netns)
  if (given !== undefined || host.records === undefined) return given
  const { containerId, ifname, config } = input
  const known = readRecord(host.records, { type, network: config.name, containerId, ifname })
  return known === undefined ? undefined : openIfSame(known)
}

/** Paths and inodes are used again: only the namespace that it was. */
function openIfSame({ netns, netnsId: id }: AttachmentRecord): Pod | undefined {
  const pod = openPodIfThere(netns)
  if (pod === undefined || netnsId(pod.fd) === id) return pod
  pod[Symbol.dispose]()
  return undefined
}

/** GC: calls `visit` for each attachment of the network that is no longer valid and whose namespace lives; what it throws is for the caller. */
export function forStalePods(
  { validAttachments, config }: GcInput,
  host: PluginHost,
  type: string,
  visit: (pod: Pod, attachment: Attachment) => Promise<void>,
): readonly (() => Promise<void>)[] {
  const keep = new Set(validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  return (host.records === undefined ? [] : listRecords(host.records))
    .filter((record) => record.type === type && record.network === config.name)
    .filter(({ containerId, ifname }) => !keep.has(`${containerId}:${ifname}`))
    .map((record) => async () => {
      using pod = openIfSame(record)
      if (pod !== undefined) await visit(pod, record)
    })
}
