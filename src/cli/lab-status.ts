/** `heddle lab status` and `list`. */

import { LabError } from '#lab/error.ts'
import { labPaths } from '#lab/paths.ts'
import { labNames, readRecord } from '#lab/record.ts'
import { isWhole, labStatus, type LabStatus, type NodeStatus, type PodStatus } from '#lab/status.ts'
import { EXIT_FAILED } from './fail.ts'
import { print } from './lab-text.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { table } from './table.ts'

/** Exit code 1 when a part of the lab is missing or not running. */
export function runStatus(name: string, { json }: { readonly json: boolean }): void {
  const status = labStatus(name)
  print(json ? JSON.stringify({ ...status, ok: isWhole(status) }, undefined, 2) : textOf(status))
  if (!isWhole(status)) process.exitCode = EXIT_FAILED
}

const aliveText = ({ pid, alive }: { readonly pid: number | null; readonly alive: boolean }): string =>
  alive ? say('lab.status.alive', { pid: pid ?? '' }) : say('lab.status.dead')

const namespaceOf = ({ netns }: { readonly netns: string }): string => netns.replace('/run/netns/', '')

function textOf(status: LabStatus): string {
  const { name, topology, cloud } = status
  const backend = cloud === null ? status.backend : `${cloud.kind}/${cloud.mode}`
  const nodes = table<NodeStatus>(
    [
      { title: say('lab.column.node'), value: (node) => node.name },
      { title: say('lab.column.addresses'), value: (node) => node.ips.join(' ') },
      { title: say('lab.column.podCIDRs'), value: (node) => node.podCIDRs.join(' ') },
      { title: say('lab.column.switch'), value: (node) => node.switch },
      {
        title: say('lab.column.agent'),
        value: (node) => aliveText(node.agent),
        style: (node) => (node.agent.alive ? 'good' : 'bad'),
      },
      { title: say('lab.column.restarts'), value: (node) => node.agent.restarts, align: 'right' },
      { title: say('lab.column.namespace'), value: namespaceOf },
    ],
    status.nodes,
  )
  const pods = table<PodStatus>(
    [
      { title: say('lab.column.pod'), value: (pod) => pod.name },
      { title: say('lab.column.node'), value: (pod) => pod.node },
      {
        title: say('lab.column.addresses'),
        value: (pod) => pod.ips.join(' '),
        style: (pod) => (pod.ips.length > 0 ? undefined : 'bad'),
      },
      { title: say('lab.column.mtu'), value: (pod) => pod.mtu, align: 'right' },
      { title: say('lab.column.hostPort'), value: (pod) => pod.hostPort ?? undefined, align: 'right' },
      { title: say('lab.column.namespace'), value: namespaceOf },
    ],
    status.pods,
  )
  return [
    style('heading', say('lab.status.title', { name, backend, topology, phase: say(`lab.phase.${status.phase}`) })),
    '',
    nodes,
    '',
    pods,
    '',
    say('lab.status.api', { url: status.apiServer ?? '-', state: aliveText(status.keeper) }),
    ...(cloud === null ? [] : [say('lab.status.cloud', { clouds: cloud.clouds, state: aliveText(cloud.process) })]),
    say('lab.status.kubeconfig', { path: status.kubeconfig }),
    say('lab.status.logs', { path: `${status.directory}/{keeper.log,nodes/*/agent.log}` }),
  ].join('\n')
}

interface Row {
  readonly name: string
  readonly phase: 'up' | 'starting' | 'damaged'
  readonly backend?: string
  readonly topology?: string
  readonly nodes?: number
  readonly pods?: number
  readonly created?: string
}

export function runList({ json }: { readonly json: boolean }): void {
  const rows = labNames().map(rowOf)
  if (json) print(JSON.stringify(rows, undefined, 2))
  else if (rows.length === 0) print(say('lab.list.none'))
  else {
    print(
      table<Row>(
        [
          { title: say('lab.column.name'), value: (row) => row.name },
          {
            title: say('lab.column.phase'),
            value: (row) => say(`lab.phase.${row.phase}`),
            style: (row) => (row.phase === 'up' ? 'good' : 'warning'),
          },
          { title: say('lab.column.backend'), value: (row) => row.backend },
          { title: say('lab.column.topology'), value: (row) => row.topology },
          { title: say('lab.column.nodes'), value: (row) => row.nodes, align: 'right' },
          { title: say('lab.column.pods'), value: (row) => row.pods, align: 'right' },
          { title: say('lab.column.created'), value: (row) => row.created },
        ],
        rows,
      ),
    )
  }
}

function rowOf(name: string): Row {
  try {
    const record = readRecord(labPaths(name))
    if (record === undefined) return { name, phase: 'damaged' }
    const { topology, nodes, podsPerNode, cloud } = record.spec
    const backend = cloud === undefined ? record.spec.backend : `${cloud.kind}/${cloud.mode}`
    return { name, phase: record.phase, backend, topology, nodes, pods: nodes * podsPerNode, created: record.created }
  } catch (error) {
    if (error instanceof LabError) return { name, phase: 'damaged' }
    throw error
  }
}
