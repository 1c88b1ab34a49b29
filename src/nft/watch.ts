/** Notices changes of the ruleset, whoever makes them. Like `nft monitor`, but only who and where. */

import { attr, attributes } from '#codec/attributes.ts'
import { CodecError, LITTLE } from '#codec/buffer.ts'
import { cstring } from '#codec/codec.ts'
import { NETLINK_OPTION } from '#netlink/constants.ts'
import { forEachMessage } from '#netlink/message.ts'
import { portOf } from '#netlink/port.ts'
import { int32, setBuffers } from '#netlink/options.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { MSG, SO, SOL } from '#sys/constants.ts'
import { check, ERRNO, SysError } from '#sys/errno.ts'
import { type Netns } from '#sys/netns.ts'
import { PollWatcher } from '#sys/poll.ts'
import type { TableFamily, TableRef } from './table.ts'
import { openNft } from './transaction.ts'
import {
  familyName,
  generationAttributes,
  messageType,
  nfgenmsg,
  NFNL_SUBSYS,
  NFNLGRP_NFTABLES,
  NFT_MSG,
} from './wire.ts'

/** One transaction that somebody committed. */
export interface RulesetChange {
  readonly kind: 'change'
  readonly generation: number
  /** The tables it touched; `structure` when more than elements changed. */
  readonly tables: readonly TouchedTable[]
  /** Whether the transaction came from one of the sockets given as own. */
  readonly own: boolean
  /** Who committed it, as the kernel names the process. */
  readonly process: { readonly id: number; readonly name: string }
}

export interface TouchedTable extends TableRef {
  readonly structure: boolean
}

/** Notifications were lost: read everything that matters again. */
export interface RulesetOverrun {
  readonly kind: 'overrun'
}

export type RulesetEvent = RulesetChange | RulesetOverrun

export interface WatchOptions {
  readonly netns?: Netns | undefined
  /** Changes made through these sockets count as own. */
  readonly own?: readonly NetlinkSocket[] | undefined
}

/** Between start and end of a transaction at most so many different tables are told apart; a larger one is an overrun. */
const MAX_TABLES = 4096
const RECEIVE_SIZE = 256 * 1024
const BUFFER_SIZE = 4 * 1024 * 1024
/** Datagrams read in one turn of the event loop. */
const MAX_DATAGRAMS = 256

/** All messages but the generation's carry the table's name first, and a table its own. */
const named = attributes('table', { table: attr(1, cstring(256)) })

/**
 * Calls `listener` for each committed transaction until disposed, never from within the call. A socket of its own; keeps the process alive unless
 * `unref` is called.
 */
export class RulesetWatch implements Disposable {
  readonly #socket: NetlinkSocket
  readonly #poll: PollWatcher
  readonly #listener: (event: RulesetEvent) => void
  readonly #own: ReadonlySet<number>
  readonly #buffer = Buffer.allocUnsafeSlow(RECEIVE_SIZE)
  #touched = new Map<string, TouchedTable>()
  #disposed = false
  /** Something was lost; it is told once the queue is empty. */
  #lost = false

  constructor(listener: (event: RulesetEvent) => void, options: WatchOptions = {}) {
    this.#listener = listener
    this.#own = new Set((options.own ?? []).map(portOf))
    this.#socket = openNft({ netns: options.netns })
    try {
      const sys = nativeSys()
      setBuffers(this.#socket.fd, BUFFER_SIZE, sys)
      // The kernel leaves out the sender's port, and counts port 0 as its own: a socket without a port would hear nothing.
      portOf(this.#socket)
      const group = int32(NFNLGRP_NFTABLES)
      check(
        sys.setsockopt(this.#socket.fd, SOL.NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, group),
        'setsockopt',
        'NFNLGRP_NFTABLES',
      )
      this.#poll = new PollWatcher(this.#socket.fd, (status) => this.#read(status))
      this.#poll.start()
    } catch (error) {
      this.#socket[Symbol.dispose]()
      throw error
    }
  }

  /** The watch alone does not keep the process alive. */
  unref(): this {
    this.#poll.unref()
    return this
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#poll[Symbol.dispose]()
    this.#socket[Symbol.dispose]()
  }

  /** A negative status is a socket error, ENOBUFS; libuv has taken it, so that the next reading does not show it. */
  #read(status: number): void {
    if (status < 0) {
      nativeSys().getsockopt(this.#socket.fd, SOL.SOCKET, SO.ERROR, new Uint8Array(4))
      this.#lost = true
    }
    for (let i = 0; i < MAX_DATAGRAMS && !this.#disposed; i++) {
      const length = nativeSys().recv(this.#socket.fd, this.#buffer, MSG.DONTWAIT | MSG.TRUNC)
      if (length === -ERRNO.EAGAIN) {
        this.#drained()
        break
      }
      if (length === -ERRNO.EINTR) continue
      // ENOBUFS: the kernel had to drop some. Longer than the buffer: we had to.
      if (length === -ERRNO.ENOBUFS || length > this.#buffer.length) this.#lost = true
      else if (length < 0) throw new SysError(-length, 'recv', 'nftables notifications')
      else if (!this.#lost) this.#parse(length)
    }
    // libuv stops a watcher that saw an error condition; starting a running one changes nothing.
    if (!this.#disposed) this.#poll.start()
  }

  /**
   * After an overrun the kernel drops everything until the queue is empty. So only now is reading again sure to see what will not be notified: told
   * earlier, the owner might read too soon and never learn of a change dropped after that.
   */
  #drained(): void {
    if (!this.#lost) return
    this.#lost = false
    this.#touched = new Map()
    this.#listener({ kind: 'overrun' })
  }

  #parse(length: number): void {
    try {
      forEachMessage(this.#buffer, length, (header, payload) => {
        const port = payload.view.getUint32(payload.offset - 4, LITTLE)
        const { family } = nfgenmsg.read(payload)
        if (header.type === messageType(NFNL_SUBSYS.nftables, NFT_MSG.newGeneration)) {
          const { id = 0, processId = 0, processName = '' } = generationAttributes.read(payload)
          this.#finish(id, { id: processId, name: processName }, port)
        } else if (header.type >> 8 === NFNL_SUBSYS.nftables) {
          const table = familyName(family)
          const name = named.read(payload).table
          if (table !== undefined && name !== undefined) this.#touch(table, name, header.type & 0xff)
        }
        return this.#disposed || this.#lost
      })
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
      this.#lost = true
    }
  }

  #touch(family: TableFamily, name: string, type: number): void {
    const structure = type !== NFT_MSG.newElement && type !== NFT_MSG.delElement
    const key = `${family} ${name}`
    const known = this.#touched.get(key)
    if (known === undefined && this.#touched.size >= MAX_TABLES) this.#lost = true
    else if (known === undefined || (structure && !known.structure)) this.#touched.set(key, { family, name, structure })
  }

  /** The generation's message ends a transaction. */
  #finish(generation: number, process: RulesetChange['process'], port: number): void {
    const tables = [...this.#touched.values()]
    this.#touched = new Map()
    this.#listener({ kind: 'change', generation, tables, own: this.#own.has(port), process })
  }
}
