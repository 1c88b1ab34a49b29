/** The kernel of one network namespace, by rtnetlink, nf_tables and /proc/sys. */

import { formatIp } from '#ip/address.ts'
import { ZERO_MAC } from '#ip/mac.ts'
import { familyOf, parseIpNet } from '#ip/prefix.ts'
import { listAddrs, type SeenAddr } from '#netlink/addr.ts'
import { listFdb } from '#netlink/fdb.ts'
import { findLink, listLinks } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import { NetlinkMonitor, type NetlinkEvent } from '#netlink/monitor.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { listRoutes } from '#netlink/route.ts'
import { listRules } from '#netlink/rule.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { isAsWanted } from '#nft/ensure.ts'
import { listTables } from '#nft/list.ts'
import type { TableRef } from '#nft/table.ts'
import { openNft } from '#nft/transaction.ts'
import { RulesetWatch, type RulesetEvent } from '#nft/watch.ts'
import type { Clock } from '#sys/clock.ts'
import { hasCode } from '#sys/errno.ts'
import { inNetns, type Netns } from '#sys/netns.ts'
import { readSysctl } from '#sys/sysctl.ts'
import { Applier } from './apply.ts'
import { Devices } from './devices.ts'
import type { Operation } from './diff.ts'
import { keyOf, LINK_ALIAS, type Entry, type Key, type NftEntry } from './entry.ts'
import type { Change, Failure, Kernel } from './kernel.ts'
import { NodeState } from './node-state.ts'
import { addressEntry, fdbEntry, linkEntry, neighEntry, neighKey, routeEntry, ruleEntry } from './observe.ts'
import { isHeddleProtocol } from './protocol.ts'
import { WireguardControl } from './wireguard-control.ts'
import { WireguardWatch } from './wireguard-watch.ts'

export interface NetlinkKernelOptions {
  readonly clock: Clock
  /** Absent: the namespace of this process. */
  readonly netns?: Netns
  /** Tables that are ours whenever they are there, wanted or not. */
  readonly tables?: readonly TableRef[]
  /** The subscription broke: what happens from now on is found by the regular reading only. */
  readonly onError?: (error: Error) => void
}

/** The kernel tells nobody when a sysctl changes. */
const SYSCTL_MS = 2000
/** Nor when a WireGuard device's peers do. */
const WIREGUARD_MS = 1500

export class NetlinkKernel implements Kernel {
  readonly #route: NetlinkSocket
  readonly #nft: NetlinkSocket
  readonly #options: NetlinkKernelOptions
  readonly #devices = new Devices()
  readonly #applier: Applier
  readonly #wireguard: WireguardControl
  readonly #wireguardWatch = new WireguardWatch()
  readonly #wireguardDevices = new Set<string>()
  readonly #tables = new Map<Key, NftEntry>()
  readonly #sysctls = new Map<Key, string>()
  readonly #stack = new DisposableStack()
  #monitor: NetlinkMonitor | undefined
  #changes: Change[] | 'overrun' = []
  #changed: () => void = () => undefined
  /** As it was when everything was read: the reconciler's own, which goes on changing. */
  #wanted = new NodeState()
  #relevant: (key: Key) => boolean = () => false

