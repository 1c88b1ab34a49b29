/** Which parts of an inventory belong to nobody any more: pure. */

import type { AttachmentRecord } from '#cni/attachment/record.ts'
import type { TableRef } from '#nft/table.ts'
import { aliasOf, aliasPrefix, ownerMark } from '#plugins/link/owner.ts'
import type { LinkRecord } from '#plugins/link/record.ts'
import { nameOf, type AttachmentName, type Inventory, type SeenLink, type SeenProxy } from './inventory.ts'

/** What takes a leftover away. Each looks again before it does. */
export type Removal =
  | { readonly by: 'del'; readonly record: AttachmentRecord }
  | { readonly by: 'link-record'; readonly record: LinkRecord }
  | { readonly by: 'rules'; readonly table: TableRef; readonly mark: string }
  | { readonly by: 'link'; readonly index: number; readonly name: string; readonly alias: string }
  | { readonly by: 'proxy'; readonly proxy: SeenProxy }
  | { readonly by: 'file'; readonly file: string }

/** Why something is a leftover, or nobody's; `detail` has the name or the time that belongs to it. */
export type LeakReason =
  | 'sandbox-gone'
  | 'del-unfinished'
  | 'rules-of-nobody'
  | 'link-of-nobody'
  | 'proxy-of-nobody'
  | 'writer-killed'
  | 'address-torn'
  | 'address-of-nobody'
  | 'cache-of-gone-sandbox'
  | 'link-without-record'

export interface Leftover {
  /** `attachment`: all that one plugin made for a sandbox that is gone. */
  readonly kind: 'attachment' | 'rules' | 'link' | 'proxy' | 'file'
  /** The same for the same leftover in another round. */
  readonly key: string
  readonly owner: AttachmentName | undefined
  readonly object: string
  readonly reason: LeakReason
  readonly detail: string
  readonly removal: Removal
}

/** Somebody's, perhaps: nothing proves that it is Heddle's. It is told and never removed. */
export interface Unclaimed {
  readonly kind: 'address' | 'cache' | 'link' | 'proxy' | 'rules'
  readonly owner: Partial<AttachmentName>
  readonly object: string
  readonly reason: LeakReason
  readonly detail: string
}

export interface Judgement {
  readonly leftovers: readonly Leftover[]
  readonly unclaimed: readonly Unclaimed[]
}

/** Old enough that its writer cannot be at work: a call has a deadline of less than two minutes. */
const FILE_AGE_MS = 10 * 60_000

export function judge(inventory: Inventory): Judgement {
  const known = knownOf(inventory)
  const isBusy = (owner: Partial<AttachmentName> & { readonly network: string }): boolean =>
    inventory.busy.has(owner.network) ||
    (owner.containerId !== undefined &&
      owner.ifname !== undefined &&
      inventory.busy.has(nameOf({ ...owner, containerId: owner.containerId, ifname: owner.ifname })))
  const leftovers = [
    ...attachments(inventory),
    ...linkRecords(inventory, known),
    ...(inventory.hasRecords ? ownerless(inventory, known) : []),
    ...inventory.files.filter(({ ageMs }) => ageMs > FILE_AGE_MS).map(fileLeftover),
  ]
  return {
    leftovers: leftovers.filter(({ owner }) => owner === undefined || !isBusy(owner)),
    unclaimed: [...unclaimed(inventory, known), ...unprovable(inventory, known)].filter(
      ({ owner: { network, ...rest } }) => network === undefined || !isBusy({ network, ...rest }),
    ),
  }
}

const ownerless = (inventory: Inventory, known: Known): readonly Leftover[] => [
  ...rules(inventory, known),
  ...links(inventory, known),
  ...proxies(inventory),
]

/** Where no records are kept, what would be a leftover elsewhere. */
const unprovable = (inventory: Inventory, known: Known): readonly Unclaimed[] =>
  inventory.hasRecords
    ? []
    : ownerless(inventory, known).map(({ kind, owner, object, reason, detail }) => ({
        kind: kind === 'link' || kind === 'proxy' ? kind : 'rules',
        owner: owner ?? {},
        object,
        reason,
        detail,
      }))

