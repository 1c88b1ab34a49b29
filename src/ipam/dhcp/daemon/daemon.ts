/** The DHCP daemon: all attachments of this node that have a lease, and the calls of their plugins. */

import { parseNetConf, type NetConf } from '#cni/config.ts'
import { validAttachmentsKey } from '#cni/derive.ts'
import { containerIdError, ifnameError, parseCniArgs } from '#cni/env.ts'
import { invalidConfig, invalidNetns, messageOf, tryAgain, unavailable } from '#cni/errors.ts'
import { isObject, parseJsonObject } from '#cni/json.ts'
import { decodePrevResult } from '#cni/result/decode.ts'
import type { Result } from '#cni/result.ts'
import { checkFailed } from '../../check-failed.ts'
import { dhcpConf } from '../config.ts'
import { GoneError, netnsAt, openPodLink } from '../io/pod-link.ts'
import { resultOf } from '../result.ts'
import { keyOf } from '../wire/identity.ts'
import type { CallArgs } from '../wire/rpc.ts'
import { Attachment } from './attachment.ts'
import type { Deps } from './deps.ts'
import type { LeaseRecord } from './record.ts'
import { fieldsOf, releaseLeases } from './release.ts'

export interface DaemonOptions extends Deps {
  /** Put before the path of every namespace: where the host's files are for a daemon in a container. */
  readonly hostPrefix: string
  readonly broadcast: boolean
  /** ms that a plugin waits for its leases. */
  readonly patience: number
}

/** Attachments on one node; a kubelet allows 110 pods unless told otherwise. */
const MAX_ATTACHMENTS = 4096
/** Leases that GC gives back at the same time. */
const RELEASES = 16
/** ms between looks for namespaces and interfaces that are gone. */
const SWEEP = 10_000

export class DhcpDaemon implements AsyncDisposable {
  readonly #options: DaemonOptions
  readonly #attachments = new Map<string, Attachment>()
  /** Per attachment, what was asked for last: calls for one attachment run one after the other. */
  readonly #turns = new Map<string, Promise<unknown>>()
  readonly #sweep: Disposable
  #isStopped = false

  private constructor(options: DaemonOptions) {
    this.#options = options
    this.#sweep = options.clock.interval(SWEEP, () => void this.sweep())
  }

  /** Goes on with what the book holds: leases are renewed in time, what was half done is given back. */
  static open(options: DaemonOptions): DhcpDaemon {
    const daemon = new DhcpDaemon(options)
    for (const record of options.book.records.values()) daemon.#restore(record)
    return daemon
  }

