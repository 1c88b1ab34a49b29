/** What a controller is told: flags, with the environment behind them. */

import { hostname } from 'node:os'
import { readFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'

import { parseListen, type ListenAddress } from '#agent/health-server.ts'
import { LOG_LEVELS, type LogLevel } from '#agent/log.ts'
import { formatCidr, tryParseCidr, type CidrText } from '#ip/prefix.ts'
import { SERVICE_ACCOUNT } from '#kube/in-cluster.ts'
import { isClusterName, UNNAMED_CLUSTER } from '#openstack/mark.ts'
import type { FloatingOptions } from './floating-controller.ts'
import type { GcOptions } from './gc-controller.ts'
import type { RouteOptions } from './route-controller.ts'

/** Flags as commander reads them, by their camel-case names. All text is unchecked. */
export interface ControllerFlags {
  readonly kubeconfig?: string | undefined
  readonly kubeApiUrl?: string | undefined
  readonly namespace?: string | undefined
  readonly leaseName?: string | undefined
  readonly leaseDuration?: string | undefined
  readonly cloudsFile?: string | undefined
  readonly cloud?: string | undefined
  readonly clusterName?: string | undefined
  readonly routeStrategy?: string | undefined
  readonly router?: string | undefined
  readonly podCidr?: readonly string[] | undefined
  readonly nodeCidr?: readonly string[] | undefined
  readonly maxRoutes?: string | undefined
  readonly routeReserve?: string | undefined
  readonly aggregate?: string | undefined
  readonly resyncInterval?: string | undefined
  readonly gcInterval?: string | undefined
  readonly gcLimit?: string | undefined
  readonly gcDryRun?: boolean | undefined
  readonly floatingIps?: boolean | undefined
  readonly floatingNetwork?: string | undefined
  readonly healthListen?: string | undefined
  readonly logLevel?: string | undefined
}

export interface ControllerOptions {
  readonly kubeconfig: string | undefined
  readonly kubeApiUrl: string | undefined
  /** Of the Lease and the ConfigMap. */
  readonly namespace: string
  readonly leaseName: string
  /** Milliseconds that others wait for a leader that is silent. */
  readonly leaseDuration: number
  /** Another for each process. */
  readonly identity: string
  readonly cloudsFile: string | undefined
  readonly cloud: string | undefined
  readonly routes: RouteOptions | undefined
  readonly gc: GcOptions | undefined
  readonly floating: FloatingOptions | undefined
  /** Milliseconds between regular rounds. */
  readonly resyncInterval: number
  readonly gcInterval: number
  readonly health: ListenAddress | undefined
  readonly logLevel: LogLevel
}

/** A flag that cannot be used: which, why, and what would do. */
export class ControllerOptionError extends Error {
  readonly code = 'bad-option'
  readonly remedy: string

  constructor(message: string, remedy: string) {
    super(message)
    this.name = 'ControllerOptionError'
    this.remedy = remedy
  }
}

const bad = (flag: string, value: string, wanted: string): ControllerOptionError =>
  new ControllerOptionError(`--${flag} is ${JSON.stringify(value.slice(0, 80))}`, `it must be ${wanted}`)

const missing = (flag: string, why: string): ControllerOptionError =>
  new ControllerOptionError(`--${flag} is missing`, why)

/** @throws ControllerOptionError */
export function controllerOptions(flags: ControllerFlags): ControllerOptions {
  const logLevel = oneOf('log-level', flags.logLevel ?? 'info', LOG_LEVELS)
  const health = flags.healthListen === undefined ? undefined : parseListen(flags.healthListen)
  if (flags.healthListen !== undefined && health === undefined)
    throw bad('health-listen', flags.healthListen, 'a path such as /run/heddle/controller.sock, or HOST:PORT')
  const routes = routeOptions(flags)
  const gcInterval = count(flags.gcInterval, 'gc-interval', 300, 0, 86_400) * 1_000
  const gc = gcInterval === 0 ? undefined : gcOptions(flags)
  const floating = flags.floatingIps === true ? floatingOptions(flags) : undefined
  if (routes === undefined && gc === undefined && floating === undefined) {
    const what =
      'give --router for routes, --cluster-name for the removal of leftovers, --floating-ips for floating IPs'
    throw new ControllerOptionError('there is nothing to do', what)
  }
  return {
    kubeconfig: flags.kubeconfig,
    kubeApiUrl: flags.kubeApiUrl,
    namespace: name(flags.namespace ?? ownNamespace(), 'namespace'),
    leaseName: name(flags.leaseName ?? 'heddle-controller', 'lease-name'),
    leaseDuration: count(flags.leaseDuration, 'lease-duration', 15, 3, 3_600) * 1_000,
    identity: `${hostname()}_${process.pid}_${randomBytes(4).toString('hex')}`,
    cloudsFile: flags.cloudsFile,
    cloud: flags.cloud,
    routes,
    gc,
    floating,
    resyncInterval: count(flags.resyncInterval, 'resync-interval', 60, 1, 86_400) * 1_000,
    gcInterval,
    health,
    logLevel,
  }
}

function routeOptions(flags: ControllerFlags): RouteOptions | undefined {
  const strategy = oneOf('route-strategy', flags.routeStrategy ?? 'none', ['none', 'per-pod', 'per-node'])
  const { router } = flags
  if (router === undefined) {
    if (strategy === 'none') return undefined
    throw missing('router', 'name the router whose routes are kept (openstack router list)')
  }
  if (!/^[\w.:-]{1,64}$/.test(router)) throw bad('router', router, 'the id of a router')
  const podCidrs = cidrs(flags.podCidr, 'pod-cidr')
  if (podCidrs.length === 0) throw missing('pod-cidr', "name the pods' networks: no route outside of them is touched")
  return {
    router,
    site: { strategy, podCidrs, nodeCidrs: cidrs(flags.nodeCidr, 'node-cidr') },
    aggregation: oneOf('aggregate', flags.aggregate ?? 'exact', ['none', 'exact', 'cover']),
    maxRoutes: count(flags.maxRoutes, 'max-routes', 30, 1, 100_000),
    reserve: count(flags.routeReserve, 'route-reserve', 2, 0, 10_000),
  }
}

function clusterName(flags: ControllerFlags): string | undefined {
  const text = flags.clusterName
  if (text === undefined || text === '') return undefined
  if (!isClusterName(text) || text === UNNAMED_CLUSTER)
    throw bad('cluster-name', text, `1 to 40 of a-z, 0-9, "." and "-", and not "${UNNAMED_CLUSTER}"`)
  return text
}

function gcOptions(flags: ControllerFlags): GcOptions | undefined {
  const named = clusterName(flags)
  // Without a name nobody knows what is this cluster's.
  if (named === undefined) return undefined
  return { clusterName: named, limit: count(flags.gcLimit, 'gc-limit', 20, 1, 1_000), dryRun: flags.gcDryRun === true }
}

function floatingOptions(flags: ControllerFlags): FloatingOptions {
  const named = clusterName(flags)
  if (named === undefined) throw missing('cluster-name', 'floating IPs of pods bear the name of their cluster')
  const network = flags.floatingNetwork
  if (network !== undefined && !/^[\w-]{1,64}$/.test(network))
    throw bad('floating-network', network, 'the id of an external network')
  return { clusterName: named, network }
}

function oneOf<T extends string>(flag: string, value: string, all: readonly T[]): T {
  const found = all.find((one) => one === value)
  if (found === undefined) throw bad(flag, value, `one of ${all.join(', ')}`)
  return found
}

function count(text: string | undefined, flag: string, usual: number, least: number, most: number): number {
  if (text === undefined) return usual
  const value = Number(text)
  if (/^\d{1,6}$/.test(text) && value >= least && value <= most) return value
  throw bad(flag, text, `a whole number from ${least} to ${most}`)
}

function cidrs(texts: readonly string[] | undefined, flag: string): readonly CidrText[] {
  return [...new Set(texts ?? [])].map((text) => {
    const cidr = tryParseCidr(text)
    if (cidr === undefined) throw bad(flag, text, 'a network such as 10.244.0.0/16')
    return formatCidr(cidr)
  })
}

function name(text: string, flag: string): string {
  if (!/^[a-z0-9](?:[-a-z0-9.]{0,61}[a-z0-9])?$/.test(text)) throw bad(flag, text, 'a name as Kubernetes has them')
  return text
}

function ownNamespace(): string {
  try {
    return readFileSync(`${SERVICE_ACCOUNT}/namespace`, 'utf8').trim()
  } catch {
    return 'kube-system'
  }
}
