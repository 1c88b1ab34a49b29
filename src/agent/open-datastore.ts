/** The datastore that the options name. */

import { KubeClient } from '#kube/client.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { clusterConfig } from './cluster.ts'
import type { Datastore } from './datastore.ts'
import { EtcdDatastore } from './etcd/datastore.ts'
import { KubeDatastore } from './kube-datastore.ts'
import type { Log } from './log.ts'
import type { ClusterOptions } from './options.ts'
import type { AgentPaths } from './paths.ts'

export interface OpenDatastoreOptions {
  readonly cluster: ClusterOptions
  readonly paths: AgentPaths
  readonly metrics: AgentMetrics
  readonly log: Log
  readonly userAgent: string
}

/** Throws KubeError `config`, EtcdError `config` or FlannelError `bad-option`. */
export function openDatastore({ cluster, paths, metrics, log, userAgent }: OpenDatastoreOptions): Datastore {
  const { datastore: chosen, node } = cluster
  if (chosen.kind === 'etcd')
    return new EtcdDatastore({ node, etcd: chosen, subnetFile: paths.subnetFile, userAgent, metrics, log })
  const config = clusterConfig(chosen.kubeconfig, chosen.kubeApiUrl)
  const connect = (): KubeClient => new KubeClient(config, { userAgent })
  return new KubeDatastore({ cluster, kube: chosen, connect, metrics, log })
}