interface Known {
  /** Attachments that some record names, whatever became of their sandbox: their DEL takes all of them away. */
  readonly recorded: ReadonlySet<string>
  /** Attachments that live, or may live. */
  readonly alive: ReadonlySet<string>
  /** Aliases that records and living attachments give. */
  readonly aliases: ReadonlySet<string>
  /** Aliases of links whose pod lives. */
  readonly liveAliases: ReadonlySet<string>
  /** Marks of the rules that stay, or that the DEL of a record removes. */
  readonly marks: ReadonlySet<string>
}

function knownOf({ records, linkRecords: links, caches, links: seen }: Inventory): Known {
  const recorded: AttachmentName[] = records.map(({ record }) => record)
  const alive: AttachmentName[] = [
    ...records.filter(({ sandbox }) => sandbox !== 'gone').map(({ record }) => record),
    ...links.filter(({ sandbox }) => sandbox !== 'gone').map(({ record }) => record),
    ...caches.filter(({ sandbox }) => sandbox !== 'gone'),
  ]
  const named = [...recorded, ...alive]
  const liveAliases = new Set(seen.filter(isLive).map(({ alias }) => alias))
  const marked = [...named, ...[...liveAliases].flatMap((alias) => ownerOfAlias(alias) ?? [])]
  return {
    recorded: new Set(recorded.map(nameOf)),
    alive: new Set(alive.map(nameOf)),
    aliases: new Set([...named, ...links.map(({ record }) => record)].map((one) => aliasOf(one.network, one))),
    liveAliases,
    marks: new Set(marked.map((one) => ownerMark(one.network, one))),
  }
}

/** A pair ends with either end's namespace: while one end is here, the other's namespace lives. */
const isLive = ({ kind, hasPeerElsewhere }: SeenLink): boolean => kind === 'veth' && hasPeerElsewhere

/** The last plugin of a chain first, as DEL goes. */
function attachments({ records, links }: Inventory): readonly Leftover[] {
  const alive = new Set(links.filter(isLive).map(({ alias }) => alias))
  return records
    .filter(({ record, sandbox }) => sandbox === 'gone' && !alive.has(aliasOf(record.network, record)))
    .toSorted((a, b) => b.record.since - a.record.since)
    .map(({ record }) => ({
      kind: 'attachment',
      key: `attachment ${record.type} ${nameOf(record)} ${record.id}`,
      owner: record,
      object: `${record.type} ${record.containerId} ${record.ifname}`,
      reason: reasonOf(record),
      detail: record.netns,
      removal: { by: 'del', record },
    }))
}

const reasonOf = ({ state }: AttachmentRecord): LeakReason => (state === 'leaving' ? 'del-unfinished' : 'sandbox-gone')

function linkRecords({ linkRecords: records }: Inventory, { recorded }: Known): readonly Leftover[] {
  return records
    .filter(({ record, sandbox }) => sandbox === 'gone' && !recorded.has(nameOf(record)))
    .map(({ record }) => ({
      kind: 'attachment',
      key: `link-record ${record.plugin} ${nameOf(record)} ${record.netnsId}`,
      owner: record,
      object: `${record.plugin} ${record.containerId} ${record.ifname}`,
      reason: 'sandbox-gone',
      detail: record.netns,
      removal: { by: 'link-record', record },
    }))
}

function rules({ rules: seen }: Inventory, { marks, liveAliases }: Known): readonly Leftover[] {
  // A name that is too long for an alias is in it as a hash, which leads to no mark.
  const hasHashed = [...liveAliases].some((alias) => alias.includes('#'))
  return seen
    .filter(({ mark, owner }) => {
      if (marks.has(mark)) return false
      return owner === undefined ? !hasHashed : !liveAliases.has(aliasOf(owner.network, owner))
    })
    .map(({ table, mark, owner, count }) => ({
      kind: 'rules',
      key: `rules ${table.family} ${table.name} ${mark}`,
      owner,
      object: `${table.family} ${table.name}: ${count} element${count === 1 ? '' : 's'} of ${mark}`,
      reason: 'rules-of-nobody',
      detail: mark,
      removal: { by: 'rules', table, mark },
    }))
}