  /** Attachments by family that have a lease now. */
  count(family: 4 | 6): number {
    let count = 0
    for (const { leases } of this.#attachments.values())
      if ((family === 4 ? leases.lease4 : leases.lease6) !== undefined) count++
    return count
  }

  #restore(record: LeaseRecord): void {
    const { key, isReleasing, lease4, lease6 } = record
    const isHalf = lease4 === undefined && lease6 === undefined
    if (isReleasing || isHalf) {
      // A plugin that was never answered: whoever started it calls DEL, or ADD again.
      void this.#inTurn(key, async () => {
        await releaseLeases(record, this.#options)
        await this.#options.book.drop(key)
      }).catch((error: unknown) => this.#fail(record, error))
      return
    }
    const attachment = new Attachment(record, this.#options)
    this.#attachments.set(key, attachment)
    if (attachment.goneReason() === undefined || netnsAt(record.netns) === record.netnsId) attachment.resume()
    else void this.#abandon(attachment, `the namespace ${record.netns} is gone`)
  }

  /** ADD: the leases of an attachment, those it has or new ones. Throws CniError 4, 5, 7, 8, 11. */
  async allocate(call: CallArgs, signal: AbortSignal): Promise<Result> {
    const config = this.#configOf(call)
    const conf = dhcpConf(config, parseCniArgs(call.args, true))
    const key = keyOf(call.containerId, config.name, call.ifname)
    return this.#inTurn(key, async () => {
      const netns = `${this.#options.hostPrefix}${call.netns}`
      const known = this.#attachments.get(key)
      if (known !== undefined && netnsAt(netns) !== known.record.netnsId) await this.#end(known)
      const attachment = this.#attachments.get(key) ?? (await this.#begin(call, config, conf, netns, key))
      return this.#await(attachment, signal, attachment !== known)
    })
  }

  async #begin(
    call: CallArgs,
    config: NetConf,
    conf: ReturnType<typeof dhcpConf>,
    netns: string,
    key: string,
  ): Promise<Attachment> {
    const { book, broadcast, failpoint } = this.#options
    if (this.#isStopped) throw tryAgain('the DHCP daemon is stopping', 'the runtime will try again')
    if (this.#attachments.size >= MAX_ATTACHMENTS)
      throw tryAgain(`${this.#attachments.size} attachments have DHCP leases already`, 'GC removes leaked ones')
    const { netnsId, index, mac } = locate(netns, call.ifname)
    const record: LeaseRecord = {
      boot: book.boot,
      key,
      containerId: call.containerId,
      network: config.name,
      ifname: call.ifname,
      netns,
      netnsId,
      index,
      mac,
      requested: [...conf.requested],
      provided: Array.from(conf.provided, ([code, value]) => [code, Buffer.from(value).toString('hex')]),
      priority: conf.priority,
      families: [...conf.families],
      rapidCommit: conf.rapidCommit,
      clientId: conf.clientId,
      broadcast,
      isReleasing: false,
    }
    failpoint('dhcp.discovering')
    const attachment = new Attachment(record, this.#options)
    this.#attachments.set(key, attachment)
    attachment.start()
    return attachment
  }

  async #await(attachment: Attachment, signal: AbortSignal, isNew: boolean): Promise<Result> {
    const { patience } = this.#options
    const limit = AbortSignal.any([signal, AbortSignal.timeout(patience)])
    try {
      const leases = await attachment.complete(limit, `${patience / 1000} s`)
      return resultOf(leases, attachment.record.priority)
    } catch (error) {
      // One that had its leases before may be without for a while, and goes on asking.
      if (isNew) await this.#end(attachment)
      throw error
    }
  }

  /** DEL: true when there was something to release. Throws CniError 4, 6, 7. */
  async release(call: CallArgs): Promise<boolean> {
    const key = keyOf(call.containerId, this.#configOf(call).name, call.ifname)
    return this.#inTurn(key, async () => {
      const attachment = this.#attachments.get(key)
      if (attachment === undefined) return false
      await this.#end(attachment)
      return true
    })
  }

  /** CHECK. Throws CniError 100 where leases and previous result differ. */
  async check(call: CallArgs): Promise<void> {
    const config = this.#configOf(call)
    const key = keyOf(call.containerId, config.name, call.ifname)
    const attachment = this.#attachments.get(key)
    const who = `container ${call.containerId} interface ${call.ifname}`
    if (attachment === undefined) throw checkFailed(`dhcp: ${who} has no lease`)
    if (!attachment.isComplete)
      throw checkFailed(`dhcp: ${who} has lost its lease, and asks for another`, 'is the DHCP server there?')
    const result = decodePrevResult(config.raw, config.cniVersion)
    if (result === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
    const held = new Set(result.ips.map(({ address }) => address))
    for (const { address } of resultOf(attachment.leases, 0).ips) {
      if (!held.has(address))
        throw checkFailed(`dhcp: ${who} has a lease of ${address} now, which the result of ADD does not name`)
    }
  }

  /** STATUS. Throws CniError 50. */
  status(): void {
    if (this.#options.book.isBroken)
      throw unavailable(`leases cannot be written to ${this.#options.book.path}`, 'is the disk full?')
  }

  /** GC: releases what a network's valid attachments do not name. Throws CniError 7 for a list that is none: an empty one means everything. */
  async collect(call: CallArgs): Promise<number> {
    const config = parseNetConf(parseJsonObject(call.stdin, 'the network configuration'))
    const valid = validKeys(config)
    const stale = [...this.#attachments.values()].filter(
      ({ record }) => record.network === config.name && !valid.has(record.key),
    )
    for (let at = 0; at < stale.length; at += RELEASES) {
      const releases = stale.slice(at, at + RELEASES).map(({ record }) =>
        this.#inTurn(record.key, async () => {
          const attachment = this.#attachments.get(record.key)
          if (attachment !== undefined) await this.#end(attachment)
        }),
      )
      await Promise.all(releases)
    }
    return stale.length
  }

  /** Gives up attachments whose pod is gone: nobody can tell the server, whose lease runs out. */
  async sweep(): Promise<void> {
    for (const attachment of this.#attachments.values()) {
      // A turn of the event loop for each: there may be hundreds.
      await new Promise((resolve) => void setImmediate(resolve))
      if (this.#isStopped || this.#turns.has(attachment.record.key)) continue
      try {
        const reason = attachment.goneReason()
        if (reason !== undefined) await this.#abandon(attachment, reason)
      } catch (error) {
        this.#fail(attachment.record, error)
      }
    }
  }

  /** Ends asking and renewing. Leases and pods stay as they are, for whoever comes next. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true
    this.#sweep[Symbol.dispose]()
    await Promise.all([...this.#attachments.values()].map((attachment) => attachment[Symbol.asyncDispose]()))
    await Promise.allSettled(this.#turns.values())
  }

  async #abandon(attachment: Attachment, reason: string): Promise<void> {
    const { record } = attachment
    await this.#inTurn(record.key, async () => {
      if (this.#attachments.get(record.key) !== attachment) return
      for (const family of record.families) this.#options.count('abandoned', family)
      this.#options.log('info', `dhcp: a lease is given up: ${reason}`, fieldsOf(record))
      this.#attachments.delete(record.key)
      await attachment[Symbol.asyncDispose]()
      await this.#options.book.drop(record.key)
    }).catch((error: unknown) => this.#fail(record, error))
  }

  async #end(attachment: Attachment): Promise<void> {
    this.#attachments.delete(attachment.record.key)
    await attachment.release()
  }

  #fail(record: LeaseRecord, error: unknown): void {
    this.#options.log('warn', `dhcp: ${messageOf(error)}`, fieldsOf(record))
  }

  async #inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key)
    const turn = (before ?? Promise.resolve()).then(work, work)
    this.#turns.set(key, turn)
    try {
      return await turn
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key)
    }
  }

  /** Throws CniError 4, 6, 7. */
  #configOf(call: CallArgs): NetConf {
    const wrong = containerIdError(call.containerId) ?? ifnameError(call.ifname)
    if (wrong !== undefined) throw wrong
    return parseNetConf(parseJsonObject(call.stdin, 'the network configuration'))
  }
}

