/** portmap's backend iptables: puts the rules of `iptables/host-ports.ts` into the host's tables, and takes them out. */

import type { Attachment, PluginHost } from '#cni/plugin.ts'
import { familyOf } from '#ip/prefix.ts'
import type { Family } from '#ip/text.ts'
import type { Edit } from '#iptables/edit.ts'
import { editTable, readTable } from '#iptables/iptables.ts'
import { valueOf, type Rule } from '#iptables/rule.ts'
import type { TableRules } from '#iptables/save.ts'
import { missingPort, planGuard, planPorts, portChain, type IptablesPortOptions } from '../iptables/host-ports.ts'
import { answering, eachFamily, dropNatChain, dropStaleNatChains, hostIptables } from '../iptables/nat.ts'
import { noteOf } from '../iptables/note.ts'
import type { HostPort } from '../rules/host-ports.ts'
import type { MappedPort } from './conntrack.ts'

const byFamily = (ports: readonly HostPort[]): ReadonlyMap<Family, readonly HostPort[]> =>
  Map.groupBy(ports, ({ address }) => familyOf(address))

/** From now on the ports lead to the pod. Throws CniError 5 with iptables' words. */
export async function mapByIptables(
  host: PluginHost,
  network: string,
  { containerId }: Attachment,
  ports: readonly HostPort[],
  options: IptablesPortOptions,
): Promise<void> {
  const some = byFamily(ports)
  await eachFamily(some.keys(), async (family) => {
    const iptables = await hostIptables(host, family)
    await answering(async () => {
      // Before `route_localnet` opens the way that it closes.
      const isGuarded = family === 4 && options.nat !== 'none'
      if (isGuarded) await editTable(iptables, 'raw', planGuard)
      host.failpoint('portmap.guarded')
      const owner = { network, containerId }
      const plan = (seen: TableRules): readonly Edit[] =>
        planPorts(seen, some.get(family) ?? [], family, owner, options)
      await editTable(iptables, 'nat', plan)
      if (isGuarded) host.chains?.push(noteOf(family, 'raw', planGuard))
      host.chains?.push(noteOf(family, 'nat', plan, [portChain(network, containerId)]))
    })
  })
}

/** The first mapping that does not lead to its pod any more. Throws CniError 5. */
export async function unmappedByIptables(
  host: PluginHost,
  network: string,
  { containerId }: Attachment,
  ports: readonly HostPort[],
  options: IptablesPortOptions,
): Promise<HostPort | undefined> {
  for (const [family, some] of byFamily(ports)) {
    const iptables = await hostIptables(host, family)
    const seen = await answering(() => readTable(iptables, 'nat'))
    const missing = missingPort(seen, some, family, { network, containerId }, options)
    if (missing !== undefined) return missing
  }
  return undefined
}

/** Removes a container's chains and what leads to them, whoever made them. Returns the UDP ports of the host that were mapped. Throws CniError 5. */
export async function unmapByIptables(
  host: PluginHost,
  network: string,
  { containerId }: Attachment,
): Promise<readonly MappedPort[]> {
  const rules = await dropNatChain(host, portChain(network, containerId))
  return rules.flatMap((rule) => udpPortOf(rule) ?? [])
}

function udpPortOf(rule: Rule): MappedPort | undefined {
  const to = valueOf(rule, '--to-destination')
  if (to === undefined || valueOf(rule, '-p') !== 'udp') return undefined
  return { protocol: 'udp', hostPort: Number(valueOf(rule, '--dport')), family: to.startsWith('[') ? 6 : 4 }
}

export const unmapStaleByIptables = (host: PluginHost, network: string, valid: readonly Attachment[]): Promise<void> =>
  dropStaleNatChains(host, network, valid, 'DN-')
