/** Takes leftovers away, by the same code as DEL, after looking once more. */

import { rmSync } from 'node:fs'
import { join } from 'node:path'

import { leave, lockRecord } from '#cni/attachment/ledger.ts'
import { listRecords, readRecord, type AttachmentRecord, type RecordKey } from '#cni/attachment/record.ts'
import { parseNetConf } from '#cni/config.ts'
import { invalidConfig } from '#cni/errors.ts'
import { isObject, type JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { defaultCacheDir, listCache, removeCache } from '#cni/runtime/cache.ts'
import { pluginHost, type HostBase } from '#cni/runtime/delegate.ts'
import { locate, type PluginRegistry } from '#cni/runtime/find.ts'
import { newestVersion } from '#cni/version.ts'
import { findLink } from '#netlink/link.ts'
import { prune } from '#plugins/firewall/by-nft.ts'
import { hostNetns } from '#plugins/link/host-netns.ts'
import { dropOrphan } from '#plugins/neutron-veth/proxies.ts'
import { dropMark } from '#plugins/rules/owned.ts'
import { modelOf } from '#plugins/rules/tables.ts'
import { removeLink } from '#plugins/link/veth.ts'
import { bootId } from '#sys/bootid.ts'
import type { AttachmentName } from './inventory.ts'
import type { Leftover } from './judge.ts'
import { sandboxes } from './sandbox.ts'

export interface RemoveOptions {
  readonly host: HostBase
  readonly registry: PluginRegistry
  /** Runs `job` while no call works on the attachment. */
  readonly alone: <T>(owner: AttachmentName, job: () => Promise<T>) => Promise<T>
}

const DEADLINE_MS = 55_000

/** False when a second look showed that there is nothing to remove any more. Throws what kept it from being removed; it is found again in the next round. */
export function removeLeftover(leftover: Leftover, options: RemoveOptions): Promise<boolean> {
  const act = async (): Promise<boolean> => removeNow(leftover, options)
  return leftover.owner === undefined ? act() : options.alone(leftover.owner, act)
}

async function removeNow({ removal, owner }: Leftover, options: RemoveOptions): Promise<boolean> {
  const { host } = options
  if (removal.by === 'del') return removeAttachment(removal.record, options)
  if (removal.by === 'link-record') return removeByLinkRecord(removal.record, options)
  // An ADD has come meanwhile.
  if (owner !== undefined && isRecorded(host, owner)) return false
  if (removal.by === 'rules') {
    const model = modelOf(removal.table)
    const { nft } = hostNetns(host)
    const dropped = model === undefined ? [] : dropMark(nft, model, removal.mark)
    // The firewall's pods rest on elements that they share.
    prune(nft)
    return dropped.length > 0
  }
  if (removal.by === 'link') {
    const link = findLink(host.netlink, removal.name)
    if (link?.index !== removal.index || link.alias !== removal.alias) return false
    await removeLink(host.netlink, removal.index)
    return true
  }
  if (removal.by === 'proxy') return dropOrphan(host, removal.proxy)
  rmSync(removal.file, { force: true })
  return true
}

const isRecorded = ({ records }: HostBase, owner: AttachmentName): boolean =>
  records !== undefined && listRecords(records).some((record) => isOf(record, owner))

const isOf = (record: AttachmentName, { network, containerId, ifname }: AttachmentName): boolean =>
  record.network === network && record.containerId === containerId && record.ifname === ifname

async function removeAttachment(found: AttachmentRecord, { host, registry }: RemoveOptions): Promise<boolean> {
  const folder = host.records
  const plugin = registry.get(found.type)
  if (folder === undefined) return false
  if (plugin === undefined)
    throw invalidConfig(
      `this version has no plugin ${found.type}, which made ${found.ifname} of container ${found.containerId}`,
      'install the version that has it, or remove what it made by hand',
    )
  {
    using _lock = await lockRecord(folder, found)
    const record = readRecord(folder, found)
    // Removed meanwhile; or the container has come back in a new sandbox.
    if (record?.id !== found.id || sandboxes(bootId())(record) !== 'gone') return false
    const input = inputOf(record, record.config, record.args, record.path)
    const own = pluginHost(host, { registry, env: {}, deadlineMs: DEADLINE_MS })
    await leave(folder, record, own, () => plugin.del(input, own))
  }
  await removeOwnCache(found, host, registry)
  return true
}

function inputOf(
  owner: AttachmentName,
  config: JsonObject,
  args: AttachmentRecord['args'] = [],
  path: readonly string[] = [],
): PluginInput {
  const { containerId, ifname } = owner
  return { containerId, ifname, netns: '', args: new Map(args), path, config: parseNetConf(config) }
}

/** A record of a link alone, of a version that kept no others: the network's configuration is not known, and not needed for the link. */
async function removeByLinkRecord(found: RecordOfLink, { host, registry }: RemoveOptions): Promise<boolean> {
  const plugin = registry.get(found.plugin)
  if (plugin === undefined) throw invalidConfig(`this version has no plugin ${found.plugin}`)
  const key: RecordKey = { ...found, type: found.plugin }
  using _lock = host.records === undefined ? undefined : await lockRecord(host.records, key)
  if (host.records !== undefined && readRecord(host.records, key) !== undefined) return false
  if (sandboxes(bootId())(found) !== 'gone') return false
  const config = { cniVersion: newestVersion, name: found.network, type: found.plugin }
  await plugin.del(inputOf(found, config), pluginHost(host, { registry, env: {}, deadlineMs: DEADLINE_MS }))
  return true
}

type RecordOfLink = Extract<Leftover['removal'], { by: 'link-record' }>['record']

/** The cached result goes when all that it tells of was ours and is gone: no other plugin waits for a DEL with it. */
async function removeOwnCache(owner: AttachmentRecord, host: HostBase, registry: PluginRegistry): Promise<void> {
  if (isRecorded(host, owner)) return
  const cacheDir = join(host.root, defaultCacheDir)
  const cached = (await listCache(cacheDir, owner.containerId)).find((one) => isOf(one, owner))
  if (cached === undefined || sandboxes(bootId())({ netns: cached.netns }) !== 'gone') return
  const types = typesOf(cached.config)
  if (types.length > 0 && types.every((type) => isOwn(type, owner.path, registry))) await removeCache(cacheDir, owner)
}

function isOwn(type: string, path: readonly string[], registry: PluginRegistry): boolean {
  try {
    return locate(type, path, registry).kind === 'own'
  } catch {
    return false
  }
}

/** The plugin types of a cached configuration list. */
function typesOf(config: string): readonly string[] {
  try {
    const list: unknown = JSON.parse(config)
    const plugins = isObject(list) && Array.isArray(list['plugins']) ? list['plugins'] : []
    return plugins.map((plugin: unknown) =>
      isObject(plugin) && typeof plugin['type'] === 'string' ? plugin['type'] : '',
    )
  } catch {
    return []
  }
}
