/** Pods and Nodes as the API server tells them, and how far that can be believed. */

import type { KubeClient } from '#kube/client.ts'
import { startInformer, type Informer, type InformerEvent } from '#kube/informer.ts'
import { nodes, pods } from '#kube/resources.ts'
import { nodeView, type NodeView } from '#neutron/node-view.ts'
import { podView, type PodView } from '#neutron/pod-view.ts'
import type { Log } from '#agent/log.ts'
import type { Node, Pod } from 'kubernetes-types/core/v1.js'

/** What is other than it was; undefined: it was not there, or is gone. */
export type Change =
  | { readonly resource: 'pods'; readonly now: PodView | undefined; readonly before: PodView | undefined }
  | { readonly resource: 'nodes'; readonly now: NodeView | undefined; readonly before: NodeView | undefined }

export interface ClusterViewOptions {
  readonly client: KubeClient
  readonly log: Log
  readonly onChange: (change: Change) => void
  /** A whole list is in: doubts may have ended. */
  readonly onSynced: () => void
  readonly onFailure: (resource: 'pods' | 'nodes') => void
}

/** Pods that were seen to end are remembered: the newest. */
const MAX_ENDED = 20_000

export class ClusterView implements Disposable {
  readonly #options: ClusterViewOptions
  readonly #pods: Informer<Pod, PodView>
  readonly #nodes: Informer<Node, NodeView>
  readonly #ended = new Set<string>()
  /** There were some in this life: if there are none now, we saw them go. */
  #hadPods = false
  #hadNodes = false

  constructor(options: ClusterViewOptions) {
    this.#options = options
    const { client } = options
    this.#pods = startInformer({
      client,
      resource: pods,
      transform: podView,
      on: (event) => this.#hear('pods', event, (now, before) => this.#podChanged(now, before)),
    })
    this.#nodes = startInformer({
      client,
      resource: nodes,
      transform: nodeView,
      on: (event) => this.#hear('nodes', event, (now, before) => this.#nodeChanged(now, before)),
    })
  }

  /** True when both were listed in time (ms). */
  async synced(ms: number): Promise<boolean> {
    const [podsIn, nodesIn] = await Promise.all([this.#pods.synced(ms), this.#nodes.synced(ms)])
    return podsIn && nodesIn
  }

  get pods(): readonly PodView[] {
    return [...this.#pods.entries()].map(([, pod]) => pod)
  }

  get nodes(): ReadonlyMap<string, NodeView> {
    return new Map(this.#nodes.entries())
  }

  /** UIDs of pods that ended while we looked. */
  get ended(): ReadonlySet<string> {
    return this.#ended
  }

  /** Why what is not there may be there all the same; undefined: what is not there is gone. */
  get doubt(): string | undefined {
    return doubtOf('Pods', this.#pods, this.#hadPods) ?? this.nodesDoubt
  }

  /** The same of Nodes alone. */
  get nodesDoubt(): string | undefined {
    return doubtOf('Nodes', this.#nodes, this.#hadNodes)
  }

  [Symbol.dispose](): void {
    this.#pods[Symbol.dispose]()
    this.#nodes[Symbol.dispose]()
  }

  #podChanged(now: PodView | undefined, before: PodView | undefined): void {
    if (now !== undefined) this.#hadPods = true
    if (before !== undefined && before.uid !== now?.uid) {
      this.#ended.add(before.uid)
      const [oldest] = this.#ended
      if (this.#ended.size > MAX_ENDED && oldest !== undefined) this.#ended.delete(oldest)
    }
    this.#options.onChange({ resource: 'pods', now, before })
  }

  #nodeChanged(now: NodeView | undefined, before: NodeView | undefined): void {
    if (now !== undefined) this.#hadNodes = true
    this.#options.onChange({ resource: 'nodes', now, before })
  }

  #hear<S>(
    resource: 'pods' | 'nodes',
    event: InformerEvent<S>,
    onChange: (now: S | undefined, before: S | undefined) => void,
  ): void {
    const { log, onFailure, onSynced } = this.#options
    switch (event.type) {
      case 'added':
        onChange(event.object, undefined)
        return
      case 'updated':
        onChange(event.object, event.previous)
        return
      case 'deleted':
        if (!event.suspicious) onChange(undefined, event.previous)
        return
      case 'synced':
        onSynced()
        return
      case 'rejected':
        log.warn({ resource, key: event.key, error: String(event.error) }, 'an object cannot be read')
        return
      case 'failed':
        log.warn({ resource, error: event.error.message, retryIn: event.retryIn }, 'cannot be watched; trying again')
        onFailure(resource)
        return
      default:
        event satisfies never
    }
  }
}

/** True where a change may change routes. Nodes are written to every few seconds, mostly with what is of no interest here. */
export function concernsRoutes({ resource, now, before }: Change): boolean {
  if (resource === 'nodes') return routeFacts(now) !== routeFacts(before)
  const facts = (pod: PodView | undefined): string =>
    pod === undefined || pod.isOver ? '' : [pod.node, ...pod.addresses].join(' ')
  return facts(now) !== facts(before)
}

const routeFacts = (node: NodeView | undefined): string =>
  node === undefined ? '' : [node.chosen ?? '-', ...node.addresses, ...node.podCidrs].join(' ')

/** True where a change may change floating IPs: of pods that ask for one, or did. */
export function concernsFloating({ resource, now, before }: Change): boolean {
  if (resource === 'nodes') return false
  const facts = (pod: PodView | undefined): string =>
    pod?.floating === undefined
      ? ''
      : JSON.stringify([pod.uid, pod.node, pod.isOver, pod.isReady, pod.addresses, pod.floating])
  return facts(now) !== facts(before)
}

function doubtOf(
  what: string,
  informer: Pick<Informer<Pod, unknown>, 'isSynced' | 'suspicious' | 'lastError' | 'size'>,
  had: boolean,
): string | undefined {
  if (!informer.isSynced) return `the ${what} have not been listed yet`
  if (informer.suspicious) return `the API server answered with an empty list of ${what}`
  if (informer.lastError !== undefined) return informer.lastError.message
  return informer.size > 0 || had ? undefined : `the API server knows no ${what}`
}