/** The attachment that an alias names; undefined where it holds a hash. */
export function ownerOfAlias(alias: string): AttachmentName | undefined {
  const [, network, containerId, ifname, ...more] = alias.split(':')
  if (network === undefined || containerId === undefined || ifname === undefined || more.length > 0) return undefined
  const owner = { network, containerId, ifname }
  return alias.startsWith(aliasPrefix(network)) && aliasOf(network, owner) === alias ? owner : undefined
}

/** Kinds that Heddle makes on the host and that nothing takes away by itself. Devices that it only borrows are never deleted. */
const MADE: ReadonlySet<string> = new Set(['veth', 'ifb'])

function links({ links: seen }: Inventory, { aliases, liveAliases }: Known): readonly Leftover[] {
  return seen
    .filter(({ kind, alias }) => MADE.has(kind) && !aliases.has(alias) && !liveAliases.has(alias))
    .map(({ index, name, alias }) => ({
      kind: 'link',
      key: `link ${index} ${alias}`,
      owner: ownerOfAlias(alias),
      object: name,
      reason: 'link-of-nobody',
      detail: alias,
      removal: { by: 'link', index, name, alias },
    }))
}

/** The record of a pod's link names its proxies before they are there, and goes after them. */
function proxies({ proxies: seen, linkRecords: records }: Inventory): readonly Leftover[] {
  const claimed = new Set(records.flatMap(({ record }) => record.proxied?.ips ?? []))
  return seen
    .filter(({ ip }) => !claimed.has(ip))
    .map((proxy) => ({
      kind: 'proxy',
      key: `proxy ${proxy.index} ${proxy.ip}`,
      owner: undefined,
      object: proxy.ip,
      reason: 'proxy-of-nobody',
      detail: proxy.ip,
      removal: { by: 'proxy', proxy },
    }))
}

const fileLeftover = ({ file, ageMs }: { readonly file: string; readonly ageMs: number }): Leftover => ({
  kind: 'file',
  key: `file ${file}`,
  owner: undefined,
  object: file,
  reason: 'writer-killed',
  detail: `${Math.round(ageMs / 60_000)} min`,
  removal: { by: 'file', file },
})

function unclaimed({ addresses, caches, links: seen }: Inventory, known: Known): readonly Unclaimed[] {
  const living = (owner: AttachmentName): boolean =>
    known.recorded.has(nameOf(owner)) ||
    known.alive.has(nameOf(owner)) ||
    known.liveAliases.has(aliasOf(owner.network, owner))
  // Files of old versions name no interface: any of the container's will do.
  const containers = new Set([...known.recorded, ...known.alive].map((name) => name.split(' ').slice(0, 2).join(' ')))
  const lost = addresses.filter(({ network, containerId, ifname }) => {
    if (containerId === undefined) return true
    return ifname === undefined
      ? !containers.has(`${network} ${containerId}`)
      : !living({ network, containerId, ifname })
  })
  return [
    ...lost.map(({ file, ...owner }): Unclaimed => ({
      kind: 'address',
      owner,
      object: file,
      reason: owner.containerId === undefined ? 'address-torn' : 'address-of-nobody',
      detail: owner.containerId ?? '',
    })),
    ...caches
      .filter((cache) => cache.sandbox === 'gone' && !known.recorded.has(nameOf(cache)))
      .map(({ file, netns, ...owner }): Unclaimed => ({
        kind: 'cache',
        owner,
        object: file,
        reason: 'cache-of-gone-sandbox',
        detail: netns,
      })),
    ...seen
      .filter((link) => isLive(link) && !known.aliases.has(link.alias))
      .map(({ name, alias }): Unclaimed => ({
        kind: 'link',
        owner: ownerOfAlias(alias) ?? {},
        object: name,
        reason: 'link-without-record',
        detail: alias,
      })),
  ]
}
