/** The chained plugin portmap: ports of the host lead to the pod. Contract: the reference plugin's configuration; realised with nftables, or with iptables where it is asked for. */

import { readRecord } from '#cni/attachment/record.ts'
import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { Attachment, GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpNetText } from '#ip/text.ts'
import { getLocalnet, type Localnet } from '#netlink/inet-conf.ts'
import { getRoute } from '#netlink/route.ts'
import type { Element } from '#nft/element.ts'
import { ensureTable } from '#nft/ensure.ts'
import { NftError } from '#nft/error.ts'
import { listTables } from '#nft/list.ts'
import type { Table } from '#nft/table.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import { ipOf } from '../link/configure.ts'
import { hostNetns, writeSysctls } from '../link/host-netns.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { portChain } from '../iptables/host-ports.ts'
import { hasNatChain, requireIptables } from '../iptables/nat.ts'
import { elementsOf, hostPortTable, TABLE_NAME, type HostPort } from '../rules/host-ports.ts'
import { dropOwned, dropStale, firstMissing, noteOf, putOwned } from '../rules/owned.ts'
import { giveBack } from '../rules/restore.ts'
import { mapByIptables, unmapByIptables, unmappedByIptables, unmapStaleByIptables } from './by-iptables.ts'
import { forgetUdp, type MappedPort } from './conntrack.ts'
import { portmapConf, type PortmapConf } from './config.ts'

export const portmap: Plugin = { type: 'portmap', versions: specVersions, add, del, check, status, gc }

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const result = previous(input)
  const conf = portmapConf(input)
  const ports = portsOf(conf, result, input.ifname)
  if (ports.length === 0) return result
  return undoing(host, async (undo) => {
    if (conf.iptables === undefined) await mapByNft(input, host, conf, ports, undo)
    else {
      host.failpoint('portmap.map')
      undo.add('host ports', async () => void (await unmapByIptables(host, input.config.name, input)))
      await mapByIptables(host, input.config.name, input, ports, conf.iptables)
    }
    host.failpoint('portmap.mapped')
    if (conf.nat !== 'none') allowLocalhost(host, ports)
    forgetUdp(
      host,
      ports.map((port) => ({ ...port, family: familyOf(port.address) })),
    )
    return result
  })
}

async function mapByNft(
  input: PluginInput,
  host: PluginHost,
  conf: PortmapConf,
  ports: readonly HostPort[],
  undo: Undo,
): Promise<void> {
  const { nft } = hostNetns(host)
  const table = hostPortTable(conf.conditions)
  try {
    await ensureTable(nft, table)
  } catch (error) {
    // A table without conditions is Heddle's alone: then it is not the configuration's fault.
    const { v4, v6 } = conf.conditions
    if (!(error instanceof NftError) || error.code !== 'refused' || (v4 === '' && v6 === '')) throw error
    throw invalidConfig(
      `nft takes no rule with the conditions ${JSON.stringify([v4, v6].filter((text) => text !== '').join(' | '))}`,
      `"conditionsV4" and "conditionsV6" are matches in nft's language, such as ["ip", "saddr", "10.0.0.0/8"]; ${error.message}`,
      { cause: error },
    )
  }
  host.failpoint('portmap.map')
  let isTaken = false
  undo.add('host ports', () => unmapFrom(host, table, input.config.name, input, isTaken))
  const elements = ports.flatMap((port) => elementsOf(port, conf.nat))
  isTaken = putOwned(nft, table, input.config.name, input, elements)
  host.rules?.push({ ...noteOf(table, elements, conf.conditions), ...(isTaken ? { contested: true } : {}) })
}

/** Throws CniError 7 when the plugin is not chained behind one that makes an interface. */
function previous(input: PluginInput): Result {
  if (input.prevResult !== undefined) return input.prevResult
  throw invalidConfig('portmap must be called as a chained plugin', 'put it after bridge or another plugin in the list')
}

/** Each mapping for each family that the pod has; one of a single host address only for its own family. */
function portsOf(conf: PortmapConf, result: Result, ifname: string): readonly HostPort[] {
  const addresses = ([4, 6] as const).flatMap((family) => firstAddress(result, ifname, family) ?? [])
  return conf.mappings.flatMap((mapping) =>
    addresses
      .filter((address) => mapping.family === undefined || mapping.family === familyOf(address))
      .map((address) => ({ ...mapping, address })),
  )
}

/** The pod's first address of a family: on the interface of this call, or of no named interface. */
function firstAddress(result: Result, ifname: string, family: 4 | 6): IpNetText | undefined {
  return result.ips.find(({ address, interface: index }) => {
    if (familyOf(address) !== family) return false
    const at = index === undefined ? undefined : result.interfaces[index]
    return index === undefined || (at?.name === ifname && at.sandbox !== undefined && at.sandbox !== '')
  })?.address
}

/**
 * Connections from 127.0.0.1 to a mapped port leave over the pod's link, which the kernel allows only with `route_localnet`. The table drops
 * packets with such addresses from outside, and stands before this is switched on.
 */
