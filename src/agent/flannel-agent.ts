/** The flannel part of the agent: brings cluster, kernel and disk together, and says how far it has come. */

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'

import { findLink } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { systemClock } from '#sys/clock.ts'
import { keyOf, normal, type Entry } from '#state/entry.ts'
import type { Kernel } from '#state/kernel.ts'
import { Reconciler } from '#state/reconciler.ts'
import { same } from '#state/same.ts'
import type { Identity, Local } from '#flannel/local.ts'
import type { NetConf } from '#flannel/net-conf.ts'
import type { Refusal } from '#flannel/trust.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { openIdentity } from './backend-identity.ts'
import { BACKEND_CHECKS, CHECKS, expectChecks } from './checks.ts'
import { judgeConf } from './conf-change.ts'
import { PATIENCE, readConf, type ReadConf } from './conf-reader.ts'
import type { Datastore } from './datastore.ts'
import { openBackendPart, type BackendPart } from './backend-part.ts'
import { FlannelNetwork } from './flannel-network.ts'
import { FlannelRules } from './flannel-rules.ts'
import type { Health } from './health.ts'
import { errorFields, type Log } from './log.ts'
import { MemoryTrim } from './memory.ts'
import type { ClusterOptions } from './options.ts'
import type { AgentPaths } from './paths.ts'
import { readSnapshot, SnapshotWriter, type Snapshot } from './snapshot.ts'
import { stateHooks } from './state-watch.ts'
import { SubnetFile } from './subnet-file.ts'
import { readUnderlay, UnderlayWatch } from './underlay-watch.ts'

export interface FlannelAgentOptions {
  /** Takes the place of a life with another configuration, and goes on from there. */
  readonly conf?: ReadConf | undefined
  /** The configuration is another now: a life with it should begin. */
  readonly onConf: (conf: ReadConf) => void
  readonly cluster: ClusterOptions
  readonly paths: AgentPaths
  /** Ends with the agent. */
  readonly datastore: Datastore
  readonly kernel: Kernel
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
}

const TICK = 500

/** Settings that make a device more distrustful. In a container that is not privileged nobody can write them, and packets flow without. */
const isHardening = (entry: Entry): boolean => entry.kind === 'sysctl' && !/forward(ing)?$/.test(entry.key)

export class FlannelAgent implements AsyncDisposable {
  readonly #options: FlannelAgentOptions
  readonly #abort = new AbortController()
  readonly #stack = new AsyncDisposableStack()
  readonly #reconciler: Reconciler
  readonly #file: SubnetFile
  readonly #done: Promise<void>
  /** Own addresses that connections may be bound to. */
  #addresses = ''
  #read: ReadConf | undefined
  #network: FlannelNetwork | undefined
  #rules: FlannelRules | undefined
  #part: BackendPart | undefined
  #snapshots: SnapshotWriter | undefined
  /** A list was told that need not be doubted. */
  #isListed = false
  #refusal: string | undefined
  #checking = false
  #checkAgain = false

