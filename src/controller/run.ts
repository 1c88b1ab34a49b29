/** The controller as a process: waits for its turn, does the work while it leads, and gives the lease back when it ends. */

import { clusterConfig } from '#agent/cluster.ts'
import { HealthServer } from '#agent/health-server.ts'
import { Health } from '#agent/health.ts'
import { errorFields, openLog, type Log } from '#agent/log.ts'
import { KubeClient } from '#kube/client.ts'
import { KubeError } from '#kube/errors.ts'
import { runElected, type Term } from '#kube/lease-lock.ts'
import { leases } from '#kube/resources.ts'
import { OpenStackClient } from '#openstack/client.ts'
import { loadCloud } from '#openstack/clouds-file.ts'
import type { CloudConfig } from '#openstack/config.ts'
import { OpenStackError } from '#openstack/errors.ts'
import { Transport } from '#openstack/transport.ts'
import { systemClock } from '#sys/clock.ts'
import { ClusterView, concernsFloating, concernsRoutes } from './cluster-view.ts'
import { controllerMetrics, onAttempt, type ControllerMetrics } from './controller-metrics.ts'
import { FencedSender } from './fenced-sender.ts'
import { FloatingController } from './floating-controller.ts'
import { GcController } from './gc-controller.ts'
import { NextHopRecord } from './next-hop-record.ts'
import type { ControllerOptions } from './options.ts'
import { Reporter } from './reporter.ts'
import { RouteController } from './route-controller.ts'
import { Rounds } from './rounds.ts'

const COMPONENT = 'heddle-controller'
const BEAT = 1_000
/** News within so long come together (ms). */
const BATCH = 200
const LONGEST_RETRY = 120_000
const DEADLINE = 300_000
/** Waiting for the first lists (ms), again and again. */
const SYNC = 10_000

/** Names of the checks of /readyz. */
const CHECKS = { api: 'api-server', routes: 'neutron-routes', gc: 'neutron-gc', floating: 'floating-ips' } as const
const PARTS = ['routes', 'gc', 'floating'] as const
type Part = (typeof PARTS)[number]

/** Whoever waits for its turn has nothing to complain of. */
function standBy(options: ControllerOptions, health: Health): void {
  for (const part of PARTS) if (options[part] !== undefined) health.pass(CHECKS[part], 'another controller leads')
}

/** Runs until the signal. Throws what keeps it from starting; later trouble is logged and shown by /readyz. */
export async function runController(options: ControllerOptions, version: string, signal: AbortSignal): Promise<void> {
  const log = openLog(options.logLevel, { identity: options.identity })
  const cloud = loadCloud({
    ...(options.cloudsFile === undefined ? {} : { file: options.cloudsFile }),
    ...(options.cloud === undefined ? {} : { cloud: options.cloud }),
  })
  const kube = clusterConfig(options.kubeconfig, options.kubeApiUrl)
  await using stack = new AsyncDisposableStack()
  const userAgent = `${COMPONENT}/${version}`
  const client = stack.use(new KubeClient(kube, { userAgent }))
  // Its own connections: the election must not wait behind lists.
  const election = stack.use(new KubeClient(kube, { userAgent }))
  const metrics = controllerMetrics({ version, node: process.version })
  const present: Present = { cloud: undefined }
  metrics.registry.onCollect(() =>
    metrics.tokenLeft.set(Math.max(0, Math.round((present.cloud?.tokenLeftMs ?? 0) / 1000))),
  )
  const health = new Health()
  health.expect(CHECKS.api, 'required', 'not asked yet')
  for (const part of PARTS)
    if (options[part] !== undefined) health.expect(CHECKS[part], 'degraded', 'not looked at yet')
  standBy(options, health)
  const beat = setInterval(() => health.beat(), BEAT)
  stack.defer(() => clearInterval(beat))
  if (options.health !== undefined) stack.use(await HealthServer.listen(options.health, health, metrics.registry))
  log.info({ version, pid: process.pid, lease: `${options.namespace}/${options.leaseName}` }, 'the controller runs')
  const watch = setInterval(() => void probe(election, options, health, signal), 10_000)
  stack.defer(() => clearInterval(watch))
  await probe(election, options, health, signal)
  await runElected({
    client: election,
    namespace: options.namespace,
    name: options.leaseName,
    identity: options.identity,
    signal,
    leaseDuration: options.leaseDuration,
    // The proportions that Kubernetes' own controllers have.
    renewDeadline: (options.leaseDuration * 2) / 3,
    retryPeriod: (options.leaseDuration * 2) / 15,
    lead: (ended, term) => lead({ options, client, cloud, metrics, health, log, term, userAgent, ended, present }),
    onError: (error) => log.warn(errorFields(error), 'the lease could not be read or written; trying again'),
  })
  log.info({}, 'the controller ends; routes and floating IPs stay')
}

