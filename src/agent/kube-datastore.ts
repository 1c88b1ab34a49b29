/** Kubernetes as the datastore: Nodes with podCIDRs and annotations, the network configuration in a file or a ConfigMap. */

import { existsSync } from 'node:fs'

import type { KubeClient } from '#kube/client.ts'
import type { Backend } from '#flannel/backend/backend.ts'
import type { Local } from '#flannel/local.ts'
import type { NetConf } from '#flannel/net-conf.ts'
import type { NodeView } from '#flannel/node-view.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { CHECKS } from './checks.ts'
import { nodeStatusApi, readNetConf } from './cluster.ts'
import { ConfPoll } from './conf-poll.ts'
import type { Datastore, NodeSink } from './datastore.ts'
import { errorFields, type Log } from './log.ts'
import { NodeWatch } from './node-watch.ts'
import type { ClusterOptions, KubeOptions } from './options.ts'
import { OwnNode } from './own-node.ts'

export interface KubeDatastoreOptions {
  readonly cluster: ClusterOptions
  readonly kube: KubeOptions
  /** Opens connections to the API server, anew after the node's address has changed. */
  readonly connect: () => KubeClient
  readonly metrics: AgentMetrics
  readonly log: Log
}

/** Between two looks at the network configuration (ms): a file costs nothing, and thousands of nodes ask one API server. */
const LOOK = { file: 5_000, api: 60_000 }

export class KubeDatastore implements Datastore {
  readonly checks = { reached: CHECKS.api, published: CHECKS.published }
  readonly mark = undefined
  readonly absent: string
  readonly #options: KubeDatastoreOptions
  readonly #abort = new AbortController()
  readonly #own: OwnNode
  #client: KubeClient
  #nodes: NodeWatch | undefined
  #sink: NodeSink | undefined
  #poll: ConfPoll | undefined

  constructor(options: KubeDatastoreOptions) {
    const { cluster, kube, metrics, log } = options
    this.#options = options
    this.absent = `there is no Node named ${JSON.stringify(cluster.node)} yet: --node-name must be the name that kubelet registers`
    this.#client = options.connect()
    this.#own = new OwnNode({
      node: cluster.node,
      api: nodeStatusApi(() => this.#client),
      keys: kube.keys,
      log,
      setNetworkUnavailable: kube.setNetworkUnavailable,
      onPatch: (outcome) => metrics.annotationPatches.add({ outcome }),
    })
  }

  netConf(signal: AbortSignal): Promise<string> {
    return readNetConf(this.#options.kube.netConf, this.#client, signal)
  }

  follow(_conf: NetConf, sink: NodeSink): void {
    this.#sink = sink
    this.#follow(sink)
    const { kube, log } = this.#options
    this.#poll = new ConfPoll({
      read: (signal) => this.netConf(signal),
      pause: kube.netConf.from !== 'configmap' && existsSync(kube.netConf.path) ? LOOK.file : LOOK.api,
      clock: systemClock,
      random: Math.random,
      onText: (text) => sink.conf(text),
      onError: (error) => log.debug(errorFields(error), 'the network configuration cannot be read at the moment'),
    })
  }

  /** Subnets are the controller manager's. */
  objection(): undefined {
    return undefined
  }

  tell(trouble: string | undefined): void {
    this.#own.tell(trouble)
  }

  synced(ms: number): Promise<boolean> {
    return this.#nodes === undefined ? Promise.resolve(false) : this.#nodes.synced(ms)
  }

  publish(local: Local, backend: Backend): void {
    this.#own.publish(local, backend)
  }

  reconnect(): void {
    const { log, connect } = this.#options
    if (this.#nodes === undefined || this.#sink === undefined) return
    log.info({}, 'the address of this node has changed: connecting to the API server anew')
    this.#nodes[Symbol.dispose]()
    this.#client[Symbol.dispose]()
    this.#client = connect()
    this.#follow(this.#sink)
  }

  get trouble(): string | undefined {
    return this.#nodes === undefined ? 'not asked yet' : this.#nodes.trouble
  }

  get unpublished(): string | undefined {
    return this.#own.isPublished ? undefined : 'our Node does not say yet what peers need to know'
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    await this.#poll?.[Symbol.asyncDispose]()
    await this.#own[Symbol.asyncDispose]()
    this.#nodes?.[Symbol.dispose]()
    this.#client[Symbol.dispose]()
  }

  #follow(sink: NodeSink): void {
    const { cluster, kube, metrics, log } = this.#options
    const isOwn = (view: NodeView): boolean => view.name === cluster.node
    this.#nodes = new NodeWatch({
      client: this.#client,
      node: cluster.node,
      keys: kube.keys,
      log,
      signal: this.#abort.signal,
      onList: (views, trustworthy) => {
        sink.list(views, trustworthy)
        const own = views.find(isOwn)
        if (own !== undefined) this.#own.seen(own)
      },
      onNode: (view) => {
        sink.node(view)
        if (isOwn(view)) this.#own.seen(view)
      },
      onGone: (name) => sink.gone(name),
      onFailure: () => metrics.informerRestarts.add({ resource: 'nodes' }),
    })
  }
}
