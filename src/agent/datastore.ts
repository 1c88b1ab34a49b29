/** Where a network learns of its nodes and tells them of this one: Kubernetes' Nodes, or leases in etcd. To the network both are the same views. */

import type { Backend } from '#flannel/backend/backend.ts'
import type { Local } from '#flannel/local.ts'
import type { NetConf } from '#flannel/net-conf.ts'
import type { NodeView } from '#flannel/node-view.ts'
import type { Mark } from '#etcd/prefix-watch.ts'

/** What the nodes of a cluster are told to. */
export interface NodeSink {
  /** A whole list; `trustworthy` when peers that it lacks are really gone. */
  list(views: readonly NodeView[], trustworthy: boolean): void
  node(view: NodeView): void
  gone(name: string): void
  /** The network configuration as it is now: maybe other than before. */
  conf(text: string): void
  /** This node as it would be with such a view of it, or why that cannot be said yet. Changes nothing. */
  preview(view: NodeView): Local | string
}

/** What was known in a former life. */
export interface LastKnown {
  readonly nodes: readonly NodeView[]
  readonly mark?: Mark | undefined
}

export interface Datastore extends AsyncDisposable {
  /** Names of the two checks that it answers for: whether it is reached, and whether it says what peers need to know. */
  readonly checks: { readonly reached: string; readonly published: string }
  /** Said while it does not know this node. */
  readonly absent: string
  /** The text of the network configuration. */
  netConf(signal: AbortSignal): Promise<string>
  /** Begins to tell of nodes. Once. */
  follow(conf: NetConf, sink: NodeSink, lastKnown: LastKnown): void
  /** True when a first list came in time (ms). */
  synced(ms: number): Promise<boolean>
  /** Why this node's subnet could not stay with such a network configuration. */
  objection(conf: NetConf): string | undefined
  /** Says where operators look why a changed network configuration is not used; undefined when there is none. */
  tell(trouble: string | undefined): void
  /** The data path is up: this is what peers should know. */
  publish(local: Local, backend: Backend): void
  /** The address of this node has changed: connections from the old one would only be noticed after minutes. */
  reconnect(): void
  /** Undefined while it answers. */
  readonly trouble: string | undefined
  /** Undefined when it says of this node all that it should. */
  readonly unpublished: string | undefined
  /** How far it had come, to be recorded. */
  readonly mark: Mark | undefined
}
