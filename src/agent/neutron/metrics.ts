/** What is counted of pods' addresses that come from Neutron. */

import type { Attempt } from '#openstack/client.ts'
import type { EngineView } from '#ipam/neutron/engine.ts'
import type { Counter, Gauge, Histogram, Registry } from '../metrics.ts'

export interface NeutronMetrics {
  readonly addresses: Gauge
  readonly events: Counter
  readonly requests: Counter
  readonly requestDuration: Histogram
  readonly calls: Histogram
  readonly level: Gauge
  readonly waiting: Gauge
  readonly oldestIntent: Gauge
  readonly foreign: Gauge
  readonly tokenLeft: Gauge
}

/** Seconds: an ADD from the pool takes some milliseconds, one that waits for Neutron seconds. */
const CALLS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const REQUESTS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export const neutronMetrics = (registry: Registry): NeutronMetrics => ({
  addresses: registry.gauge({
    name: 'heddle_neutron_addresses',
    help: 'Addresses that this node has from Neutron, by family and state (assigned, ready, settling, cooling, leaving).',
  }),
  events: registry.counter({
    name: 'heddle_neutron_events',
    help: 'What became of these addresses, and what others did to the port, by event.',
  }),
  requests: registry.counter({
    name: 'heddle_neutron_requests',
    help: 'Requests of neutron-ipam, by service, method and code (ok, or the error).',
  }),
  requestDuration: registry.histogram(
    {
      name: 'heddle_neutron_request_duration_seconds',
      unit: 'seconds',
      help: 'Time of these requests, by service and method.',
    },
    REQUESTS,
  ),
  calls: registry.histogram(
    {
      name: 'heddle_neutron_call_duration_seconds',
      unit: 'seconds',
      help: 'Time to answer the plugin neutron-ipam, by verb and result (success or error).',
    },
    CALLS,
  ),
  level: registry.gauge({
    name: 'heddle_neutron_level',
    help: '2: everything is done; 1: nothing is given back for now; 0: no requests for now.',
  }),
  waiting: registry.gauge({ name: 'heddle_neutron_waiting', help: 'Pods that wait for an address.' }),
  oldestIntent: registry.gauge({
    name: 'heddle_neutron_oldest_intent_seconds',
    unit: 'seconds',
    help: 'Age of the oldest request for addresses without an answer; 0 without one.',
  }),
  foreign: registry.gauge({
    name: 'heddle_neutron_foreign_addresses',
    help: 'Addresses on the port that somebody else put there.',
  }),
  tokenLeft: registry.gauge({
    name: 'heddle_neutron_token_left_seconds',
    unit: 'seconds',
    help: 'What the token of Keystone still has.',
  }),
})

export function countAttempt(metrics: NeutronMetrics, { service, method, code, ms }: Attempt): void {
  metrics.requests.add({ service, method, code })
  metrics.requestDuration.observe(ms / 1000, { service, method })
}

export function showView(metrics: NeutronMetrics, view: EngineView, tokenLeftMs: number): void {
  for (const [family, counts] of view.families)
    for (const state of ['assigned', 'ready', 'settling', 'cooling', 'leaving'] as const)
      metrics.addresses.set(counts[state], { family: `ipv${family}`, state })
  metrics.level.set(view.level)
  metrics.waiting.set(view.waiting)
  metrics.oldestIntent.set(view.oldestIntent)
  metrics.foreign.set(view.foreign)
  metrics.tokenLeft.set(tokenLeftMs / 1000)
}
