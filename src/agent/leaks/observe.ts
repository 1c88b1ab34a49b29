/** Reads an inventory from the kernel and the disk. Changes nothing. */

import { existsSync, readdirSync, readFileSync, statSync, type Dirent } from 'node:fs'
import { join } from 'node:path'

import { listRecords } from '#cni/attachment/record.ts'
import { cacheFile, defaultCacheDir, listCache } from '#cni/runtime/cache.ts'
import type { HostBase } from '#cni/runtime/delegate.ts'
import { DEFAULT_DATA_DIR } from '#ipam/host-local/config.ts'
import { ownerOf } from '#ipam/host-local/index.ts'
import { tryParseIp } from '#ip/address.ts'
import { kindOf, listLinks } from '#netlink/link.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { hostNetns } from '#plugins/link/host-netns.ts'
import { markOf, ownerMark } from '#plugins/link/owner.ts'
import { allRecords, folderOf } from '#plugins/link/record.ts'
import { listOwned } from '#plugins/rules/owned.ts'
import { ownedTables } from '#plugins/rules/tables.ts'
import { DATA_DIR as TUNING_DIR } from '#plugins/tuning/config.ts'
import { HEDDLE_PROTOCOL } from '#state/protocol.ts'
import { bootId } from '#sys/bootid.ts'
import type {
  AttachmentName,
  Inventory,
  SeenAddress,
  SeenCache,
  SeenFile,
  SeenLink,
  SeenProxy,
  SeenRules,
} from './inventory.ts'
import { sandboxes, type SandboxRef, type SandboxState } from './sandbox.ts'

export interface ObserveOptions {
  readonly host: HostBase
  /** Calls that run while this is read, as `Inventory.busy`. */
  readonly busy?: () => ReadonlySet<string>
  /** Read host-local's files too, one by one: for people, who may then look at what nobody claims. */
  readonly withAddresses?: boolean
}

/** Throws what the kernel or the file system throws. */
export async function observeLeaks({ host, busy, withAddresses }: ObserveOptions): Promise<Inventory> {
  const stateOf = sandboxes(bootId())
  const before = busy?.() ?? new Set<string>()
  const cacheDir = join(host.root, defaultCacheDir)
  const caches = await cachesIn(cacheDir, stateOf)
  // From here on in one stretch, records after the kernel's objects: what an ADD makes has its record before.
  const links = seenLinks(host)
  const proxies = seenProxies(host)
  const rules = seenRules(host)
  const folder = host.records
  return {
    hasRecords: folder !== undefined && existsSync(folder),
    links,
    proxies,
    rules,
    caches,
    records: (folder === undefined ? [] : listRecords(folder)).map((record) => ({ record, sandbox: stateOf(record) })),
    linkRecords: allRecords(host).map((record) => ({ record, sandbox: stateOf(record) })),
    addresses: withAddresses === true ? seenAddresses(join(host.root, DEFAULT_DATA_DIR)) : [],
    files: temporaryFiles(host, cacheDir),
    busy: new Set([...before, ...(busy?.() ?? [])]),
  }
}

async function cachesIn(dir: string, stateOf: (ref: SandboxRef) => SandboxState): Promise<readonly SeenCache[]> {
  const cached = await listCache(dir)
  return cached.map(({ network, containerId, ifname, netns }) => {
    const owner = { network, containerId, ifname }
    return { ...owner, file: cacheFile(dir, owner), netns, sandbox: stateOf({ netns }) }
  })
}

const seenLinks = (host: HostBase): readonly SeenLink[] =>
  listLinks(host.netlink).flatMap((link) => {
    const { index, name, alias, parentNetnsId } = link
    if (alias === undefined || !alias.startsWith('heddle:')) return []
    return [{ index, name, alias, kind: kindOf(link) ?? '', hasPeerElsewhere: parentNetnsId !== undefined }]
  })

const seenProxies = (host: HostBase): readonly SeenProxy[] =>
  listNeighs(host.netlink, { proxy: true })
    .filter(({ protocol }) => protocol === HEDDLE_PROTOCOL)
    .map(({ index, ip }) => ({ index, ip }))

function seenRules(host: HostBase): readonly SeenRules[] {
  const { nft } = hostNetns(host)
  return ownedTables(nft).flatMap((table) => {
    const comments = listOwned(nft, table).flatMap(([, elements]) => elements.flatMap(({ comment }) => comment ?? []))
    return [...Map.groupBy(comments, markOf)].map(([mark, some]) => ({
      table: { family: table.family, name: table.name },
      mark,
      owner: ownerOfComment(mark, some[0] ?? ''),
      count: some.length,
    }))
  })
}

/** Undefined for a comment that had to be cut. */
export function ownerOfComment(mark: string, comment: string): AttachmentName | undefined {
  const [, network, ifname, containerId] = comment.split(' ')
  if (network === undefined || ifname === undefined || containerId === undefined) return undefined
  return ownerMark(network, { containerId, ifname }) === mark ? { network, containerId, ifname } : undefined
}

function seenAddresses(dataDir: string): readonly SeenAddress[] {
  return entriesOf(dataDir)
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name: network }) =>
      entriesOf(join(dataDir, network))
        .filter((entry) => entry.isFile() && tryParseIp(entry.name) !== undefined)
        .map(({ name }) => {
          const file = join(dataDir, network, name)
          const owner = ownerOf(readFileSync(file, 'utf8').slice(0, 4096))
          return { file, network, ...(owner === 'torn' ? {} : owner) }
        }),
    )
}

/** Names of files that writers of ours rename when they are whole, and of locks. */
function temporaryFiles(host: HostBase, cacheDir: string): readonly SeenFile[] {
  const places: readonly (readonly [string, RegExp])[] = [
    [folderOf(host), /\.[0-9a-f]{8}\.tmp$/],
    [join(host.root, TUNING_DIR), /\.json\.[0-9a-f]{8}\.tmp$/],
    [cacheDir, /^\.heddle-[0-9a-f]{16}\.tmp$/],
    ...(host.records === undefined ? [] : [[host.records, /(\.[0-9a-f]{8}\.tmp|\.lock)$/] as const]),
  ]
  return places.flatMap(([folder, form]) =>
    entriesOf(folder)
      .filter((entry) => entry.isFile() && form.test(entry.name))
      .flatMap(({ name }) => {
        const file = join(folder, name)
        const stat = statSync(file, { throwIfNoEntry: false })
        return stat === undefined ? [] : [{ file, ageMs: Date.now() - stat.mtimeMs }]
      }),
  )
}

function entriesOf(folder: string): readonly Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
}
