/** The IPAM plugin host-local: addresses of this machine's own ranges, kept as files. Contract: the reference plugin's configuration and disk format. */

import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'

import { CniError, invalidConfig, ioFailure, messageOf, tryAgain, unavailable } from '#cni/errors.ts'
import type { Attachment, GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type IpConfig, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { formatIp, type Ip, type IpText } from '#ip/address.ts'
import { formatIpNet, parseIpNet } from '#ip/prefix.ts'
import { bootId } from '#sys/bootid.ts'
import { hasCode } from '#sys/errno.ts'
import { checkFailed } from '../check-failed.ts'
import { readResolvConf } from '../resolv-conf.ts'
import { isFull, isGateway, nextFree, type Choice } from './allocator.ts'
import { bootNote, bootOf, type BootHost } from './boot.ts'
import type { AddressBook } from './book.ts'
import { DEFAULT_DATA_DIR, directoryOf, formatIps, hostLocalConf, type HostLocalConf } from './config.ts'
import { isOwner } from './index.ts'
import { formatRangeSet, rangeOfSet, type RangeSet } from './range.ts'
import type { Reservation } from './reservation.ts'
import { AddressStore } from './store.ts'

export const hostLocal: Plugin = { type: 'host-local', versions: specVersions, add, del, check, status, gc }

/** One store a directory, so that its index serves all calls of a long-lived process. */
const stores = new Map<string, AddressStore>()
const MAX_STORES = 64

function storeOf(directory: string, host: BootHost): AddressStore {
  const known = stores.get(directory)
  if (known !== undefined) return known
  const [oldest] = stores.keys()
  if (stores.size >= MAX_STORES && oldest !== undefined) stores.delete(oldest)
  const store = new AddressStore(directory, bootOf(host, basename(directory)))
  stores.set(directory, store)
  return store
}

/**
 * Releases what an earlier boot left in the networks of the usual directory that Heddle has given addresses from; others are looked at by the first call that concerns
 * them. Throws what the file system throws.
 */
export async function releaseEarlierBoots(host: BootHost): Promise<void> {
  const dataDir = join(host.root, DEFAULT_DATA_DIR)
  for (const name of directoriesIn(dataDir)) {
    const directory = join(dataDir, name)
    if (bootNote(directory, bootId()) === 'other') await storeOf(directory, host).lockedIfExists(() => undefined)
  }
}

function directoriesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = hostLocalConf(input, host.root)
  const dns = conf.resolvConf === undefined ? {} : readResolvConf(conf.resolvConf)
  const requests = assignRequests(conf)
  const step = (name: string): void => host.failpoint(`host-local.${name}`)
  const store = storeOf(conf.directory, host)
  const { choices, reservation } = await store.locked(
    (book) => allocate(book, conf, requests, input, step),
    (allocation) => allocation.reservation.begin(),
  )
  try {
    using made = reservation
    try {
      step('sync')
    } finally {
      await made.synced
    }
  } catch (error) {
    await store.locked((book) => book.release(book.index.heldBy(input)))
    if (error instanceof CniError) throw error
    throw ioFailure(`addresses cannot be written to ${conf.directory}`, messageOf(error), { cause: error })
  }
  return { ...emptyResult, ips: choices.map(ipConfigOf), routes: conf.routes, dns }
}

function ipConfigOf({ ip, range }: Choice): IpConfig {
  return { address: formatIpNet({ ip, length: range.subnet.length }), gateway: formatIp(range.gateway) }
}

/** Which set serves which requested address: the first that holds it. Throws CniError 7 for one that no set can give. */
function assignRequests(conf: HostLocalConf): ReadonlyMap<RangeSet, Ip> {
  const assigned = new Map<RangeSet, Ip>()
  const left: Ip[] = []
  for (const ip of conf.requested) {
    const set = conf.sets.find((candidate) => rangeOfSet(candidate, ip) !== undefined && !assigned.has(candidate))
    if (set === undefined) left.push(ip)
    else if (isGateway(set, ip)) {
      throw invalidConfig(`requested address ${formatIp(ip)} is the gateway of its subnet`, 'ask for another address')
    } else assigned.set(set, ip)
  }
  if (left.length === 0) return assigned
  throw invalidConfig(
    `requested addresses are not in any free range set: ${formatIps(left)}`,
    `ranges: ${conf.sets.map(formatRangeSet).join('; ')}; each range set gives one address`,
  )
}

interface Allocation {
  readonly choices: readonly Choice[]
  readonly reservation: Reservation
}

/** How often somebody without the lock may take the very address chosen before this call gives up. */
const MAX_TRIES = 5

