/** A lab as it stands now: what was planned, what lives, what the kernel has. */

import { existsSync, readFileSync } from 'node:fs'
import type { CidrText, IpText } from '#ip/text.ts'
import { hasCode } from '#sys/errno.ts'
import { observeLab } from './observe.ts'
import { readyFile } from './cloud/cloud.ts'
import type { CloudPlan } from './cloud/plan.ts'
import { CLOUD_PROCESS } from './cloud/processes.ts'
import { cloudPaths } from './cloud/state.ts'
import { netnsPath, type LabPaths } from './paths.ts'
import { planLab } from './plan.ts'
import { isAlive } from './process.ts'
import { readProcesses, requireRecord, type AgentProcess } from './record.ts'
import type { CloudMode, LabBackend, LabTopology, LabDatastore } from './spec.ts'

export interface ProcessStatus {
  readonly pid: number | null
  readonly alive: boolean
}

export interface NodeStatus {
  readonly name: string
  readonly netns: string
  readonly ips: readonly IpText[]
  readonly podCIDRs: readonly CidrText[]
  readonly switch: string
  readonly agent: ProcessStatus & { readonly restarts: number }
  readonly cniSocket: string
  readonly healthSocket: string
  readonly root: string
  readonly log: string
}

export interface PodStatus {
  readonly name: string
  readonly node: string
  readonly netns: string
  readonly containerId: string
  readonly ips: readonly IpText[]
  readonly mtu: number
  readonly hostPort: number | null
}

export interface LabStatus {
  readonly name: string
  /** `up`; `starting` while it is made, or after that was interrupted. */
  readonly phase: 'starting' | 'up'
  readonly backend: LabBackend
  readonly topology: LabTopology
  readonly datastore: LabDatastore
  readonly ipv4: boolean
  readonly ipv6: boolean
  readonly podNetworks: readonly CidrText[]
  readonly kubeconfig: string
  readonly apiServer: string | null
  readonly directory: string
  readonly keeper: ProcessStatus
  readonly nodes: readonly NodeStatus[]
  readonly pods: readonly PodStatus[]
  readonly fabric: { readonly netns: string }
  readonly outside: { readonly netns: string; readonly ips: readonly IpText[] }
  /** Where nodes are a cloud's VMs. */
  readonly cloud: {
    readonly kind: 'neutron'
    readonly mode: CloudMode
    readonly process: ProcessStatus
    /** True once its services have been up. */
    readonly ready: boolean
    readonly clouds: string
    readonly router: { readonly netns: string }
    readonly log: string
  } | null
}

/** Throws `LabError` `not-found`. */
export function labStatus(name: string): LabStatus {
  const { record, paths } = requireRecord(name)
  const plan = planLab(record.spec)
  const view = observeLab(plan)
  const { keeper, agents } = readProcesses(paths)
  return {
    name: record.spec.name,
    phase: record.phase,
    backend: record.spec.backend,
    topology: record.spec.topology,
    datastore: record.spec.datastore,
    ipv4: record.spec.ipv4,
    ipv6: record.spec.ipv6,
    podNetworks: plan.podNetworks,
    kubeconfig: paths.kubeconfig,
    apiServer: record.apiPort === undefined ? null : `http://127.0.0.1:${record.apiPort}`,
    directory: paths.directory,
    keeper: { pid: keeper?.pid ?? null, alive: keeper !== undefined && isAlive(keeper) },
    nodes: plan.nodes.map((node) => {
      const agent = agents[node.name]
      const own = paths.node(node.name)
      return {
        name: node.name,
        netns: netnsPath(node.namespace),
        ips: node.underlay.map(({ ip }) => ip),
        podCIDRs: node.podCidrs,
        switch: node.switch,
        agent: {
          pid: agent?.pid ?? null,
          alive: agent !== undefined && isAlive(agent),
          restarts: agent?.restarts ?? 0,
        },
        cniSocket: own.cniSocket,
        healthSocket: own.healthSocket,
        root: own.root,
        log: own.log,
      }
    }),
    pods: plan.nodes.flatMap((node, n) =>
      node.pods.map((pod, i) => {
        const seen = view.nodes[n]?.pods[i]
        return {
          name: pod.name,
          node: node.name,
          netns: netnsPath(pod.namespace),
          containerId: pod.containerId,
          ips: seen?.ips ?? [],
          mtu: seen?.mtu ?? 0,
          hostPort: pod.hostPort ?? null,
        }
      }),
    ),
    fabric: { netns: netnsPath(plan.fabric.namespace) },
    outside: { netns: netnsPath(plan.outside.namespace), ips: plan.outside.addresses.map(({ ip }) => ip) },
    cloud: plan.cloud === undefined ? null : cloudStatus(plan.cloud, paths, agents[CLOUD_PROCESS]),
  }
}

function cloudStatus(cloud: CloudPlan, paths: LabPaths, running: AgentProcess | undefined): LabStatus['cloud'] {
  const own = cloudPaths(paths.directory)
  return {
    kind: cloud.kind,
    mode: cloud.mode,
    process: { pid: running?.pid ?? null, alive: running !== undefined && isAlive(running) },
    ready: readyPid(paths) === running?.pid,
    clouds: own.cloudsYaml,
    router: { netns: netnsPath(cloud.router) },
    log: own.log,
  }
}

/** The process that said it was ready; one that was killed has left its word behind. */
function readyPid(paths: LabPaths): number {
  try {
    return Number(readFileSync(readyFile(paths), 'utf8'))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0
    throw error
  }
}

/** True when everything that the lab consists of is there and alive. */
export const isWhole = (status: LabStatus): boolean =>
  status.phase === 'up' &&
  status.keeper.alive &&
  (status.cloud === null || (status.cloud.process.alive && status.cloud.ready)) &&
  status.nodes.every((node) => node.agent.alive && existsSync(node.netns)) &&
  status.pods.every((pod) => pod.ips.length > 0)
