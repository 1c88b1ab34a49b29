/** The chained plugin firewall: lets a pod's traffic through the host's firewall, and keeps other bridges away. Contract: the reference plugin's. */

import { invalidConfig, joinErrors, unavailable } from '#cni/errors.ts'
import type { Attachment, GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { versionsFrom } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import type { CidrText } from '#ip/text.ts'
import { hasIptables } from '#iptables/variant.ts'
import { requireIptables } from '../iptables/nat.ts'
import { all, undoing } from '../link/undo.ts'
import { allowByIptables, forgetByIptables, missingByIptables } from './by-iptables.ts'
import { allowByNft, forgetByNft, forgetStaleByNft, isolateByNft, missingByNft, missingIsolation } from './by-nft.ts'
import {
  addressesOf,
  firewallConf,
  guardOf,
  podAddresses,
  type FirewallBackend,
  type FirewallConf,
  type Guard,
} from './config.ts'
import { allowByFirewalld, forgetByFirewalld, hasFirewalld, missingByFirewalld } from './firewalld.ts'
import {
  listFirewallRecords,
  readFirewallRecord,
  removeFirewallRecord,
  writeFirewallRecord,
  type FirewallRecord,
} from './record.ts'

export const firewall: Plugin = { type: 'firewall', versions: versionsFrom('0.4.0'), add, del, check, status, gc }

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = firewallConf(input)
  const addresses = podAddresses(input)
  const guard = guardOf(input, conf)
  const { prevResult } = input
  if (prevResult === undefined || addresses.length === 0) return prevResult ?? noResult()
  const backend = await backendOf(host, conf)
  const { name } = input.config
  return undoing(host, async (undo) => {
    undo.add('firewall', () => forget(host, name, input, conf, addresses))
    if (backend !== 'nftables') {
      const { containerId, ifname } = input
      const owner = { network: name, containerId, ifname, backend, zone: conf.zone, addresses: [...addresses] }
      writeFirewallRecord(host, { ...owner, policy: conf.ingressPolicy, bridge: guard?.bridge })
    }
    host.failpoint('firewall.recorded')
    // Who is kept away comes before who is let through.
    if (guard?.policy === 'isolated') await isolateByNft(host, name, input, guard)
    host.failpoint('firewall.isolated')
    await allow(input, host, conf, backend, addresses, guard)
    host.failpoint('firewall.allowed')
    return prevResult
  })
}

const noResult = (): never => {
  throw invalidConfig(
    'firewall must be called as a chained plugin',
    'put it after bridge or another plugin in the list',
  )
}

/** firewalld where it runs, as with the reference; else iptables where it is installed, because what it drops only it can let through. */
async function backendOf(host: PluginHost, { backend }: FirewallConf): Promise<FirewallBackend> {
  if (backend !== '') return backend
  if (await hasFirewalld(host)) return 'firewalld'
  return hasIptables() ? 'iptables' : 'nftables'
}

async function allow(
  input: PluginInput,
  host: PluginHost,
  conf: FirewallConf,
  backend: FirewallBackend,
  addresses: readonly CidrText[],
  guard: Guard | undefined,
): Promise<void> {
  const { name } = input.config
  const { adminChain, zone } = conf
  if (backend === 'nftables') return allowByNft(host, name, input, addresses, guard)
  if (backend === 'iptables') return allowByIptables(host, { addresses, adminChain, guard, opens: true })
  // firewalld knows no isolation between bridges, and takes that of iptables away when it is reloaded.
  if (guard !== undefined) await allowByNft(host, name, input, addresses, guard)
  await allowByFirewalld(host, zone, addresses)
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const addresses = input.prevResult === undefined ? [] : addressesOf(input.prevResult)
  await forget(host, input.config.name, input, delConf(input), addresses)
}

/** A configuration that ADD would refuse today keeps nothing from being removed. */
function delConf(input: PluginInput): FirewallConf {
  try {
    return firewallConf(input)
  } catch {
    return { backend: '', adminChain: 'CNI-ADMIN', zone: 'trusted', ingressPolicy: 'open' }
  }
}

