/** Cards of pods, between CNI calls: pools are filled, what is left is removed, and the scheduler is told how many there can be. */

import { openHost } from '#cni/runtime/host.ts'
import { KubeClient } from '#kube/client.ts'
import { nodes } from '#kube/resources.ts'
import { closeClouds } from '#plugins/host-device-plus/cloud.ts'
import type { NicHost } from '#plugins/host-device-plus/engine.ts'
import { NicKeeper, type KeeperOptions, type NicReport } from '#plugins/host-device-plus/keeper.ts'
import { observeNics } from '#plugins/host-device-plus/observe.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { clusterConfig } from '../cluster.ts'
import type { Health } from '../health.ts'
import type { Log } from '../log.ts'
import type { ClusterOptions } from '../options.ts'
import type { AgentPaths } from '../paths.ts'
import { NodeResource } from './node-resource.ts'

export const NIC_CHECK = 'neutron-nics'
export const NIC_RESOURCE = 'heddle.io/neutron-nics'

const PATCH_MS = 10_000

export interface NicServiceOptions {
  readonly paths: Pick<AgentPaths, 'root'>
  /** Undefined: there is no Node to publish on. */
  readonly cluster: ClusterOptions | undefined
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
  readonly userAgent: string
  /** For tests: another machine than this process's, other times than the usual. */
  readonly keeper?: Pick<KeeperOptions, 'intervalMs' | 'fullMs' | 'settleMs'> & { readonly host?: NicHost }
}

/** Nothing is asked for, and nothing shown, before a network with the plugin host-device-plus was used. */
export function startNicService(options: NicServiceOptions): AsyncDisposable {
  const { paths, metrics, health, log } = options
  const stack = new AsyncDisposableStack()
  stack.defer(closeClouds)
  const own = openHost({ root: paths.root, log: (level, message, fields) => log[level](fields ?? {}, message) })
  stack.use(own)
  stack.use(
    observeNics({
      onStep: (operation, outcome) => metrics.nics.operations.add({ operation, outcome }),
      onAttempt: ({ service, method, code }) => metrics.nics.requests.add({ service, method, code }),
    }),
  )
  const resource = nodeResource(options)
  if (resource !== undefined) stack.use(resource)
  let isKnown = false
  const onReport = ({ networks, cards, places, troubles }: NicReport): void => {
    if (networks === 0 && !isKnown) return
    if (!isKnown) health.expect(NIC_CHECK, 'degraded', 'not looked at yet')
    isKnown = true
    for (const [state, count] of cards) metrics.nics.cards.set(count, { state })
    const amount = networks === 0 ? 0 : places
    if (amount !== undefined) {
      metrics.nics.places.set(amount)
      resource?.set(amount)
    }
    const trouble = [...troubles].map(([network, reason]) => `network ${network}: ${reason}`).join('; ')
    const lost = cards.get('lost') ?? 0
    if (trouble !== '') health.fail(NIC_CHECK, trouble)
    else if (lost > 0) health.fail(NIC_CHECK, `${lost} pods have lost their card: delete them`)
    else health.pass(NIC_CHECK)
  }
  stack.use(
    new NicKeeper({
      host: own,
      ...options.keeper,
      onReport,
    }),
  )
  return stack
}

function nodeResource({ cluster, metrics, log, userAgent }: NicServiceOptions): NodeResource | undefined {
  if (cluster?.datastore.kind !== 'kubernetes') return undefined
  const { node, datastore } = cluster
  let client: KubeClient | undefined
  const open = (): KubeClient =>
    (client ??= new KubeClient(clusterConfig(datastore.kubeconfig, datastore.kubeApiUrl), { userAgent }))
  return new NodeResource({
    name: NIC_RESOURCE,
    log,
    clock: systemClock,
    random: Math.random,
    onPatch: (outcome) => metrics.annotationPatches.add({ outcome }),
    patch: async (body, signal) => {
      const call = { subresource: 'status', timeout: PATCH_MS, signal } as const
      try {
        await open().patch(nodes, { name: node }, { type: 'merge', body }, call)
      } catch (error) {
        // The next one gets new connections: the node may have got another address.
        client?.[Symbol.dispose]()
        client = undefined
        throw error
      }
    },
  })
}