/** Throws CniError 8 for no namespace, 4 for no such interface. */
function locate(netns: string, ifname: string): { netnsId: string; index: number; mac: LeaseRecord['mac'] } {
  try {
    using pod = openPodLink({ netns, ifname })
    const netnsId = netnsAt(netns)
    const { index, mac } = pod.link
    if (netnsId === undefined) throw new GoneError('netns-gone', `${netns} is gone`)
    if (mac === undefined)
      throw invalidConfig(`${ifname} of ${netns} has no MAC address`, 'DHCP needs an Ethernet link')
    return { netnsId, index, mac }
  } catch (error) {
    if (!(error instanceof GoneError)) throw error
    throw invalidNetns(`dhcp: ${error.message}`, 'the interface has to be there before its address is asked for')
  }
}

function validKeys(config: NetConf): ReadonlySet<string> {
  const list = config.raw[validAttachmentsKey]
  if (!Array.isArray(list)) throw invalidConfig(`${validAttachmentsKey} is not a list`, 'nothing was collected')
  const keys = list.map((item: unknown) => {
    const { containerID, ifname } = isObject(item) ? item : {}
    if (typeof containerID !== 'string' || typeof ifname !== 'string')
      throw invalidConfig(`${validAttachmentsKey} names no attachment`, 'nothing was collected')
    return keyOf(containerID, config.name, ifname)
  })
  return new Set(keys)
}
