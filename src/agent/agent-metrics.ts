/** Everything that the agent counts. docs/metrics.md describes each; a test compares the two. */

import { Registry, type Counter, type Gauge, type Histogram } from './metrics.ts'
import { nicMetrics, type NicMetrics } from './nics/nic-metrics.ts'
import { neutronMetrics, type NeutronMetrics } from './neutron/metrics.ts'
import { relayMetrics, type RelayMetrics } from './relay-metrics.ts'

export interface AgentMetrics {
  readonly registry: Registry
  readonly cniDuration: Histogram
  readonly cniErrors: Counter
  readonly peers: Gauge
  readonly peersRefused: Gauge
  readonly refusals: Counter
  readonly sources: Gauge
  readonly entries: Gauge
  readonly conflicts: Gauge
  readonly operations: Counter
  readonly failures: Counter
  readonly repairs: Counter
  readonly reconcileDuration: Histogram
  readonly reconcileSuccess: Gauge
  readonly informerRestarts: Counter
  readonly apiReachable: Gauge
  readonly annotationPatches: Counter
  readonly leaseRenewals: Counter
  readonly leaseAcquisitions: Counter
  readonly leaseLeft: Gauge
  readonly leasesDoubtful: Gauge
  readonly relay: RelayMetrics
  readonly neutron: NeutronMetrics
  readonly nics: NicMetrics
  readonly extensionCommands: Counter
  readonly cloudPasses: Counter
  readonly cloudChanges: Counter
  readonly confChanges: Counter
  readonly ipsecChanges: Counter
  readonly dhcpLeases: Gauge
  readonly dhcpEvents: Counter
  readonly leaks: Gauge
  readonly leaksRemoved: Counter
  readonly leakFailures: Counter
  readonly rulesRestored: Counter
}

const FAST = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

