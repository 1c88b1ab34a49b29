/** `ipMasq` with its two backends. What is made by one is found and removed whatever the configuration says today. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { IpNetText } from '#ip/text.ts'
import {
  dropIptablesMasquerade,
  dropStaleIptablesMasquerade,
  hasIptablesMasquerade,
  masqueradeByIptables,
  notMasqueradedByIptables,
} from '../iptables/masquerade.ts'
import { hostNetns } from '../link/host-netns.ts'
import { all } from '../link/undo.ts'
import { masquerade, notMasqueraded, unmasquerade, unmasqueradeStale } from './masquerade.ts'

/** As configured; '' where nothing is, which is nftables. */
export type MasqueradeBackend = 'iptables' | 'nftables' | ''

/** Masquerades these addresses of an attachment from now on. Throws CniError 5. */
export async function masqueradePod(
  host: PluginHost,
  backend: MasqueradeBackend,
  network: string,
  attachment: Attachment,
  addresses: readonly IpNetText[],
): Promise<void> {
  if (backend === 'iptables') await masqueradeByIptables(host, network, attachment, addresses)
  else await masquerade(host, network, attachment, addresses)
}

/** Removes what either backend made, the reference plugins' too. Throws what failed first, after it has tried both. */
export async function unmasqueradePod(host: PluginHost, network: string, attachment: Attachment): Promise<void> {
  const [error] = await all([
    () => unmasquerade(hostNetns(host).nft, network, attachment),
    () => dropIptablesMasquerade(host, network, attachment.containerId),
  ])
  if (error !== undefined) throw error
}

/** The same for all attachments of a network that are not valid any more. */
export async function unmasqueradeStalePods(
  host: PluginHost,
  network: string,
  valid: readonly Attachment[],
): Promise<void> {
  const [error] = await all([
    () => unmasqueradeStale(hostNetns(host).nft, network, valid),
    () => dropStaleIptablesMasquerade(host, network, valid),
  ])
  if (error !== undefined) throw error
}

/** The address that neither backend masquerades. */
export async function notMasqueradedPod(
  host: PluginHost,
  backend: MasqueradeBackend,
  network: string,
  attachment: Attachment,
  addresses: readonly IpNetText[],
): Promise<string | undefined> {
  const { nft } = hostNetns(host)
  const missing = notMasqueraded(nft, network, attachment, addresses)
  if (missing === undefined) return undefined
  // A pod that another implementation made, or that is older than the configuration.
  if (!hasIptablesMasquerade(nft, network, attachment.containerId) && backend !== 'iptables') return missing
  return notMasqueradedByIptables(host, network, attachment, addresses)
}
