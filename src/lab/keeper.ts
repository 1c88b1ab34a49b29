/**
 * The lab's one process of its own: the Kubernetes API, and the nodes' agents as its children.
 *
 * It ends on SIGTERM, its agents with it. Killed, it leaves agents and data path as they are.
 */

import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { startApiServer, type ApiServer } from '#kube/server/server.ts'
import { parseJson } from '#kube/body.ts'
import type { KubeObject } from '#kube/resource.ts'
import { flannelConfigMap, FLANNEL_CONFIGMAP, FLANNEL_NAMESPACE, flannelNamespace, nodeObject } from './objects.ts'
import { readyFile } from './cloud/cloud.ts'
import { cloudAgentArguments, cloudProcess } from './cloud/processes.ts'
import { etcdFlags, etcdProcess, startSeeding } from './etcd.ts'
import { netnsPath, type LabPaths } from './paths.ts'
import type { LabPlan } from './plan.ts'
import { MARK, processOf } from './process.ts'
import { labEnvironment, type Program } from './program.ts'
import { writeProcesses, type LabRecord } from './record.ts'
import { Supervisor, type Supervised } from './supervisor.ts'

export interface Keeper extends AsyncDisposable {
  readonly api: ApiServer
}

export interface KeeperOptions {
  readonly record: LabRecord
  readonly plan: LabPlan
  readonly paths: LabPaths
  readonly program: Program
  /** Listening sockets: of the machine's loopback, and of the fabric. */
  readonly sockets: readonly number[]
}

export async function startKeeper({ record, plan, paths, program, sockets }: KeeperOptions): Promise<Keeper> {
  const keeper = processOf(process.pid)
  const write = (): void => writeProcesses(paths, { keeper, agents: supervisor.processes() })
  const supervisor = new Supervisor(write)
  write()
  const ended = new AbortController()
  if (plan.cloud !== undefined) supervisor.start(cloudProcess(record, paths, program))
  if (plan.spec.datastore === 'etcd') {
    supervisor.start(etcdProcess(plan, record, paths))
    startSeeding(plan, record, paths, program)
  }
  const agents = plan.nodes.map(({ name, namespace }): Supervised => {
    const own = paths.node(name)
    return {
      name,
      file: program.file,
      args: [...program.args, 'agent', ...agentArguments(plan, name, paths)],
      env: labEnvironment({ [MARK]: record.id }),
      netns: netnsPath(namespace),
      log: own.log,
    }
  })
  // The first ones before the API, so that they load while it does: their connections wait in the listening socket's queue.
  const atOnce = availableParallelism() * 4
  const first = plan.cloud === undefined ? agents.slice(0, atOnce) : []
  for (const agent of first) supervisor.start(agent)
  try {
    const api = await startApiServer({ listen: sockets.map((fd) => ({ fd })) })
    // Before the first request can be read: nothing has been awaited since the sockets listen.
    seed(api, plan)
    const isLoaded = ({ name }: Supervised): boolean => existsSync(paths.node(name).cniSocket)
    const others = startOthers(
      supervisor,
      agents,
      first,
      { atOnce, isLoaded, isTime: () => plan.cloud === undefined || existsSync(readyFile(paths)) },
      ended.signal,
    )
    return {
      api,
      async [Symbol.asyncDispose]() {
        ended.abort()
        await others
        await supervisor[Symbol.asyncDispose]()
        await api.close()
      },
    }
  } catch (error) {
    await supervisor[Symbol.asyncDispose]()
    throw error
  }
}

/** Starts the remaining agents as those before them have loaded: a hundred at once would starve each other, and the API. */
async function startOthers(
  supervisor: Supervisor,
  agents: readonly Supervised[],
  first: readonly Supervised[],
  how: {
    readonly atOnce: number
    readonly isLoaded: (agent: Supervised) => boolean
    /** False: what agents need is not there yet. */
    readonly isTime: () => boolean
  },
  signal: AbortSignal,
): Promise<void> {
  const waiting = agents.slice(first.length)
  let loading = [...first]
  while (waiting.length > 0 && !signal.aborted) {
    await sleep(POLL_MS)
    if (!how.isTime()) continue
    loading = loading.filter((agent) => !how.isLoaded(agent))
    for (const agent of waiting.splice(0, how.atOnce - loading.length)) {
      if (signal.aborted) return
      supervisor.start(agent)
      loading.push(agent)
    }
  }
}

const POLL_MS = 20

/** Flags of a node's agent: everything of it below the node's own directory. */
export function agentArguments(plan: LabPlan, node: string, paths: LabPaths): string[] {
  const own = paths.node(node)
  if (plan.cloud !== undefined) return cloudAgentArguments(plan.cloud, node, paths)
  const kubernetes = [
    ['--kubeconfig', paths.innerKubeconfig],
    ['--net-config-map', `${FLANNEL_NAMESPACE}/${FLANNEL_CONFIGMAP}`],
  ].flat()
  return [
    ['--node-name', node],
    plan.spec.datastore === 'etcd' ? etcdFlags(plan) : kubernetes,
    ['--root', own.root],
    ['--socket', own.cniSocket],
    ['--health-listen', own.healthSocket],
    ['--iface', 'eth0'],
  ].flat()
}

function seed({ api }: ApiServer, plan: LabPlan): void {
  const create = (plural: string, body: KubeObject): void => {
    const type = api.registry.find('', 'v1', plural)
    const { name = '', namespace } = body.metadata ?? {}
    if (type === undefined) throw new Error(`the API server knows no ${plural}`)
    api.create({ type, namespace, name }, parseJson(JSON.stringify(body)))
  }
  if (plan.cloud === undefined) {
    create('namespaces', flannelNamespace())
    create('configmaps', flannelConfigMap(plan))
  }
  const now = new Date()
  for (const node of plan.nodes) create('nodes', nodeObject(node, now))
}
