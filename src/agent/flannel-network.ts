/**
 * The pod network of this node: takes what Kubernetes and the kernel say, keeps the plans of this node and of each peer in the
 * wanted state. Does no I/O and waits for nothing.
 */

import type { Family } from '#ip/address.ts'
import type { MacText } from '#ip/text.ts'
import type { Desired } from '#state/entry.ts'
import type { Backend } from '#flannel/backend/backend.ts'
import { backendOf } from '#flannel/backend/registry.ts'
import { askedIp, compose, type Composed } from '#flannel/compose.ts'
import { FlannelError } from '#flannel/errors.ts'
import { hostPlan } from '#flannel/host.ts'
import type { Lease } from '#flannel/lease.ts'
import type { Identity, Local } from '#flannel/local.ts'
import { chooseMac } from '#flannel/mac.ts'
import { masqueradePlan } from '#flannel/masquerade.ts'
import { familiesOf, type NetConf, type RulesMode } from '#flannel/net-conf.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { PeerTable, type PeerChanges } from '#flannel/peer-table.ts'
import { chooseUnderlay, type ChosenUnderlay, type UnderlayFacts, type UnderlayWish } from '#flannel/underlay.ts'
import type { Refusal } from '#flannel/trust.ts'
import type { Log } from './log.ts'

/** Where plans go; the reconciler is one. */
export interface StateSink {
  set(source: string, entries: readonly Desired[]): void
  remove(source: string): void
}

export interface FlannelNetworkOptions {
  readonly node: string
  /** Said while the datastore does not know this node. */
  readonly absent: string
  readonly conf: NetConf
  readonly wish: UnderlayWish
  readonly ipMasq: boolean
  readonly randomFully: boolean
  readonly forwardRules: boolean
  readonly blackhole: boolean
  /** With iptables masquerade and forwarding are not among the plans. */
  readonly rules: RulesMode
  readonly kernelHasIpv6: boolean
  /** For backends that have one. */
  readonly identity?: Identity | undefined
  /** MACs recorded on disk in a former life. */
  readonly recordedMacs: { readonly [family in Family]?: string }
  /** The MAC of an existing device. */
  readonly deviceMac: (name: string) => string | undefined
  readonly random: () => Uint8Array
  readonly state: StateSink
  readonly log: Log
  /** This node is other than before: annotations and subnet.env follow once `devicePlan` is in the kernel. */
  readonly onLocal: (local: Local) => void
  readonly onRefusal: (refusal: Refusal) => void
  /** A peer's lease is other than before; undefined when it ended. */
  readonly onLease?: ((node: string, lease: Lease | undefined, local: Local) => void) | undefined
}

const SOURCES = { host: 'flannel/host', device: 'flannel/device', masquerade: 'flannel/masquerade' } as const
const peerSource = (node: string): string => `flannel/peer/${node}`

export class FlannelNetwork {
  readonly backend: Backend
  readonly #options: FlannelNetworkOptions
  readonly #underlay: { 4?: ChosenUnderlay; 6?: ChosenUnderlay } = {}
  readonly #macs: { 4?: MacText; 6?: MacText } = {}
  readonly #planned = new Set<string>()
  /** Peers that were heard of before this node was complete. */
  readonly #early = new Map<string, NodeView>()
  #facts: UnderlayFacts | undefined
  #own: NodeView | undefined
  #local: Local | undefined
  #localText = ''
  #table: PeerTable | undefined
  #missing: readonly string[] = ['the interfaces have not been read yet']

  constructor(options: FlannelNetworkOptions) {
    this.#options = options
    this.backend = backendOf(options.conf.backend)
  }

  get local(): Local | undefined {
    return this.#local
  }

  /** To be recorded, so that they outlive device and Node. */
  get macs(): { readonly [family in Family]?: MacText } {
    return this.#macs
  }

  /** What keeps a family from being complete. */
  get missing(): readonly string[] {
    return this.#missing
  }

  get table(): PeerTable | undefined {
    return this.#table
  }

