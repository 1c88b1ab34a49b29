/** WireGuard's part of the kernel: entries to requests, and what a device holds to entries. */

import { removePeerMessage, readDevice, setDeviceMessage, setPeerMessages, WIREGUARD } from '#netlink/wireguard.ts'
import { findFamily, openGenl, type GenlFamily } from '#netlink/genl.ts'
import type { SeenWgDevice } from '#netlink/wireguard.ts'
import type { Message } from '#netlink/message.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { hasCode } from '#sys/errno.ts'
import type { Netns } from '#sys/netns.ts'
import type { Devices } from './devices.ts'
import type { Operation } from './diff.ts'
import type { WgPeerEntry, WireguardEntry } from './entry.ts'
import type { Failure } from './kernel.ts'
import { DeviceMissing } from './messages.ts'

export class NoWireguard extends Error {
  override readonly name = 'NoWireguard'
  readonly code = 'no-wireguard'

  constructor() {
    super('the kernel knows no WireGuard: it needs Linux 5.6 or later with the module wireguard (modprobe wireguard)')
  }
}

type WgOperation = Operation & { readonly entry: WireguardEntry | WgPeerEntry }

export const isWireguard = (operation: Operation): operation is WgOperation =>
  operation.entry.kind === 'wireguard' || operation.entry.kind === 'wgpeer'

/** Opens its socket when it is first needed: most nodes never have such a device. */
export class WireguardControl implements Disposable {
  readonly #netns: Netns | undefined
  #open: { readonly socket: NetlinkSocket; readonly family: GenlFamily } | undefined

  constructor(netns: Netns | undefined) {
    this.#netns = netns
  }

  /** Carries operations out, in as few system calls as they fit into. */
  apply(operations: readonly WgOperation[], devices: Devices): Failure[] {
    const failures: Failure[] = []
    const sent: Operation[] = []
    const messages: Message[] = []
    for (const operation of operations) {
      try {
        for (const message of this.#messages(operation, devices)) {
          messages.push(message)
          sent.push(operation)
        }
      } catch (error) {
        if (operation.do !== 'remove') failures.push({ operation, error: asError(error) })
      }
    }
    if (messages.length === 0) return failures
    const failed = new Set<Operation>()
    for (const [at, error] of this.#opened().socket.batch(messages).entries()) {
      const operation = sent[at]
      if (error === undefined || operation === undefined || failed.has(operation)) continue
      if (operation.do === 'remove' && error.code === 'ENODEV') continue
      failed.add(operation)
      failures.push({ operation, error })
    }
    return failures
  }

  /** What a device holds; undefined where it is gone or of another kind. */
  read(index: number): SeenWgDevice | undefined {
    try {
      const { socket, family } = this.#opened()
      return readDevice(socket, family, index)
    } catch (error) {
      if (hasCode(error, 'ENODEV', 'EOPNOTSUPP') || error instanceof NoWireguard) return undefined
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#open?.socket[Symbol.dispose]()
    this.#open = undefined
  }

  #opened(): { readonly socket: NetlinkSocket; readonly family: GenlFamily } {
    if (this.#open !== undefined) return this.#open
    const socket = openGenl(this.#netns === undefined ? {} : { netns: this.#netns })
    const family = findFamily(socket, WIREGUARD)
    if (family === undefined) {
      socket[Symbol.dispose]()
      throw new NoWireguard()
    }
    return (this.#open = { socket, family })
  }

  #messages({ do: verb, entry }: WgOperation, devices: Devices): Message[] {
    const index = devices.indexOf(entry.dev)
    if (index === undefined) throw new DeviceMissing(entry.dev)
    const { family } = this.#opened()
    if (entry.kind === 'wireguard') {
      const { privateKey, listenPort } = entry
      // Key and port go with their device.
      return verb === 'remove' ? [] : [setDeviceMessage(family, index, { privateKey, listenPort })]
    }
    if (verb === 'remove') return [removePeerMessage(family, index, entry.publicKey)]
    const { endpoint, ...peer } = entry
    if (endpoint === undefined) throw new Error(`peer ${entry.publicKey} of ${entry.dev} has no endpoint`)
    return setPeerMessages(family, index, { ...peer, endpoint })
  }
}

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