  constructor(options: FlannelAgentOptions) {
    this.#options = options
    const { health, metrics, log, kernel, paths, datastore } = options
    if (options.conf === undefined) expectChecks(health, datastore.checks)
    else for (const name of BACKEND_CHECKS) health.drop(name)
    this.#file = new SubnetFile(paths.subnetFile)
    this.#reconciler = this.#stack.use(
      Reconciler.open({ kernel, clock: systemClock, ...stateHooks(metrics, log, () => this.#check()) }),
    )
    this.#stack.use(metrics.registry.onCollect(() => this.#collect()))
    const memory = new MemoryTrim()
    const tick = setInterval(() => {
      this.#check()
      // Reading a large cluster leaves much behind; while it is still being programmed there are better things to do.
      if (health.isPassing(CHECKS.path)) memory.maybe()
    }, TICK)
    this.#stack.defer(() => clearInterval(tick))
    this.#done = this.#run().catch((error: unknown) => {
      if (!this.#abort.signal.aborted)
        log.error(errorFields(error), 'the flannel part has ended; this is a mistake in Heddle itself')
    })
  }

  /** What the node should hold and holds; for the command line and tests. */
  get reconciler(): Reconciler {
    return this.#reconciler
  }

  get network(): FlannelNetwork | undefined {
    return this.#network
  }

  /** Ends watching and writing. The data path stays as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#done
    await this.#options.datastore[Symbol.asyncDispose]()
    await this.#stack.disposeAsync()
  }

  async #run(): Promise<void> {
    const { cluster, paths, health, log, datastore } = this.#options
    const snapshot = await readSnapshot(paths.snapshot, cluster.node, log)
    const read =
      this.#options.conf ??
      (await readConf({
        read: (signal) => datastore.netConf(signal),
        allowExtension: cluster.allowExtension,
        lastKnown: snapshot?.netConf,
        health,
        log,
        signal: this.#abort.signal,
      }))
    this.#read = read
    const { conf } = read
    const socket = this.#stack.use(NetlinkSocket.open())
    const identity = await openIdentity(
      {
        conf,
        metrics: this.#options.metrics,
        journal: paths.extension,
        places: { named: cluster.wireguardKeyFile, own: paths.wireguardKey, flannel: paths.flannelWireguardKey },
        health,
        log,
        signal: this.#abort.signal,
      },
      this.#stack,
    )
    this.#part = await openBackendPart(this.#options, conf.backend, this.#stack)
    const network = this.#openNetwork(conf, snapshot, identity, (name) => findLink(socket, name)?.mac)
    this.#followUnderlay(socket, network, conf)
    this.#followNodes(network, conf, snapshot)
    await datastore.synced(PATIENCE)
    if (!this.#isListed && snapshot !== undefined && !this.#abort.signal.aborted) {
      log.warn({ nodes: snapshot.nodes.length }, 'the datastore does not list the nodes: using the last-known cluster')
      const known = new Set([...network.views()].map(({ name }) => name))
      network.setNodes([...network.views(), ...snapshot.nodes.filter(({ name }) => !known.has(name))], false)
      this.#check()
    }
  }

  #openNetwork(
    conf: NetConf,
    snapshot: Snapshot | undefined,
    identity: Identity | undefined,
    deviceMac: (name: string) => string | undefined,
  ): FlannelNetwork {
    const { cluster, metrics, log, paths, datastore } = this.#options
    const resyncMs = cluster.iptablesResync * 1000
    const onChange = (): void => this.#check()
    const rules = this.#stack.use(new FlannelRules({ mode: conf.rules, resyncMs, metrics, log, onChange }))
    this.#rules = rules
    const network = new FlannelNetwork({
      node: cluster.node,
      absent: datastore.absent,
      conf,
      wish: cluster.wish,
      ipMasq: cluster.ipMasq,
      randomFully: cluster.randomFully,
      forwardRules: cluster.forwardRules,
      blackhole: cluster.blackhole,
      rules: rules.mode,
      kernelHasIpv6: existsSync('/proc/sys/net/ipv6'),
      recordedMacs: snapshot?.macs ?? {},
      identity,
      deviceMac,
      random: () => randomBytes(6),
      state: this.#reconciler,
      log,
      onLease: (...word) => this.#part?.setPeer(...word),
      onLocal: (local) => this.#onLocal(local),
      onRefusal: (refusal) => this.#onRefusal(refusal),
    })
    this.#network = network
    this.#snapshots = this.#stack.use(
      new SnapshotWriter(
        paths.snapshot,
        cluster.node,
        () => {
          const { mark } = datastore
          const nodes = [...network.views()]
          return { netConf: this.#read?.text ?? '', macs: network.macs, nodes, ...(mark === undefined ? {} : { mark }) }
        },
        log,
      ),
    )
    return network
  }

  #followUnderlay(socket: NetlinkSocket, network: FlannelNetwork, conf: NetConf): void {
    const { log } = this.#options
    const pods = Object.values(conf.network)
    const read = (): void => {
      try {
        network.setUnderlay(readUnderlay(socket, pods))
      } catch (error) {
        log.warn(errorFields(error), 'the interfaces cannot be read; trying again with the next change')
      }
      this.#check()
    }
    this.#stack.use(
      new UnderlayWatch({
        interest: () => ({
          devices: network.missing.length === 0 ? network.underlayDevices : new Set(),
          podNetworks: pods,
        }),
        nameOf: (index) => network.linkName(index),
        changed: read,
        onError: (error) => log.error(errorFields(error), 'changes of interfaces are not heard of any more'),
      }),
    )
    read()
  }

  #followNodes(network: FlannelNetwork, conf: NetConf, snapshot: Snapshot | undefined): void {
    const changed = (): void => this.#snapshots?.changed()
    this.#options.datastore.follow(
      conf,
      {
        list: (views, trustworthy) => {
          network.setNodes(views, trustworthy)
          this.#isListed ||= trustworthy
          changed()
          this.#check()
        },
        node: (view) => {
          network.setNode(view)
          changed()
        },
        gone: (name) => {
          network.removeNode(name)
          changed()
        },
        conf: (text) => this.#hearConf(text, network),
        preview: (view) => network.preview(view),
      },
      snapshot ?? { nodes: [] },
    )
  }

  /** Asks for a life with a changed configuration, or says why it goes on with the one it has. */
  #hearConf(text: string, network: FlannelNetwork): void {
    const { cluster, health, log, metrics, datastore, onConf } = this.#options
    if (this.#read === undefined || this.#abort.signal.aborted) return
    const change = judgeConf(text, {
      ...this.#read,
      allowExtension: cluster.allowExtension,
      objection: (conf) => network.objection(conf) ?? datastore.objection(conf),
    })
    const why = change.is === 'refused' ? change.why : undefined
    if (why === undefined) health.pass(CHECKS.change)
    else health.fail(CHECKS.change, `${why}; the former configuration stays in use`)
    datastore.tell(why)
    if (why !== this.#refusal && why !== undefined) {
      log.error(
        { reason: why },
        'the network configuration has changed and cannot be used: the former one stays in use',
      )
      metrics.confChanges.add({ outcome: 'refused' })
    }
    this.#refusal = why
    if (change.is !== 'follow') return
    log.info({ backend: change.read.conf.backend.type }, 'the network configuration has changed: going on with it')
    metrics.confChanges.add({ outcome: 'followed' })
    onConf(change.read)
  }

  #onLocal(local: Local): void {
    this.#options.log.info({ ipv4: local[4], ipv6: local[6], backend: local.backend.type }, 'this node')
    this.#rules?.setLocal(local)
    this.#part?.setLocal(local)
    const addresses = `${local[4]?.address} ${local[6]?.address}`
    if (this.#addresses !== '' && this.#addresses !== addresses) this.#options.datastore.reconnect()
    this.#addresses = addresses
    this.#check()
  }

  #onRefusal({ node, code, message }: Refusal): void {
    this.#options.metrics.refusals.add({ reason: code })
    this.#options.log.warn({ node, reason: code }, message)
  }