function allowLocalhost(host: PluginHost, ports: readonly HostPort[]): void {
  const names = new Set<string>()
  for (const { address } of ports) {
    if (familyOf(address) !== 4) continue
    const link = linkTowards(host, address)
    if (!link.routeLocalnet) names.add(link.name)
  }
  host.failpoint('portmap.localnet')
  writeSysctls(
    hostNetns(host).fd,
    [...names].map((name) => ({ path: ['ipv4', 'conf', name, 'route_localnet'], value: '1' })),
    true,
  )
}

function linkTowards(host: PluginHost, address: IpNetText): Localnet {
  const oif = outputOf(host.netlink, address)
  if (oif !== undefined) return getLocalnet(host.netlink, oif)
  throw invalidConfig(
    `the host has no route to the pod's address ${address}`,
    'put portmap after the plugin that connects the pod with the host',
  )
}

function outputOf(socket: NetlinkSocket, address: IpNetText): number | undefined {
  try {
    return getRoute(socket, ipOf(address)).oif
  } catch (error) {
    // What the kernel says without a route, and with one that refuses.
    if (hasCode(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL')) return undefined
    throw error
  }
}

/** Every table of host ports that exists: networks with conditions have their own. */
const tablesOf = (nft: NetlinkSocket) =>
  listTables(nft, { family: 'inet' })
    .filter(({ name }) => name.startsWith(TABLE_NAME))
    .map(({ name }) => ({ ...hostPortTable({ v4: '', v6: '' }), name }))

/** By the owner of what is there, not by the configuration: mappings that the runtime does not repeat go too. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const { nft } = hostNetns(host)
  host.failpoint('portmap.unmap')
  const { name: network } = input.config
  const { containerId, ifname } = input
  const record =
    host.records === undefined
      ? undefined
      : readRecord(host.records, { type: portmap.type, network, containerId, ifname })
  const isTaken = record?.rules.some(({ contested }) => contested === true) === true
  const errors = await all([
    ...tablesOf(nft).map((table) => () => unmapFrom(host, table, network, input, isTaken)),
    async () => forgetUdp(host, await unmapByIptables(host, input.config.name, input)),
  ])
  host.failpoint('portmap.unmapped')
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}

/** An older attachment whose ports this one has taken gets them back: the newest of them, while it lives. */
async function unmapFrom(
  host: PluginHost,
  table: Table,
  network: string,
  attachment: Attachment,
  isTaken: boolean,
): Promise<void> {
  const dropped = dropOwned(hostNetns(host).nft, table, network, attachment)
  if (isTaken) await giveBack(host, table)
  forgetUdp(host, udpPortsOf(dropped))
}

const UDP = 17

/** Of the elements `any` (protocol, port) and `one` (address, protocol, port); their data is the pod's address and port. */
function udpPortsOf(elements: readonly Element[]): readonly MappedPort[] {
  return elements.flatMap(({ key, data }) => {
    const [protocol, hostPort] = key.slice(-2)
    const [to] = Array.isArray(data) ? data : []
    if (protocol !== UDP || typeof hostPort !== 'number' || typeof to !== 'string') return []
    return [{ protocol: 'udp', hostPort, family: familyOf(to) }]
  })
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const result = previous(input)
  const conf = portmapConf(input)
  const ports = portsOf(conf, result, input.ifname)
  if (ports.length === 0) return
  const missing = await missingOf(input, host, conf, ports)
  if (missing !== undefined)
    throw checkFailed(`host port ${missing.hostPort}/${missing.protocol} does not lead to ${missing.address} any more`)
}

/** By either backend: the pod may be older than the configuration, or another implementation's. */
async function missingOf(
  input: PluginInput,
  host: PluginHost,
  conf: PortmapConf,
  ports: readonly HostPort[],
): Promise<HostPort | undefined> {
  const { nft } = hostNetns(host)
  const { name } = input.config
  const table = hostPortTable(conf.conditions)
  const missing = ports.find((port) => firstMissing(nft, table, name, input, elementsOf(port, conf.nat)) !== undefined)
  if (missing === undefined) return undefined
  if (conf.iptables !== undefined) return unmappedByIptables(host, name, input, ports, conf.iptables)
  if (!hasNatChain(nft, portChain(name, input.containerId))) return missing
  // Whatever marks and conditions it was made with: that the ports lead to the pod is what counts.
  const options = { nat: 'none', markBit: 0, conditions: { 4: [], 6: [] } } as const
  return unmappedByIptables(host, name, input, ports, options)
}

async function status(input: PluginInput): Promise<void> {
  if (portmapConf(input).iptables !== undefined) requireIptables('backend')
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { nft } = hostNetns(host)
  const errors = await all([
    ...tablesOf(nft).map((table) => async () => {
      const dropped = dropStale(nft, table, input.config.name, input.validAttachments)
      if (dropped.length > 0) await giveBack(host, table)
    }),
    () => unmapStaleByIptables(host, input.config.name, input.validAttachments),
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}
