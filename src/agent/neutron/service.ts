/** The daemon of neutron-ipam inside the agent: pods whose addresses come from OpenStack Neutron have them from a pool that is kept here. */

import { messageOf } from '#cni/errors.ts'
import { failpoints } from '#cni/runtime/host.ts'
import { KubeClient } from '#kube/client.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { readDaemonConf } from '#ipam/neutron/daemon-conf.ts'
import { openIpamService, type IpamService } from '#ipam/neutron/service.ts'
import { nativeSys } from '#sys/addon.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from '../agent-metrics.ts'
import { clusterConfig, nodeStatusApi } from '../cluster.ts'
import { peerOf } from '../cni/peer.ts'
import type { Health } from '../health.ts'
import type { Log } from '../log.ts'
import type { ClusterOptions } from '../options.ts'
import { countAttempt, showView } from './metrics.ts'
import { NodeConditionTeller } from './node-condition.ts'

export const NEUTRON_CHECK = 'neutron-ipam'

/** ms between two tries to begin: the file may come later, and another daemon may end. */
const RETRY_MS = 15_000
/** ms between two looks at how the daemon is. */
const LOOK_MS = 2_000

export interface NeutronServiceOptions {
  /** Its configuration. */
  readonly file: string
  readonly root: string
  /** Undefined: there is no Node to tell. */
  readonly cluster: ClusterOptions | undefined
  readonly metrics: AgentMetrics
  readonly health: Health
  readonly log: Log
  readonly userAgent: string
}

/** Begins at once and in the background: without Neutron every other pod is served. The result ends it; pods keep their addresses. */
export function startNeutronService(options: NeutronServiceOptions): AsyncDisposable {
  const { file, root, health, log, metrics } = options
  health.expect(NEUTRON_CHECK, 'degraded', 'not begun yet')
  const stop = new AbortController()
  const stack = new AsyncDisposableStack()
  const peer = peerOf(nativeSys())
  const condition = conditionTeller(options, stack)
  let netlink: NetlinkSocket | undefined
  let service: IpamService | undefined
  const open = async (): Promise<void> => {
    for (let isFirst = true; !stop.signal.aborted; isFirst = false) {
      try {
        const conf = readDaemonConf(file, root)
        service = await openIpamService({
          conf,
          netlink: () => (netlink ??= NetlinkSocket.open()),
          log: (level, message, fields) => log[level]({ ...fields, part: NEUTRON_CHECK }, message),
          failpoint: failpoints(process.env),
          onEvent: (event, count) => metrics.neutron.events.add({ event }, count),
          onAttempt: (attempt) => countAttempt(metrics.neutron, attempt),
          onCall: (verb, ok, ms) =>
            metrics.neutron.calls.observe(ms / 1000, { verb, result: ok ? 'success' : 'error' }),
          uidOf: (socket) => peer(socket)?.uid,
        })
        log.info({ socket: conf.socket }, 'giving pods addresses of Neutron')
        return
      } catch (error) {
        const message = messageOf(error)
        health.fail(NEUTRON_CHECK, message)
        condition?.set({ reason: 'NoPort', message })
        if (isFirst) log.warn({ file, reason: message }, 'no addresses of Neutron for now; trying again')
        await systemClock.sleep(RETRY_MS, stop.signal).catch(() => undefined)
      }
    }
  }
  const look = (): void => {
    if (service === undefined) return
    const [worst] = service.engine.conditions()
    const said = service.engine.isUp
      ? worst
      : { reason: 'NoPort' as const, message: worst?.message ?? 'the port of this node is being looked for' }
    if (said === undefined) health.pass(NEUTRON_CHECK)
    else health.fail(NEUTRON_CHECK, said.message)
    // What passes by itself within seconds is no news for a cluster.
    if (said === undefined || worst !== undefined) condition?.set(said)
  }
  const opening = open()
  stack.use(systemClock.interval(LOOK_MS, look))
  metrics.registry.onCollect(() => {
    if (service !== undefined) showView(metrics.neutron, service.engine.view(), service.tokenLeftMs)
  })
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await opening
      await stack.disposeAsync()
      await service?.[Symbol.asyncDispose]()
      netlink?.[Symbol.dispose]()
    },
  }
}

function conditionTeller(
  { cluster, log, userAgent }: NeutronServiceOptions,
  stack: AsyncDisposableStack,
): NodeConditionTeller | undefined {
  if (cluster?.datastore.kind !== 'kubernetes') return undefined
  const { datastore, node } = cluster
  let client: KubeClient | undefined
  stack.defer(() => client?.[Symbol.dispose]())
  const open = (): KubeClient => {
    client ??= new KubeClient(clusterConfig(datastore.kubeconfig, datastore.kubeApiUrl), { userAgent })
    return client
  }
  const api = nodeStatusApi(open)
  return stack.use(
    new NodeConditionTeller({
      node,
      log,
      clock: systemClock,
      random: Math.random,
      api: {
        patchStatus: async (name, patch, signal) => {
          try {
            await api.patchStatus(name, patch, signal)
          } catch (error) {
            // The next one gets new connections: the node may have got another address.
            client?.[Symbol.dispose]()
            client = undefined
            throw error
          }
        },
      },
    }),
  )
}