interface Leading {
  readonly options: ControllerOptions
  readonly client: KubeClient
  readonly cloud: CloudConfig
  readonly metrics: ControllerMetrics
  readonly health: Health
  readonly log: Log
  readonly term: Term
  readonly userAgent: string
  readonly ended: AbortSignal
  /** What metrics ask; of the term that is. */
  readonly present: Present
}

interface Present {
  cloud: OpenStackClient | undefined
}

/** One term. Nothing of it is left when it ends. */
async function lead(leading: Leading): Promise<void> {
  const { options, client, cloud, metrics, health, log, term, userAgent, ended } = leading
  log.info({}, 'this controller leads')
  metrics.leader.set(1)
  metrics.terms.add()
  const rounds: Partial<Record<Part, Rounds>> = {}
  try {
    await using stack = new AsyncDisposableStack()
    const sender = new FencedSender(new Transport(cloud.tls), term)
    const openstack = stack.use(new OpenStackClient(cloud, { userAgent, sender, onAttempt: onAttempt(metrics) }))
    leading.present.cloud = openstack
    stack.defer(() => void (leading.present.cloud = undefined))
    const kickAll = (): void => {
      rounds.routes?.kick()
      rounds.floating?.kick()
    }
    const cluster = stack.use(
      new ClusterView({
        client,
        log,
        onChange: (change) => {
          if (concernsRoutes(change)) rounds.routes?.kick()
          if (concernsFloating(change)) rounds.floating?.kick()
        },
        onSynced: kickAll,
        onFailure: (resource) => metrics.informerRestarts.add({ resource }),
      }),
    )
    while (!ended.aborted && !(await Promise.race([cluster.synced(SYNC), aborted(ended)])))
      if (!ended.aborted) log.warn({ doubt: cluster.doubt }, 'Pods and Nodes have not been listed yet')
    if (ended.aborted) return
    const reporter = new Reporter({
      client,
      component: COMPONENT,
      clock: systemClock,
      log,
      onEvent: (outcome) => metrics.events.add({ outcome }),
    })
    const common = { cluster, client: openstack, reporter, metrics, log }
    const state =
      (part: Part) =>
      (trouble: string | undefined): void =>
        trouble === undefined ? health.pass(CHECKS[part]) : health.fail(CHECKS[part], trouble)
    const start = (part: Part, everyMs: number, round: (isFull: boolean, signal: AbortSignal) => Promise<boolean>) =>
      stack.use(
        new Rounds({
          round,
          everyMs,
          batchMs: BATCH,
          longestMs: LONGEST_RETRY,
          deadlineMs: DEADLINE,
          asksFor: (error) => (error instanceof OpenStackError ? (error.retryAfterMs ?? 0) : 0),
          onRound: (error) => {
            metrics.rounds.add({ part, outcome: error === undefined ? 'done' : 'failed' })
            if (error === undefined) return metrics.lastSuccess.set(Math.floor(Date.now() / 1000), { part })
            health.fail(CHECKS[part], errorFields(error).error)
            log.warn({ part, ...errorFields(error) }, 'a round failed; trying again')
          },
          clock: systemClock,
          random: Math.random,
        }),
      )
    const { routes, gc, floating } = options
    for (const part of PARTS) if (options[part] !== undefined) health.fail(CHECKS[part], 'not looked at yet')
    if (routes !== undefined) {
      const record = new NextHopRecord(client, { namespace: options.namespace, name: options.leaseName })
      const controller = new RouteController({ ...routes, ...common, record, onState: state('routes') })
      rounds.routes = start('routes', options.resyncInterval, (isFull, signal) => controller.round(isFull, signal))
    }
    if (floating !== undefined) {
      const controller = new FloatingController({ ...floating, ...common, onState: state('floating') })
      rounds.floating = start('floating', options.resyncInterval, (isFull, signal) => controller.round(isFull, signal))
    }
    if (gc !== undefined) {
      const controller = new GcController({ ...gc, ...common, clock: systemClock, onState: state('gc') })
      rounds.gc = start('gc', options.gcInterval, (isFull, signal) => controller.round(isFull, signal))
    }
    await aborted(ended)
  } finally {
    metrics.leader.set(0)
    standBy(options, health)
    log.info({}, 'this controller leads no more')
  }
}

/** A follower, too, has to reach the API server: it could never take over. */
async function probe(
  client: KubeClient,
  options: ControllerOptions,
  health: Health,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, leaseName: name } = options
  try {
    await client.get(leases, { namespace, name }, { signal, timeout: 5_000 })
    health.pass(CHECKS.api)
  } catch (error) {
    if (error instanceof KubeError && error.code === 'not-found') health.pass(CHECKS.api)
    else if (!signal.aborted) health.fail(CHECKS.api, errorFields(error).error)
  }
}

function aborted(signal: AbortSignal): Promise<true> {
  const { promise, resolve } = Promise.withResolvers<true>()
  if (signal.aborted) resolve(true)
  else signal.addEventListener('abort', () => resolve(true), { once: true })
  return promise
}