/** Without a record (the reference made it) the previous result tells the addresses. Throws what failed, after it has tried all. */
async function forget(
  host: PluginHost,
  network: string,
  attachment: Attachment,
  conf: FirewallConf,
  addresses: readonly CidrText[],
): Promise<void> {
  const { containerId, ifname } = attachment
  const { zone, ingressPolicy: policy } = conf
  const record = readFirewallRecord(host, network, attachment)
  const made = record ?? { network, containerId, ifname, backend: 'iptables', zone, addresses: [...addresses], policy }
  const errors = await all([
    () => forgetByNft(host, network, attachment),
    () => forgetUnowned(host, made, record === undefined),
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
  removeFirewallRecord(host, network, attachment)
}

/** Addresses that a newer attachment has by now stay, and bridges that others still want guarded. */
async function forgetUnowned(host: PluginHost, made: FirewallRecord, isForeign: boolean): Promise<void> {
  const others = listFirewallRecords(host).filter((other) => !isSame(other, made))
  const theirs = new Set<string>(others.flatMap((other) => other.addresses))
  const addresses = made.addresses.filter((address) => !theirs.has(address))
  const { bridge } = made
  const onBridge = others.filter((other) => bridge !== undefined && other.bridge === bridge)
  const unwanted = {
    addresses,
    open: onBridge.length === 0 ? bridge : undefined,
    shared: onBridge.some(({ policy }) => policy === 'isolated') ? undefined : bridge,
  }
  const errors = await all([
    () => forgetByIptables(host, unwanted, new Set([...theirs, ...made.addresses])),
    () => (made.backend === 'firewalld' || isForeign ? forgetByFirewalld(host, made.zone, addresses) : undefined),
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}

const isSame = (a: FirewallRecord, b: FirewallRecord): boolean =>
  a.network === b.network && a.containerId === b.containerId && a.ifname === b.ifname

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = firewallConf(input)
  const addresses = podAddresses(input)
  if (addresses.length === 0) return
  const guard = guardOf(input, conf)
  const { name } = input.config
  const record = readFirewallRecord(host, name, input)
  const backend = record?.backend ?? (await backendOf(host, conf))
  const missing =
    (await missingOf(input, host, conf, backend, addresses, guard, record !== undefined)) ??
    (guard?.policy === 'isolated' && (record !== undefined || backend === 'nftables')
      ? missingIsolation(host, name, input, guard)
      : undefined)
  if (missing !== undefined) throw checkFailed(missing)
}

async function missingOf(
  input: PluginInput,
  host: PluginHost,
  conf: FirewallConf,
  backend: FirewallBackend,
  addresses: readonly CidrText[],
  guard: Guard | undefined,
  isOurs: boolean,
): Promise<string | undefined> {
  const { adminChain, zone } = conf
  const { name } = input.config
  if (backend === 'nftables') return missingByNft(host, name, input, addresses, guard)
  if (backend === 'iptables') return missingByIptables(host, { addresses, adminChain, guard, opens: true })
  const isolation = guard === undefined ? undefined : missingByNft(host, name, input, addresses, guard)
  if (isolation !== undefined && !isOurs)
    return (
      (await missingByIptables(host, { addresses, adminChain, guard, opens: false })) ??
      missingByFirewalld(host, zone, addresses)
    )
  return isolation ?? missingByFirewalld(host, zone, addresses)
}

/** Throws CniError 50 where the backend that is asked for is not there. */
async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const { backend } = firewallConf(input)
  if (backend === 'firewalld' && !(await hasFirewalld(host)))
    throw unavailable('firewalld does not run', 'start it (systemctl start firewalld), or choose another "backend"')
  if (backend === 'iptables') requireIptables('backend')
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { name } = input.config
  const keep = new Set(input.validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  const stale = listFirewallRecords(host).filter(
    ({ network, containerId, ifname }) => network === name && !keep.has(`${containerId}:${ifname}`),
  )
  const conf = delConf(input)
  const errors = await all([
    () => forgetStaleByNft(host, name, input.validAttachments),
    async () => {
      for (const record of stale) await forget(host, name, record, conf, record.addresses)
    },
  ])
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}
