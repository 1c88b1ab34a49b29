/** What is counted of cards that pods get from Neutron and Nova. */

import type { Counter, Gauge, Registry } from '../metrics.ts'

export interface NicMetrics {
  readonly cards: Gauge
  readonly places: Gauge
  readonly operations: Counter
  readonly requests: Counter
}

export const nicMetrics = (registry: Registry): NicMetrics => ({
  cards: registry.gauge({
    name: 'heddle_nics',
    help: "Cards of pods on this node's server, by state (used, idle, making, leaving, lost).",
  }),
  places: registry.gauge({
    name: 'heddle_nic_places',
    help: 'Cards that pods of this node can have, those that they have included: what is published on the Node.',
  }),
  operations: registry.counter({
    name: 'heddle_nic_operations',
    help: 'Cards that were created in Neutron, attached or detached by Nova, by operation and outcome (done, failed).',
  }),
  requests: registry.counter({
    name: 'heddle_nic_requests',
    help: 'Requests to Neutron and Nova for cards, by service, method and code (ok, or the error).',
  }),
})
