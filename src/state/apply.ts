/** Carries operations out, in their order: links one by one, everything else in batches as large as they come. */

import { createLink, deleteLink, getLink, setLink } from '#netlink/link.ts'
import type { Message } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { deleteTable, ensureTable } from '#nft/ensure.ts'
import { hasCode } from '#sys/errno.ts'
import { writeSysctl } from '#sys/sysctl.ts'
import { createTun } from '#sys/tun.ts'
import type { Devices } from './devices.ts'
import type { Operation } from './diff.ts'
import { LINK_ALIAS, type EntryKind, type LinkEntry } from './entry.ts'
import type { Failure } from './kernel.ts'
import { isDone, linkInfo, requestOf } from './messages.ts'
import { isWireguard, type WireguardControl } from './wireguard-control.ts'

export interface ApplierOptions {
  readonly route: NetlinkSocket
  readonly nft: NetlinkSocket
  readonly wireguard: WireguardControl
  readonly devices: Devices
  /** Takes in what the kernel has told so far. */
  readonly catchUp: () => void
  /** Runs something in the namespace of the sockets. */
  readonly inside: <T>(fn: () => T) => T
}

export class Applier {
  readonly #options: ApplierOptions

  constructor(options: ApplierOptions) {
    this.#options = options
  }

  async apply(operations: readonly Operation[]): Promise<readonly Failure[]> {
    const failures: Failure[] = []
    let batch: Operation[] = []
    const flush = (): void => {
      failures.push(...this.#send(batch), ...this.#sendWireguard(batch))
      batch = []
    }
    for (const operation of operations) {
      if (isBatched(operation)) {
        batch.push(operation)
        continue
      }
      flush()
      try {
        await this.#one(operation)
      } catch (error) {
        failures.push({ operation, error: asError(error) })
      }
    }
    flush()
    return failures
  }

  #send(operations: readonly Operation[]): Failure[] {
    const failures: Failure[] = []
    const sent: Operation[] = []
    const messages: Message[] = []
    for (const operation of operations) {
      try {
        const message = requestOf(operation, this.#options.devices)
        if (message === undefined) continue
        messages.push(message)
        sent.push(operation)
      } catch (error) {
        // Without its device there is nothing to remove, and nothing to add to.
        if (operation.do !== 'remove') failures.push({ operation, error: asError(error) })
      }
    }
    if (messages.length === 0) return failures
    for (const [index, error] of this.#options.route.batch(messages).entries()) {
      const operation = sent[index]
      if (error !== undefined && operation !== undefined && !isDone(operation, error.code))
        failures.push({ operation, error })
    }
    return failures
  }

  #sendWireguard(operations: readonly Operation[]): Failure[] {
    const own = operations.filter(isWireguard)
    if (own.length === 0) return []
    try {
      return this.#options.wireguard.apply(own, this.#options.devices)
    } catch (error) {
      return own.map((operation) => ({ operation, error: asError(error) }))
    }
  }

  async #one(operation: Operation): Promise<void> {
    const { do: verb, entry } = operation
    switch (entry.kind) {
      case 'link':
        if (verb === 'add') this.#addLink(entry)
        else if (verb === 'remove') await this.#removeLink(entry)
        else if (operation.from.kind === 'link') this.#changeLink(entry, operation.from)
        break
      case 'nft':
        if (verb === 'remove') deleteTable(this.#options.nft, entry.table)
        else await ensureTable(this.#options.nft, entry.table)
        break
      case 'sysctl':
        // What it was before is not known; a setting that nobody wants any more stays as it is.
        if (verb !== 'remove') this.#options.inside(() => writeSysctl(entry.key, entry.value))
        break
      default:
    }
  }

  #addLink(entry: LinkEntry): void {
    const { route, devices } = this.#options
    const { name, mtu, mac, up, data } = entry
    // Such devices are no business of rtnetlink's until they are there.
    if (data.type === 'tun')
      this.#options.inside(() => createTun(name, () => setLink(route, name, { mtu, up, alias: LINK_ALIAS })))
    else createLink(route, { name, mtu, mac, up, alias: LINK_ALIAS, info: linkInfo(entry, devices) })
    this.#lookAgain(name)
  }

  /** Sets only what differs: writing even the same MAC makes the kernel forget the device's neighbours. */
  #changeLink(entry: LinkEntry, from: LinkEntry): void {
    setLink(this.#options.route, entry.name, {
      ...(entry.mtu === from.mtu ? {} : { mtu: entry.mtu }),
      ...(entry.mac === from.mac ? {} : { mac: entry.mac }),
      ...(entry.up === from.up ? {} : { up: entry.up }),
      alias: LINK_ALIAS,
    })
    this.#lookAgain(entry.name)
  }

  /** First what was told on the way, which is older: a device that comes up is told of as down before. */
  #lookAgain(name: string): void {
    this.#options.catchUp()
    this.#options.devices.put(getLink(this.#options.route, name))
  }

  async #removeLink({ name }: LinkEntry): Promise<void> {
    const { route, devices } = this.#options
    try {
      await deleteLink(route, name)
    } catch (error) {
      if (!hasCode(error, 'ENODEV')) throw error
    }
    const index = devices.indexOf(name)
    if (index !== undefined) devices.delete(index)
  }
}

const BATCHED: ReadonlySet<EntryKind> = new Set(['address', 'wireguard', 'wgpeer', 'neigh', 'fdb', 'route', 'rule'])

const isBatched = ({ entry: { kind } }: Operation): boolean => BATCHED.has(kind)

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
