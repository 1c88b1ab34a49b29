/** The cluster's Nodes, as an informer brings them, for a network that must not lose peers by an answer that is too good to be true. */

import type { KubeClient } from '#kube/client.ts'
import { startInformer, type Informer, type InformerEvent } from '#kube/informer.ts'
import { nodes } from '#kube/resources.ts'
import type { Node } from 'kubernetes-types/core/v1.js'
import type { AnnotationKeys } from '#flannel/annotations.ts'
import { nodeView, type NodeView } from '#flannel/node-view.ts'
import type { Log } from './log.ts'

export interface NodeWatchOptions {
  readonly client: KubeClient
  /** The own Node: a list that lacks it is not believed to be complete. */
  readonly node: string
  readonly keys: AnnotationKeys
  readonly log: Log
  readonly signal: AbortSignal
  /** A whole list; `trustworthy` when peers that it lacks are really gone. */
  readonly onList: (views: readonly NodeView[], trustworthy: boolean) => void
  readonly onNode: (view: NodeView) => void
  readonly onGone: (name: string) => void
  readonly onFailure: (message: string) => void
  /** The watch ends quietly and is opened anew after so many milliseconds of silence; for tests. */
  readonly idleTimeout?: number
}

export class NodeWatch implements Disposable {
  readonly #options: NodeWatchOptions
  readonly #informer: Informer<Node, NodeView>
  /** A first list has been told; until then single Nodes are not. */
  #isListed = false
  /** The last list cannot be whole. */
  #isDoubtful = false

  constructor(options: NodeWatchOptions) {
    this.#options = options
    this.#informer = startInformer({
      client: options.client,
      resource: nodes,
      transform: (node) => nodeView(node, options.keys),
      on: (event) => this.#hear(event),
      signal: options.signal,
      backoff: { base: 250, cap: 15_000 },
      onHandlerError: (error) => options.log.error({ error: String(error) }, 'handling a Node failed'),
      ...(options.idleTimeout === undefined ? {} : { idleTimeout: options.idleTimeout }),
    })
  }

  /** Undefined while the API server answers. */
  get trouble(): string | undefined {
    if (this.#informer.suspicious) return 'the API server answered with an empty list of Nodes; the last one is kept'
    if (this.#informer.lastError !== undefined) return this.#informer.lastError.message
    return this.#informer.isSynced ? undefined : 'the Nodes have not been listed yet'
  }

  get isSynced(): boolean {
    return this.#informer.isSynced
  }

  /** True when the first complete list came in time (ms). */
  synced(ms: number): Promise<boolean> {
    return this.#informer.synced(ms)
  }

  [Symbol.dispose](): void {
    this.#informer[Symbol.dispose]()
  }

  #hear(event: InformerEvent<NodeView>): void {
    const { log } = this.#options
    switch (event.type) {
      case 'added':
      case 'updated':
        if (!this.#isListed) return
        this.#options.onNode(event.object)
        // Our own Node is there (again), so the rest can be believed to be all there is.
        if (this.#isDoubtful && event.key === this.#options.node && !this.#informer.suspicious) this.#tell(false)
        return
      case 'deleted':
        if (event.suspicious) this.#isDoubtful = true
        else if (this.#isListed) this.#options.onGone(event.key)
        return
      case 'synced':
        if (!this.#isListed || this.#isDoubtful) this.#tell(event.suspicious)
        return
      case 'rejected':
        log.warn({ node: event.key, error: String(event.error) }, 'a Node cannot be read')
        return
      case 'failed':
        log.warn(
          { error: event.error.message, attempt: event.attempt, retryIn: event.retryIn },
          'the Nodes cannot be watched; trying again',
        )
        this.#options.onFailure(event.error.message)
        return
      default:
        event satisfies never
    }
  }

  #tell(suspicious: boolean): void {
    const views = [...this.#informer.entries()].map(([, view]) => view)
    const hasOwn = this.#informer.get(this.#options.node) !== undefined
    const trustworthy = !suspicious && hasOwn
    if (!trustworthy)
      this.#options.log.warn(
        { nodes: views.length, node: this.#options.node },
        'the list of Nodes is empty or lacks our own: nobody is forgotten because of it',
      )
    this.#options.onList(views, trustworthy)
    this.#isListed = true
    this.#isDoubtful = !trustworthy
  }
}