  constructor(options: NetlinkKernelOptions) {
    this.#options = options
    const where = options.netns === undefined ? {} : { netns: options.netns }
    this.#route = this.#stack.use(NetlinkSocket.open(where))
    this.#nft = this.#stack.use(openNft(where))
    this.#wireguard = this.#stack.use(new WireguardControl(options.netns))
    this.#applier = new Applier({
      route: this.#route,
      nft: this.#nft,
      wireguard: this.#wireguard,
      devices: this.#devices,
      inside: (fn) => this.#inside(fn),
      catchUp: () => this.#monitor?.drain(),
    })
  }

  watch(changed: () => void, relevant: (key: Key) => boolean): void {
    this.#changed = changed
    this.#relevant = relevant
    const where = this.#options.netns === undefined ? {} : { netns: this.#options.netns }
    this.#monitor = new NetlinkMonitor({
      ...where,
      // What we did ourselves we know; a link we make is looked up, for its index.
      except: this.#route,
      groups: ['link', 'addr', 'route', 'rule', 'neigh'],
      onEvent: (event) => this.#guard(() => this.#onEvent(event)),
      onError: (error) => this.#options.onError?.(error),
    }).unref()
    this.#stack.use(this.#monitor)
    this.#stack.use(
      new RulesetWatch((event) => this.#guard(() => this.#onRuleset(event)), { ...where, own: [this.#nft] }).unref(),
    )
    this.#stack.use(this.#options.clock.interval(SYSCTL_MS, () => this.#checkSysctls()))
    this.#stack.use(this.#options.clock.interval(WIREGUARD_MS, () => this.#guard(() => this.#checkWireguard())))
    for (const link of listLinks(this.#route)) this.#devices.put(link)
  }

  observe(wanted: NodeState): NodeState {
    this.#changes = []
    this.#devices.clear()
    const links = listLinks(this.#route)
    for (const link of links) this.#devices.put(link)
    const seen = new NodeState()
    const take = (entry: Entry | undefined, ours: boolean): void => {
      if (entry !== undefined && (ours || wanted.get(keyOf(entry)) !== undefined)) seen.put(entry)
    }
    const own = new Set<number>()
    for (const link of links) {
      const ours = link.alias === LINK_ALIAS
      if (ours || wanted.get(`link ${link.name}`) !== undefined) own.add(link.index)
      take(linkEntry(link, this.#devices), ours)
    }
    for (const addr of listAddrs(this.#route))
      take(addressEntry(addr, this.#devices), own.has(addr.index) && addr.scope !== 'link')
    for (const route of listRoutes(this.#route))
      take(routeEntry(route, this.#devices), isHeddleProtocol(route.protocol))
    for (const rule of listRules(this.#route)) take(ruleEntry(rule), isHeddleProtocol(rule.protocol))
    for (const neigh of listNeighs(this.#route)) take(neighEntry(neigh, this.#devices), own.has(neigh.index))
    for (const index of own) for (const fdb of listFdb(this.#route, { index })) take(fdbEntry(fdb, this.#devices), true)
    this.#wanted = wanted
    this.#wireguardDevices.clear()
    for (const link of links.filter(({ index, info }) => own.has(index) && info?.kind === 'wireguard'))
      for (const entry of this.#readWireguard(link)) seen.put(entry)
    for (const entry of this.#seenTables(wanted)) seen.put(entry)
    for (const entry of wanted.entries()) {
      if (entry.kind !== 'sysctl') continue
      const there = this.look(entry)
      if (there !== undefined) seen.put(there)
    }
    return seen
  }

  look(wanted: Entry): Entry | undefined {
    switch (wanted.kind) {
      case 'link': {
        const link = findLink(this.#route, wanted.name)
        if (link === undefined) return undefined
        this.#devices.put(link)
        if (link.info?.kind === 'wireguard') this.#wireguardDevices.add(link.name)
        return linkEntry(link, this.#devices)
      }
      case 'sysctl': {
        this.#sysctls.set(keyOf(wanted), wanted.key)
        const value = this.#sysctl(wanted.key)
        return value === undefined ? undefined : { ...wanted, value }
      }
      case 'nft':
        this.#tables.set(keyOf(wanted), wanted)
        return isAsWanted(this.#nft, wanted.table) ? wanted : undefined
      default:
        return undefined
    }
  }

  async apply(operations: readonly Operation[]): Promise<readonly Failure[]> {
    const failures = await this.#applier.apply(operations)
    const failed = new Set(failures.map((failure) => failure.operation))
    for (const operation of operations) if (!failed.has(operation)) this.#remember(operation)
    return failures
  }

  drain(): readonly Change[] | 'overrun' {
    this.#monitor?.drain()
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  [Symbol.dispose](): void {
    this.#stack.dispose()
  }

  /** A table is seen when it is just as it was written; one that is ours and unwanted is seen as an empty one, to be removed. */
  #seenTables(wanted: NodeState): NftEntry[] {
    const found: NftEntry[] = []
    const there = new Set(listTables(this.#nft).map(({ family, name }) => `nft ${family} ${name}`))
    for (const entry of wanted.entries()) {
      if (entry.kind !== 'nft') continue
      this.#tables.set(keyOf(entry), entry)
      if (there.has(keyOf(entry)) && isAsWanted(this.#nft, entry.table)) found.push(entry)
    }
    for (const { family, name } of this.#options.tables ?? []) {
      const entry: NftEntry = { kind: 'nft', table: { family, name, sets: [], chains: [] } }
      if (there.has(keyOf(entry)) && wanted.get(keyOf(entry)) === undefined) found.push(entry)
    }
    return found
  }

  #remember(operation: Operation): void {
    const { do: verb, entry } = operation
    const key = keyOf(entry)
    this.#wireguardWatch.applied(operation)
    if (entry.kind === 'nft') {
      if (verb === 'remove') this.#tables.delete(key)
      else this.#tables.set(key, entry)
    }
    if (entry.kind === 'link' && entry.data.type === 'wireguard') {
      if (verb === 'remove') this.#forgetWireguard(entry.name)
      else this.#wireguardDevices.add(entry.name)
    }
    if (entry.kind === 'sysctl') {
      if (verb === 'remove') this.#sysctls.delete(key)
      else this.#sysctls.set(key, entry.key)
      // A reading that was due while others of these operations took their time may be of before this one.
      if (this.#changes !== 'overrun') this.#changes = this.#changes.filter((c) => c.what !== 'value' || c.key !== key)
    }
  }

  #onEvent(event: NetlinkEvent): void {
    switch (event.kind) {
      case 'overrun':
        this.#changes = 'overrun'
        this.#changed()
        return
      case 'link':
        if (event.change === 'new') this.#onLink(event.link)
        else this.#onLinkGone(event.link.index)
        return
      case 'addr':
        this.#onAddr(event.addr, event.change)
        return
      case 'route':
        this.#onObject(routeEntry(event.route, this.#devices), event.change, isHeddleProtocol(event.route.protocol))
        return
      case 'rule':
        this.#onObject(ruleEntry(event.rule), event.change, isHeddleProtocol(event.rule.protocol))
        return
      case 'neigh': {
        const { neigh } = event
        const entry = event.change === 'new' ? neighEntry(neigh, this.#devices) : undefined
        const key = neighKey(neigh, this.#devices)
        // A permanent entry that turned into another kind is as good as gone.
        if (entry !== undefined) this.#onObject(entry, 'new', this.#ownDevice(neigh.index))
        else if (key !== undefined) this.#tell({ what: 'gone', key: keyOf({ kind: 'neigh', ...key, mac: ZERO_MAC }) })
        return
      }
      case 'fdb':
        this.#onObject(fdbEntry(event.fdb, this.#devices), event.change, this.#ownDevice(event.fdb.index))
        return
      default:
        event satisfies never
    }
  }

  #onObject(entry: Entry | undefined, change: 'new' | 'delete', ours: boolean): void {
    if (entry === undefined) return
    const key = keyOf(entry)
    if (change === 'delete') this.#tell({ what: 'gone', key })
    else if (ours || this.#relevant(key)) this.#tell({ what: 'seen', entry })
  }

  #onAddr(addr: SeenAddr, change: 'new' | 'delete'): void {
    const entry = addressEntry(addr, this.#devices)
    this.#onObject(entry, change, addr.scope !== 'link' && this.#ownDevice(addr.index))
    if (entry === undefined || change === 'new' || familyOf(entry.address) !== 4) return
    if (this.#hasNoAddress(addr.index)) this.#tell({ what: 'routes-gone', dev: entry.dev })
    this.#tell({ what: 'routes-gone', dev: entry.dev, ip: formatIp(parseIpNet(entry.address).ip) })
  }

  #hasNoAddress(index: number): boolean {
    try {
      return listAddrs(this.#route, { index, family: 4 }).length === 0
    } catch (error) {
      if (hasCode(error, 'ENODEV')) return true
      throw error
    }
  }

  #onLink(link: Link): void {
    const before = this.#devices.put(link)
    if (before !== undefined && before.name !== link.name) this.#tell({ what: 'device-gone', name: before.name })
    if (link.up && before?.up !== true) this.#tell({ what: 'device-up', name: link.name })
    if (!link.up && before?.up === true) this.#tell({ what: 'routes-gone', dev: link.name })
    const entry = linkEntry(link, this.#devices)
    if (entry !== undefined && (link.alias === LINK_ALIAS || this.#relevant(keyOf(entry))))
      this.#tell({ what: 'seen', entry })
  }

  #onLinkGone(index: number): void {
    const link = this.#devices.delete(index)
    if (link !== undefined) this.#wireguardWatch.forget(link.name)
    if (link !== undefined && this.#devices.indexOf(link.name) === undefined)
      this.#tell({ what: 'device-gone', name: link.name })
  }

  #onRuleset(event: RulesetEvent): void {
    const keys =
      event.kind === 'overrun'
        ? [...this.#tables.keys()]
        : event.tables.filter((table) => table.structure).map(({ family, name }) => `nft ${family} ${name}`)
    for (const key of keys) {
      const entry = this.#tables.get(key)
      if (entry !== undefined && !isAsWanted(this.#nft, entry.table)) this.#tell({ what: 'gone', key })
    }
  }

  /** What a device of ours holds, which from now on is looked at regularly. */
  #readWireguard({ name, index }: Link): Entry[] {
    this.#wireguardDevices.add(name)
    const device = this.#wireguard.read(index)
    return device === undefined ? [] : this.#wireguardWatch.take(name, device, this.#wanted)
  }

  #forgetWireguard(name: string): void {
    this.#wireguardDevices.delete(name)
    this.#wireguardWatch.forget(name)
  }

  #checkWireguard(): void {
    for (const name of this.#wireguardDevices) {
      const index = this.#devices.indexOf(name)
      const device = index === undefined ? undefined : this.#wireguard.read(index)
      if (device === undefined) continue
      for (const change of this.#wireguardWatch.changes(name, device, this.#wanted)) this.#tell(change)
    }
  }

  #checkSysctls(): void {
    for (const [key, name] of this.#sysctls) {
      const value = this.#sysctl(name)
      if (value === undefined) this.#tell({ what: 'gone', key })
      else this.#tell({ what: 'value', key, value })
    }
  }

  #sysctl(name: string): string | undefined {
    try {
      return this.#inside(() => readSysctl(name))
    } catch {
      // A device's settings go with it.
      return undefined
    }
  }

  #ownDevice(index: number): boolean {
    const name = this.#devices.nameOf(index)
    return name !== undefined && (this.#relevant(`link ${name}`) || this.#devices.get(name)?.alias === LINK_ALIAS)
  }

  #inside<T>(fn: () => T): T {
    return this.#options.netns === undefined ? fn() : inNetns(this.#options.netns, fn)
  }

  /** An event that could not be followed is one that was lost. */
  #guard(follow: () => void): void {
    try {
      follow()
    } catch (error) {
      this.#options.onError?.(error instanceof Error ? error : new Error(String(error)))
      this.#changes = 'overrun'
      this.#changed()
    }
  }

  #tell(change: Change): void {
    if (this.#changes !== 'overrun') this.#changes.push(change)
    this.#changed()
  }
}