export function agentMetrics(build: { readonly version: string; readonly node: string }): AgentMetrics {
  const registry = new Registry()
  registry
    .gauge({ name: 'heddle_build_info', help: 'Always 1; the labels say what runs.' })
    .set(1, { version: build.version, runtime: build.node })
  registry
    .gauge({ name: 'heddle_start_time_seconds', unit: 'seconds', help: 'When the agent was started, as Unix time.' })
    .set(Math.round(Date.now() - process.uptime() * 1000) / 1000)
  registry.gauge(
    { name: 'heddle_resident_memory_bytes', unit: 'bytes', help: 'Memory of the agent that is in RAM.' },
    () => process.memoryUsage.rss(),
  )
  return {
    registry,
    cniDuration: registry.histogram(
      {
        name: 'heddle_cni_duration_seconds',
        unit: 'seconds',
        help: 'Time to answer a CNI call, by verb, plugin type and result (success or error).',
      },
      FAST,
    ),
    cniErrors: registry.counter({
      name: 'heddle_cni_errors',
      help: 'CNI calls that were answered with an error, by verb and plugin type.',
    }),
    peers: registry.gauge({ name: 'heddle_peers', help: 'Nodes whose pods this node has a way to.' }),
    peersRefused: registry.gauge({
      name: 'heddle_peers_refused',
      help: 'Refusals that stand at the moment, by reason.',
    }),
    refusals: registry.counter({
      name: 'heddle_peer_refusals',
      help: 'Times that something a node published was refused, by reason.',
    }),
    sources: registry.gauge({
      name: 'heddle_state_sources',
      help: 'Parts that contribute to what the kernel should hold.',
    }),
    entries: registry.gauge({ name: 'heddle_state_entries', help: 'Entries that the kernel should hold.' }),
    conflicts: registry.gauge({
      name: 'heddle_state_conflicts',
      help: 'Entries that two parts want to be different things; the first keeps its way.',
    }),
    operations: registry.counter({
      name: 'heddle_reconcile_operations',
      help: 'Changes sent to the kernel, by what was done (add, change, remove) and kind of entry.',
    }),
    failures: registry.counter({
      name: 'heddle_reconcile_failures',
      help: 'Changes that the kernel refused, by kind of entry; they are tried again.',
    }),
    repairs: registry.counter({
      name: 'heddle_repairs',
      help: 'Entries put back after somebody else removed or changed them, by kind of entry.',
    }),
    reconcileDuration: registry.histogram(
      {
        name: 'heddle_reconcile_duration_seconds',
        unit: 'seconds',
        help: 'Time from wanting a change to having it in the kernel.',
      },
      FAST,
    ),
    reconcileSuccess: registry.gauge({
      name: 'heddle_reconcile_last_success_timestamp_seconds',
      unit: 'seconds',
      help: 'When everything wanted was last in the kernel, as Unix time.',
    }),
    informerRestarts: registry.counter({
      name: 'heddle_informer_restarts',
      help: 'Times that watching the API server had to begin again, by resource.',
    }),
    apiReachable: registry.gauge({
      name: 'heddle_api_reachable',
      help: '1 while the nodes are watched without an error, 0 while the API server (or etcd, with leases there) is away.',
    }),
    leaks: registry.gauge({
      name: 'heddle_leaks',
      help: 'Leftovers of attachments that the last look has found, by kind.',
    }),
    leaksRemoved: registry.counter({
      name: 'heddle_leaks_removed',
      help: 'Leftovers of attachments that were removed after two looks, by kind.',
    }),
    leakFailures: registry.counter({
      name: 'heddle_leak_removal_failures',
      help: 'Leftovers that could not be removed, by kind; they are tried again.',
    }),
    rulesRestored: registry.counter({
      name: 'heddle_attachment_rules_restored',
      help: "Elements of attachments' rules, and rules of iptables, put back after somebody else removed them, by table.",
    }),
    dhcpLeases: registry.gauge({ name: 'heddle_dhcp_leases', help: 'Pods that have a DHCP lease now, by family.' }),
    dhcpEvents: registry.counter({
      name: 'heddle_dhcp_events',
      help: 'What became of DHCP leases (acquired, renewed, rebound, changed, lost, released, unreleased, abandoned, garbage), by family.',
    }),
    leaseRenewals: registry.counter({
      name: 'heddle_lease_renewals',
      help: "Renewals of this node's lease in etcd, by outcome (done, failed).",
    }),
    leaseAcquisitions: registry.counter({
      name: 'heddle_lease_acquisitions',
      help: 'Times that this node has got a lease in etcd, by how (new, kept, reserved).',
    }),
    leaseLeft: registry.gauge({
      name: 'heddle_lease_left_seconds',
      unit: 'seconds',
      help: "What this node's lease in etcd has left without a renewal; absent for a reservation.",
    }),
    leasesDoubtful: registry.gauge({
      name: 'heddle_leases_doubtful',
      help: 'Peers that are kept although etcd no longer lists them, because its list cannot be trusted.',
    }),
    relay: relayMetrics(registry),
    neutron: neutronMetrics(registry),
    nics: nicMetrics(registry),
    annotationPatches: registry.counter({ name: 'heddle_node_patches', help: 'Patches of the own Node, by outcome.' }),
    extensionCommands: registry.counter({
      name: 'heddle_extension_commands',
      help: 'Commands of the extension backend that were run, by option and outcome.',
    }),
    cloudPasses: registry.counter({
      name: 'heddle_cloud_passes',
      help: 'Looks at the route table of the cloud, with the changes that followed, by outcome.',
    }),
    confChanges: registry.counter({
      name: 'heddle_configuration_changes',
      help: 'Changes of the network configuration that were heard of while the agent ran, by outcome.',
    }),
    cloudChanges: registry.counter({
      name: 'heddle_cloud_changes',
      help: 'Changes in the route table of the cloud, by step.',
    }),
    ipsecChanges: registry.counter({
      name: 'heddle_ipsec_changes',
      help: 'Connections that charon was told of or told to forget, by step and outcome.',
    }),
  }
}