  /** Interfaces between nodes; empty unless each family has one. */
  get underlayDevices(): ReadonlySet<string> {
    const chosen = familiesOf(this.#options.conf).map((family) => this.#underlay[family]?.underlay.dev)
    return new Set(chosen.every((dev) => dev !== undefined) ? chosen : [])
  }

  /** The name of a link, as of the last reading of the interfaces. */
  linkName(index: number): string | undefined {
    return this.#facts?.links.find((link) => link.index === index)?.name
  }

  /** Everything that the node itself needs, peers apart. */
  ownPlan(local: Local): Desired[] {
    return [...hostPlan(local), ...this.#rulesPlan(local), ...this.backend.devicePlan(local)]
  }

  #rulesPlan(local: Local): Desired[] {
    return this.#options.rules === 'nftables' ? masqueradePlan(local) : []
  }

  /** All nodes that are known, the own one included. */
  *views(): Generator<NodeView> {
    if (this.#own !== undefined) yield this.#own
    yield* this.#table?.views() ?? this.#early.values()
  }

  /** Interfaces, addresses or routes changed. */
  setUnderlay(facts: UnderlayFacts): void {
    this.#facts = facts
    this.#recompose()
  }

  /** A Node appeared or changed. */
  setNode(view: NodeView): void {
    if (view.name === this.#options.node) this.#setOwn(view)
    else if (this.#table === undefined) this.#early.set(view.name, view)
    else this.#apply(this.#table.update(view))
  }

  /** A Node was deleted. The own one is kept as it was: whoever deletes it by mistake shall not cut off its pods. */
  removeNode(name: string): void {
    if (name === this.#options.node) {
      this.#options.log.warn(
        { node: name },
        'our own Node was deleted: everything is kept as it is until it is there again',
      )
      return
    }
    this.#early.delete(name)
    if (this.#table !== undefined) this.#apply(this.#table.remove(name))
  }

  /** A whole list. Peers that it lacks go only when it can be trusted. */
  setNodes(views: readonly NodeView[], trustworthy: boolean): void {
    const own = views.find(({ name }) => name === this.#options.node)
    if (own !== undefined) this.#setOwn(own)
    const names = new Set(views.map(({ name }) => name))
    const kept = trustworthy ? [] : [...this.#peerViews()].filter(({ name }) => !names.has(name))
    const peers = [...views.filter(({ name }) => name !== this.#options.node), ...kept]
    if (this.#table !== undefined) return this.#apply(this.#table.replace(peers))
    this.#early.clear()
    for (const view of peers) this.#early.set(view.name, view)
  }

  #peerViews(): Iterable<NodeView> {
    return this.#table?.views() ?? this.#early.values()
  }

  #setOwn(view: NodeView): void {
    this.#own = view
    this.#recompose()
  }

  #recompose(): void {
    const node = this.#own
    const facts = this.#facts
    if (facts === undefined) return
    const { conf } = this.#options
    const unchosen: string[] = []
    for (const family of familiesOf(conf)) {
      const why = this.#choose(facts, family)
      if (why !== undefined) unchosen.push(why)
    }
    if (node === undefined) {
      this.#missing = [this.#options.absent, ...unchosen]
      return
    }
    const { local, missing } = this.#composed(node)
    this.#missing = [...missing, ...unchosen]
    if (local !== undefined) this.#settle(local)
  }

  /** This node as it would be with such a view of it, or why that cannot be said yet. Chooses MACs, and changes nothing else. */
  preview(view: NodeView): Local | string {
    const { local, missing } = this.#composed(view)
    return local === undefined || missing.length > 0 ? missing.join('; ') : local
  }

  /** Why this node could not be served with another configuration; undefined when it could. Changes nothing. */
  objection(conf: NetConf): string | undefined {
    const { wish } = this.#options
    const node = this.#own
    const facts = this.#facts
    if (node === undefined || facts === undefined) return 'this node is not complete yet'
    const underlay: { 4?: ChosenUnderlay; 6?: ChosenUnderlay } = {}
    try {
      for (const family of familiesOf(conf))
        underlay[family] = chooseUnderlay(facts, this.#wishFor(wish, family), family, this.#underlay[family])
    } catch (error) {
      if (error instanceof FlannelError) return error.message
      throw error
    }
    const parts = { node, conf, underlay, publicIps: wish.publicIps, macs: this.#macs }
    const { ipMasq, randomFully, forwardRules, blackhole, kernelHasIpv6 } = this.#options
    return compose({ ...parts, ipMasq, randomFully, forwardRules, blackhole, kernelHasIpv6 }).missing[0]
  }

  #composed(node: NodeView): Composed {
    const { conf, wish, ipMasq, randomFully, forwardRules, blackhole, kernelHasIpv6, identity } = this.#options
    for (const family of familiesOf(conf)) this.#chooseMac(node, family)
    return compose(
      {
        node,
        conf,
        underlay: this.#underlay,
        publicIps: wish.publicIps,
        macs: this.#macs,
        ipMasq,
        randomFully,
        forwardRules,
        blackhole,
        kernelHasIpv6,
        identity,
      },
      this.#local,
    )
  }

  /** Returns why there is nothing to choose; what was chosen before stays then. */
  #choose(facts: UnderlayFacts, family: Family): string | undefined {
    const { wish } = this.#options
    try {
      this.#underlay[family] = chooseUnderlay(facts, this.#wishFor(wish, family), family, this.#underlay[family])
      return undefined
    } catch (error) {
      if (error instanceof FlannelError) return error.message
      throw error
    }
  }

  /** With the address that an operator's annotation asks for. */
  #wishFor(wish: UnderlayWish, family: Family): UnderlayWish {
    const asked = this.#own === undefined ? undefined : askedIp(this.#own, family)
    return asked === undefined ? wish : { ...wish, publicIps: { ...wish.publicIps, [family]: asked } }
  }

  /** Once for all: peers rely on it. */
  #chooseMac(node: NodeView, family: Family): void {
    const device = this.backend.deviceName(family)
    if (device === undefined || this.#macs[family] !== undefined) return
    const { recordedMacs, deviceMac, random } = this.#options
    const annotation = family === 4 ? node.annotations.backendData : node.annotations.backendV6Data
    this.#macs[family] = chooseMac(annotation, recordedMacs[family], deviceMac(device), random)
  }

  #settle(local: Local): void {
    const text = JSON.stringify(local)
    if (text === this.#localText) return
    this.#localText = text
    this.#local = local
    const { state } = this.#options
    state.set(SOURCES.host, hostPlan(local))
    state.set(SOURCES.masquerade, this.#rulesPlan(local))
    state.set(SOURCES.device, this.backend.devicePlan(local))
    if (this.#table === undefined) {
      this.#table = new PeerTable(local, this.backend)
      this.#apply(this.#table.replace(this.#early.values()))
      this.#early.clear()
    } else {
      const { refused } = this.#table.rebase(local, this.backend)
      this.#report(refused)
      this.#planAll(this.#table)
    }
    this.#options.onLocal(local)
  }

  #apply({ leases, refused }: PeerChanges): void {
    const local = this.#local
    this.#report(refused)
    if (local === undefined) return
    // What is given up goes first: another peer may want the same subnet now.
    for (const [name, lease] of leases) if (lease === undefined) this.#unplan(name, local)
    for (const [name, lease] of leases) {
      if (lease === undefined) continue
      this.#planned.add(name)
      this.#options.state.set(peerSource(name), this.backend.peerPlan(local, lease))
      this.#options.onLease?.(name, lease, local)
    }
  }

  /** After a change of this node every plan may be another, whether or not the lease is. */
  #planAll(table: PeerTable): void {
    const leases = new Map([...table.leases()].map((lease) => [lease.node, lease]))
    const gone = [...this.#planned].filter((name) => !leases.has(name)).map((name) => [name, undefined] as const)
    this.#apply({ leases: new Map([...gone, ...leases]), refused: [] })
  }

  #unplan(name: string, local: Local): void {
    this.#planned.delete(name)
    this.#options.state.remove(peerSource(name))
    this.#options.onLease?.(name, undefined, local)
  }

  #report(refused: readonly Refusal[]): void {
    for (const refusal of refused) this.#options.onRefusal(refusal)
  }
}
