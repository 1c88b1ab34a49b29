/** Everything that the controller counts. docs/metrics.md describes each; a test compares the two. */

import { Registry, type Counter, type Gauge, type Histogram } from '#agent/metrics.ts'
import type { Attempt } from '#openstack/client.ts'

export interface ControllerMetrics {
  readonly registry: Registry
  readonly leader: Gauge
  readonly terms: Counter
  readonly informerRestarts: Counter
  readonly rounds: Counter
  readonly lastSuccess: Gauge
  readonly requests: Histogram
  readonly tokenLeft: Gauge
  readonly routes: Gauge
  readonly routesLimit: Gauge
  readonly routeChanges: Counter
  readonly interleavings: Counter
  readonly leftovers: Gauge
  readonly removed: Counter
  readonly removalFailures: Counter
  readonly floating: Gauge
  readonly floatingChanges: Counter
  readonly events: Counter
}

/** A request to the cloud takes from some milliseconds to ten seconds. */
const SLOW = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export function controllerMetrics(build: { readonly version: string; readonly node: string }): ControllerMetrics {
  const registry = new Registry()
  const { version, node: runtime } = build
  registry
    .gauge({ name: 'heddle_build_info', help: 'Always 1; the labels say what runs.' })
    .set(1, { version, runtime })
  registry
    .gauge({
      name: 'heddle_start_time_seconds',
      unit: 'seconds',
      help: 'When the controller was started, as Unix time.',
    })
    .set(Math.round(Date.now() - process.uptime() * 1000) / 1000)
  registry.gauge(
    { name: 'heddle_resident_memory_bytes', unit: 'bytes', help: 'Memory of the controller that is in RAM.' },
    () => process.memoryUsage.rss(),
  )
  return {
    registry,
    leader: registry.gauge({ name: 'heddle_controller_leader', help: '1 while this controller leads.' }),
    terms: registry.counter({ name: 'heddle_controller_terms', help: 'Times that this controller became the leader.' }),
    informerRestarts: registry.counter({
      name: 'heddle_informer_restarts',
      help: 'Times that watching the API server had to begin again, by resource.',
    }),
    rounds: registry.counter({
      name: 'heddle_controller_rounds',
      help: 'Rounds of work, by part (routes, gc, floating-ips) and outcome (done, failed).',
    }),
    lastSuccess: registry.gauge({
      name: 'heddle_controller_last_success_timestamp_seconds',
      unit: 'seconds',
      help: 'When a round last came to its end, by part, as Unix time.',
    }),
    requests: registry.histogram(
      {
        name: 'heddle_openstack_request_duration_seconds',
        unit: 'seconds',
        help: 'Time of requests to the cloud, by service, method and code (ok or what went wrong).',
      },
      SLOW,
    ),
    tokenLeft: registry.gauge({
      name: 'heddle_openstack_token_left_seconds',
      unit: 'seconds',
      help: 'What the present token has left.',
    }),
    routes: registry.gauge({
      name: 'heddle_neutron_routes',
      help: 'Routes of the router, by state: owned, foreign, wanted, held (no room), blocked (by a foreign one), refused.',
    }),
    routesLimit: registry.gauge({
      name: 'heddle_neutron_routes_limit',
      help: 'Routes that the router may have, the reserve not taken off.',
    }),
    routeChanges: registry.counter({
      name: 'heddle_neutron_route_changes',
      help: 'Routes that were added to and removed from the router, by step.',
    }),
    interleavings: registry.counter({
      name: 'heddle_neutron_interleavings',
      help: 'Times that somebody else changed the router between a look and a change.',
    }),
    leftovers: registry.gauge({
      name: 'heddle_neutron_leftovers',
      help: 'What dead nodes left in the cloud, as the last look found it, by kind.',
    }),
    removed: registry.counter({
      name: 'heddle_neutron_leftovers_removed',
      help: 'Leftovers removed after two looks, by kind.',
    }),
    removalFailures: registry.counter({
      name: 'heddle_neutron_leftover_removal_failures',
      help: 'Leftovers that could not be removed, by kind; they are tried again.',
    }),
    floating: registry.gauge({
      name: 'heddle_neutron_floating_ips',
      help: 'Pods that want a floating IP, by state: associated, pending, or the reason why they have none.',
    }),
    floatingChanges: registry.counter({
      name: 'heddle_neutron_floating_ip_changes',
      help: 'Changes of floating IPs, by step: hold, point, make, unpoint, give-back.',
    }),
    events: registry.counter({
      name: 'heddle_controller_events',
      help: 'Events written to the API server, by outcome (done, failed, dropped).',
    }),
  }
}

/** Counts requests to the cloud. */
export const onAttempt =
  (metrics: ControllerMetrics) =>
  ({ service, method, code, ms }: Attempt): void =>
    metrics.requests.observe(ms / 1000, { service, method, code })
