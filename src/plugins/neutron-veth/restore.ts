/**
 * Puts back what the kernel or somebody else took from the pods of neutron-veth: a card that goes down, or loses its carrier, loses its proxy neighbours, and nobody is told
 * of it. The records say which there should be.
 */

import { statSync } from 'node:fs'

import type { HostBase } from '#cni/runtime/delegate.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { findLink } from '#netlink/link.ts'
import { listNeighs } from '#netlink/neigh.ts'
import { listRoutes } from '#netlink/route.ts'
import { findVeth } from '../link/veth.ts'
import { hostRoute } from '../link/leg.ts'
import { folderOf, listRecords, type LinkRecord } from '../link/record.ts'
import { announceOnce } from './announce.ts'
import { lockShared, putProxies, readyCard, TYPE } from './proxies.ts'

interface Wanted {
  readonly card: string
  readonly ip: IpText
  readonly record: LinkRecord
}

const wantedBy = (records: readonly LinkRecord[]): readonly Wanted[] =>
  records.flatMap((record) =>
    (record.proxied?.ips ?? []).map((ip) => ({ card: record.proxied?.card ?? '', ip, record })),
  )

/** Looks for what is missing; cheap as long as no pod comes or goes and nothing is. */
export class ProxyRestorer {
  readonly #host: HostBase
  #changed: bigint | undefined
  #wanted: readonly Wanted[] = []

  constructor(host: HostBase) {
    this.#host = host
  }

  /** The addresses that a card answers for again. Throws what the kernel says, CniError 11 where an ADD keeps the lock. */
  async restore(): Promise<readonly IpText[]> {
    this.#read()
    if (this.#wanted.length === 0 || this.#missing(this.#wanted).length === 0) return []
    using _lock = await lockShared(this.#host)
    // Under the lock: a DEL has removed its record before it lets go.
    this.#changed = undefined
    this.#read()
    const missing = this.#missing(this.#wanted).filter((one) => this.#isHere(one))
    for (const [card, some] of Map.groupBy(missing, (one) => one.card)) this.#put(card, some)
    return missing.map(({ ip }) => ip)
  }

  #put(name: string, some: readonly Wanted[]): void {
    const card = findLink(this.#host.netlink, name)
    if (card === undefined) return
    const ips = some.map(({ ip }) => ip)
    readyCard(this.#host, name, new Set(ips.map((ip) => familyOf(ip))))
    putProxies(this.#host, card, ips)
    announceOnce(this.#host, name, ips)
  }

  /** The folder's time changes when a record comes or goes. */
  #read(): void {
    const changed = statSync(folderOf(this.#host), { bigint: true, throwIfNoEntry: false })?.mtimeNs
    if (changed === this.#changed && changed !== undefined) return
    this.#wanted = changed === undefined ? [] : wantedBy(listRecords(this.#host, TYPE))
    this.#changed = changed
  }

  /** Of cards that are there and up: others answer for nobody. */
  #missing(wanted: readonly Wanted[]): readonly Wanted[] {
    const { netlink } = this.#host
    const seen = new Set(listNeighs(netlink, { proxy: true }).map(({ index, ip }) => `${index} ${ip}`))
    const cards = new Map([...new Set(wanted.map(({ card }) => card))].map((name) => [name, findLink(netlink, name)]))
    return wanted.filter(({ card, ip }) => {
      const link = cards.get(card)
      return link?.up === true && !seen.has(`${link.index} ${ip}`)
    })
  }

  /** Its leg still leads to the pod: not one whose namespace went before its DEL. */
  #isHere({ ip, record }: Wanted): boolean {
    const { netlink } = this.#host
    const leg = findVeth(netlink, record.network, record)
    return leg !== undefined && listRoutes(netlink, { oif: leg.index }).some(({ dst }) => dst === hostRoute(ip))
  }
}
