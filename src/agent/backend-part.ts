/** What some backends do beside the kernel: run commands, keep a cloud's route table, tell charon of peers. */

import type { CloudName } from '#cloud/client.ts'
import { CLOUDS } from '#cloud/client.ts'
import type { BackendConf } from '#flannel/backend-conf.ts'
import type { CloudConf } from '#flannel/cloud/conf.ts'
import type { Lease } from '#flannel/lease.ts'
import type { Local } from '#flannel/local.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { openCloudPart } from './cloud/part.ts'
import { openExtension } from './extension/part.ts'
import type { Health } from './health.ts'
import { openIpsec } from './ipsec/part.ts'
import type { Log } from './log.ts'
import type { AgentPaths } from './paths.ts'

export interface BackendPart extends AsyncDisposable {
  /** This node is other than before. */
  setLocal(local: Local): void
  /** A peer came or changed; without a lease it went. */
  setPeer(name: string, lease: Lease | undefined, local: Local): void
  /** From now on peers that nobody told of are gone. */
  removeLeftovers(): void
  /** Why no packet can reach this node's pods yet. */
  readonly absent?: string | undefined
}

export interface BackendPartOptions {
  readonly cluster: { readonly node: string }
  readonly paths: AgentPaths
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
}

/** Undefined for backends that need nothing but the kernel. The stack ends it. */
export async function openBackendPart(
  options: BackendPartOptions,
  conf: BackendConf,
  stack: AsyncDisposableStack,
): Promise<BackendPart | undefined> {
  const { cluster, paths } = options
  if (conf.type === 'extension') return stack.use(await openExtension({ ...options, conf, journal: paths.extension }))
  if (conf.type === 'ipsec') return stack.use(openIpsec({ ...options, conf, socket: paths.charon }))
  if (isCloud(conf))
    return stack.use(await openCloudPart({ ...options, conf, node: cluster.node, journal: paths.cloudRoutes }))
  return undefined
}

const names: readonly string[] = CLOUDS satisfies readonly CloudName[]
const isCloud = (conf: BackendConf): conf is CloudConf => names.includes(conf.type)