function allocate(
  book: AddressBook,
  conf: HostLocalConf,
  requests: ReadonlyMap<RangeSet, Ip>,
  owner: Attachment,
  step: (name: string) => void,
): Allocation {
  refuseSecond(book, owner)
  for (let attempt = 0; attempt < MAX_TRIES; attempt++) {
    const choices = conf.sets.map((set, i) => {
      const requested = requests.get(set)
      return requested === undefined ? chooseFree(book, set, i) : chooseRequested(book, set, requested)
    })
    book.release(choices.map((choice) => choice.text).filter((ip) => book.index.get(ip)?.state === 'torn'))
    const ips = choices.map((choice) => choice.text)
    const reservation = book.reserve(ips, owner, step)
    if (reservation !== undefined) {
      for (const [i, ip] of ips.entries()) book.setLastReserved(i, ip)
      return { choices, reservation }
    }
    book.reread()
  }
  throw tryAgain(`addresses in ${book.directory} change without the lock being held`, 'find out which program does it')
}

function refuseSecond(book: AddressBook, owner: Attachment): void {
  const held = book.index.heldBy(owner)
  if (held.length === 0) return
  throw invalidConfig(
    `${owner.containerId} interface ${owner.ifname} has already been given ${held.join(', ')}, duplicate allocation is not allowed`,
    'run DEL for this attachment first',
  )
}

function chooseFree(book: AddressBook, set: RangeSet, number: number): Choice {
  const last = book.lastReserved(number)
  const free = nextFree(set, book.index, last)
  if (free !== undefined) return free
  // Before giving up: files may have been removed by hand, and torn files have no owner.
  book.reread()
  const torn = { has: (ip: IpText): boolean => book.index.has(ip) && book.index.get(ip)?.state !== 'torn' }
  const rest = nextFree(set, book.index, last) ?? nextFree(set, torn, last)
  if (rest !== undefined) return rest
  throw tryAgain(`no IP addresses available in range set: ${formatRangeSet(set)}`, full(book.directory))
}

function chooseRequested(book: AddressBook, set: RangeSet, ip: Ip): Choice {
  const text = formatIp(ip)
  const range = rangeOfSet(set, ip)
  const state = book.index.get(text)?.state
  if (range !== undefined && (state === undefined || state === 'torn')) return { ip, text, range }
  const holder = typeof state === 'object' ? `container ${state.containerId}` : 'a file that is none of ours'
  throw tryAgain(`requested address ${text} is not available`, `it is held by ${holder}`)
}

const full = (directory: string): string =>
  `every address has a file in ${directory}; remove leaked ones with GC, or give the network a larger range`

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  await storeOf(directoryOf(input, host.root), host).lockedIfExists((book) => {
    const held = book.index.heldBy(input)
    if (held.length === 0) return
    host.failpoint('host-local.release')
    book.release(held)
    host.failpoint('host-local.released')
  })
}

/** Exactly the addresses of the previous result must be held; other IPAM plugins' addresses, outside the ranges, are not our business. */
async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = hostLocalConf(input, host.root)
  if (input.prevResult === undefined)
    throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  const given = input.prevResult.ips
    .map((config) => parseIpNet(config.address).ip)
    .filter((ip) => conf.sets.some((set) => rangeOfSet(set, ip) !== undefined))
    .map(formatIp)
  const held = (await storeOf(conf.directory, host).lockedIfExists((book) => book.index.heldBy(input))) ?? []
  const who = `container ${input.containerId} interface ${input.ifname}`
  const missing = given.filter((ip) => !held.includes(ip))
  if (missing.length > 0)
    throw checkFailed(`host-local: ${missing.join(', ')} not reserved for ${who} in ${conf.directory}`)
  const all = input.prevResult.ips.map((config) => formatIp(parseIpNet(config.address).ip))
  const extra = held.filter((ip) => !all.includes(ip))
  if (extra.length > 0)
    throw checkFailed(`host-local: ${who} holds ${extra.join(', ')}, which its result does not name`)
  if (held.length === 0) throw checkFailed(`host-local: no address is reserved for ${who}`)
}

/** Ready while every range set has a free address. */
async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = hostLocalConf(input, host.root)
  const taken = await storeOf(conf.directory, host).lockedIfExists((book) =>
    [...book.index.entries()].flatMap(([, entry]) => (entry.state === 'torn' ? [] : [entry.ip])),
  )
  const fullSet = conf.sets.find((set) => isFull(set, taken ?? []))
  if (fullSet !== undefined) {
    throw unavailable(`no IP addresses available in range set: ${formatRangeSet(fullSet)}`, full(conf.directory))
  }
}

/**
 * Removes the addresses of all attachments but the valid ones. A torn file goes too, unless some valid attachment has no file at all: then
 * the torn one might be its.
 */
async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const valid = Map.groupBy(input.validAttachments, (attachment) => attachment.containerId)
  await storeOf(directoryOf(input, host.root), host).lockedIfExists((book) => {
    const everyValidHolds = input.validAttachments.every((attachment) => book.index.heldBy(attachment).length > 0)
    const stale = [...book.index.entries()].filter(([, { state }]) => {
      if (state === 'torn') return everyValidHolds
      if (state === 'foreign') return false
      return !(valid.get(state.containerId) ?? []).some((attachment) => isOwner(state, attachment))
    })
    if (stale.length === 0) return
    host.failpoint('host-local.gc')
    book.release(stale.map(([ip]) => ip))
    host.log('info', 'host-local: released stale addresses', { network: input.config.name, count: stale.length })
  })
}
