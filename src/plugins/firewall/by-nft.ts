/** The firewall's backend nftables, and the isolation within a bridge, which every backend has from here. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { formatIp } from '#ip/address.ts'
import { parseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { addElements, changeMessages, listElements, setOf, type ElementChange } from '#nft/elements.ts'
import { ensureTable } from '#nft/ensure.ts'
import { getTable } from '#nft/list.ts'
import { optimistic } from '#nft/transaction.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hostNetns } from '../link/host-netns.ts'
import { dropOwned, dropStale, firstMissing, noteOf, putOwned, type OwnedElement } from '../rules/owned.ts'
import type { Guard } from './config.ts'
import { firewallTable, isolationTable } from './tables.ts'

interface Elements {
  readonly owned: readonly OwnedElement[]
  readonly shared: readonly OwnedElement[]
}

function elementsOf(addresses: readonly CidrText[], guard: Guard | undefined): Elements {
  const ips = addresses.map((address) => parseCidr(address).ip)
  const owned = ips.flatMap((ip): readonly OwnedElement[] => [
    ...(guard === undefined ? [] : [{ set: `guarded${ip.family}`, key: [guard.bridge, formatIp(ip)] }]),
    { set: `pods${ip.family}`, key: [formatIp(ip)] },
  ])
  if (guard === undefined) return { owned, shared: [] }
  const { bridge } = guard
  return {
    owned,
    shared: [
      { set: 'same', key: [bridge, bridge] },
      { set: 'bridges', key: [bridge] },
    ],
  }
}

const aloneOf = ({ ports }: Guard): readonly OwnedElement[] => ports.map((port) => ({ set: 'alone', key: [port] }))

/** Lets an attachment's addresses through, and guards them. */
export async function allowByNft(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  addresses: readonly CidrText[],
  guard: Guard | undefined,
): Promise<void> {
  const { nft } = hostNetns(host)
  await ensureTable(nft, firewallTable)
  const { owned, shared } = elementsOf(addresses, guard)
  // The pod first: while it is there, nobody takes its bridge for one without guarded pods.
  putOwned(nft, firewallTable, network, attachment, owned)
  for (const { set, key } of shared) addElements(nft, setOf(firewallTable, set), [{ key }])
  host.rules?.push(noteOf(firewallTable, [...owned, ...shared]))
}

/** Keeps the other ports of its bridge away from an isolated pod. */
export async function isolateByNft(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  guard: Guard,
): Promise<void> {
  const { nft } = hostNetns(host)
  await ensureTable(nft, isolationTable)
  const elements = aloneOf(guard)
  putOwned(nft, isolationTable, network, attachment, elements)
  host.rules?.push(noteOf(isolationTable, elements))
}

/** Removes all that an attachment has in nftables; nothing there is fine. */
export function forgetByNft(host: PluginHost, network: string, attachment: Attachment): void {
  const { nft } = hostNetns(host)
  dropOwned(nft, isolationTable, network, attachment)
  dropOwned(nft, firewallTable, network, attachment)
  prune(nft)
}

/** The same for the attachments of a network that are not valid any more. */
export function forgetStaleByNft(host: PluginHost, network: string, valid: readonly Attachment[]): void {
  const { nft } = hostNetns(host)
  dropStale(nft, isolationTable, network, valid)
  dropStale(nft, firewallTable, network, valid)
  prune(nft)
}

/** Forgets bridges without guarded pods. */
export function prune(nft: NetlinkSocket): void {
  if (getTable(nft, firewallTable) === undefined) return
  const bridgesIn = (set: string) => listElements(nft, setOf(firewallTable, set))
  optimistic(nft, () => {
    const used = new Set(['guarded4', 'guarded6'].flatMap((set) => bridgesIn(set).map(({ key }) => key[0])))
    const changes = ['bridges', 'same'].map((name): ElementChange => ({
      op: 'delete',
      set: setOf(firewallTable, name),
      elements: bridgesIn(name).filter(({ key }) => !used.has(key[0])),
    }))
    return { messages: changes.flatMap(changeMessages), result: undefined }
  })
}

/** What is missing, in words. */
export function missingByNft(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  addresses: readonly CidrText[],
  guard: Guard | undefined,
): string | undefined {
  const { nft } = hostNetns(host)
  const { owned, shared } = elementsOf(addresses, guard)
  const missing = firstMissing(nft, firewallTable, network, attachment, owned)
  if (missing !== undefined) return `${missing.key.join(' ')} is not let through any more`
  const lost = shared.find(({ set, key }) => {
    const elements = listElements(nft, setOf(firewallTable, set))
    return !elements.some((element) => element.key.join() === key.join())
  })
  return lost === undefined ? undefined : `the bridge ${lost.key[0]} is not isolated any more`
}

export function missingIsolation(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  guard: Guard,
): string | undefined {
  const missing = firstMissing(hostNetns(host).nft, isolationTable, network, attachment, aloneOf(guard))
  return missing === undefined ? undefined : `${missing.key[0]} is not isolated from its bridge any more`
}