  /** Looks how far things are and does what can be done now. Cheap; called often. */
  #check(): void {
    if (this.#checking) {
      this.#checkAgain = true
      return
    }
    this.#checking = true
    void this.#settle()
      .catch((error: unknown) => this.#options.log.error(errorFields(error), 'a step failed; trying again'))
      .finally(() => {
        this.#checking = false
        if (this.#checkAgain && !this.#abort.signal.aborted) {
          this.#checkAgain = false
          this.#check()
        }
      })
  }

  async #settle(): Promise<void> {
    const { health, metrics, log, paths } = this.#options
    this.#reportApi()
    const failing = this.#reconciler.failing
    if (failing > 0) health.fail(CHECKS.state, `${failing} entries could not be put right yet`)
    else {
      health.pass(CHECKS.state)
      metrics.reconcileSuccess.set(Math.round(Date.now() / 1000))
    }
    const network = this.#network
    if (network === undefined) return
    if (network.missing.length > 0) health.fail(CHECKS.node, network.missing.join('; '))
    else health.pass(CHECKS.node)
    const { local } = network
    if (local === undefined) return
    const lacking = this.#absent(network, local) ?? this.#rules?.absent
    const absent = lacking === undefined ? this.#part?.absent : `not in the kernel: ${lacking}`
    // What a former configuration left serves until the present one does.
    const mayGo = this.#options.conf === undefined ? this.#rules?.absent === undefined : absent === undefined
    if (this.#isListed && network.missing.length === 0 && mayGo) {
      this.#reconciler.removeLeftovers()
      this.#part?.removeLeftovers()
    }

    if (absent !== undefined) {
      health.fail(CHECKS.path, absent)
      if (await this.#file.removeIfStale(local)) {
        log.warn({ path: paths.subnetFile }, 'removed a subnet file that named another subnet')
        health.fail(CHECKS.file, 'named another subnet')
      }
      return
    }
    health.pass(CHECKS.path)
    this.#rules?.removeOthers()
    this.#options.datastore.publish(local, network.backend)
    if (network.missing.length === 0) await this.#writeFile(network, local)
  }

  /** The first entry of this node's own that the kernel does not hold as wanted. */
  #absent(network: FlannelNetwork, local: Local): string | undefined {
    return network
      .ownPlan(local)
      .map(({ entry }) => normal(entry))
      .filter((entry) => !isHardening(entry))
      .filter((entry) => {
        const seen = this.#reconciler.seen.get(keyOf(entry))
        return seen === undefined || !same(entry, seen)
      })
      .map(keyOf)[0]
  }

  async #writeFile(network: FlannelNetwork, local: Local): Promise<void> {
    const { health, log, paths } = this.#options
    try {
      if (await this.#file.write(local, network.backend.mtu(local)))
        log.info({ path: paths.subnetFile }, 'wrote the subnet file: pods can be made')
      health.pass(CHECKS.file)
    } catch (error) {
      const { error: message } = errorFields(error)
      health.fail(CHECKS.file, message)
    }
  }

  #reportApi(): void {
    const { health, metrics, datastore } = this.#options
    const { checks, trouble, unpublished } = datastore
    if (trouble === undefined) health.pass(checks.reached)
    else health.fail(checks.reached, trouble)
    metrics.apiReachable.set(trouble === undefined ? 1 : 0)
    if (unpublished === undefined) health.pass(checks.published)
    else health.fail(checks.published, unpublished)
  }

  #collect(): void {
    const { metrics } = this.#options
    const table = this.#network?.table
    metrics.peers.set(table === undefined ? 0 : [...table.leases()].length)
    const reasons = new Map<string, number>()
    for (const { code } of table?.refusals() ?? []) reasons.set(code, (reasons.get(code) ?? 0) + 1)
    metrics.peersRefused.clear()
    for (const [reason, count] of reasons) metrics.peersRefused.set(count, { reason })
    metrics.entries.set(this.#reconciler.wanted.size)
    metrics.sources.set([...this.#reconciler.sources()].length)
  }
}
