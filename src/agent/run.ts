/** The agent as a process: starts its parts in order, and ends them on a signal without touching the data path. */

import { RelayKernel } from '#flannel/relay/relay-kernel.ts'
import { MASQUERADE_TABLE } from '#flannel/masquerade.ts'
import { NetlinkKernel } from '#state/kernel-netlink.ts'
import { systemClock } from '#sys/clock.ts'
import { warmThreadPool } from '#sys/netns.ts'
import { agentMetrics } from './agent-metrics.ts'
import { openCniService } from './cni-service.ts'
import { startDhcpService } from './dhcp-service.ts'
import { openDatastore } from './open-datastore.ts'
import { FlannelAgent } from './flannel-agent.ts'
import { FlannelService, type FlannelServiceOptions } from './flannel-service.ts'
import { HealthServer, type Pages } from './health-server.ts'
import { Health } from './health.ts'
import { lockAgent } from './lock.ts'
import { errorFields, openLog, type Log } from './log.ts'
import { startNeutronService } from './neutron/service.ts'
import { startNicService } from './nics/nic-service.ts'
import type { AgentOptions } from './options.ts'
import { reportState } from './state-report.ts'
import { openRelay } from './relay.ts'

const BEAT = 1_000

/** Runs until the signal. Throws what keeps it from starting; later trouble is logged and shown by /readyz. */
export async function runAgent(options: AgentOptions, version: string, signal: AbortSignal): Promise<void> {
  const { paths, cluster } = options
  const log = openLog(options.logLevel, cluster === undefined ? {} : { node: cluster.node })
  await using stack = new AsyncDisposableStack()
  stack.use(lockAgent(paths.lock))
  // Before anything may visit another namespace: pool threads stay where they were born.
  await warmThreadPool()
  const metrics = agentMetrics({ version, node: process.version })
  const health = new Health()
  const beat = setInterval(() => health.beat(), BEAT)
  stack.defer(() => clearInterval(beat))
  const pages: Pages = new Map()
  if (options.health !== undefined)
    stack.use(await HealthServer.listen(options.health, health, metrics.registry, pages))
  if (options.dhcp) stack.use(startDhcpService(paths.dhcpSocket, metrics, health, log))
  if (options.neutronConfig !== undefined) {
    const parts = { file: options.neutronConfig, root: paths.root, cluster, metrics, health, log }
    stack.use(startNeutronService({ ...parts, userAgent: `heddle-agent/${version}` }))
  }
  stack.use(await openCniService(paths, metrics, health, log, options))
  stack.use(startNicService({ paths, cluster, metrics, health, log, userAgent: `heddle-agent/${version}` }))
  if (cluster !== undefined) {
    const begin: FlannelServiceOptions['begin'] = async (conf, onConf) => {
      const datastore = openDatastore({ cluster, paths, metrics, log, userAgent: `heddle-agent/${version}` })
      const { relaySocket: socket } = paths
      const relay = await openRelay({ socket, version, metrics: metrics.relay, log, env: process.env })
      const kernel = new RelayKernel(openKernel(log), relay)
      const life = new AsyncDisposableStack()
      const parts = { cluster, paths, datastore, kernel, metrics, health, log }
      const { reconciler } = life.use(new FlannelAgent({ ...parts, conf, onConf }))
      life.use(reportState({ state: reconciler, pages, metrics, log }))
      return life
    }
    stack.use(await FlannelService.open({ begin, clock: systemClock, random: Math.random, log }))
  }
  log.info({ version, pid: process.pid, root: paths.root === '' ? '/' : paths.root }, 'the agent runs')
  await aborted(signal)
  log.info({}, 'the agent ends; the data path stays')
}

const openKernel = (log: Log): NetlinkKernel =>
  new NetlinkKernel({
    clock: systemClock,
    tables: [{ family: 'inet', name: MASQUERADE_TABLE }],
    onError: (error) =>
      log.error(errorFields(error), 'events of the kernel are not heard of any more; it is read regularly instead'),
  })

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}
