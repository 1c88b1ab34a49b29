/** Makes every node's pods, in the API and in the kernel. */

import type { KubeClient } from '#kube/client.ts'
import { nodes as nodeResource, pods as podResource } from '#kube/resources.ts'
import type { Lab } from './control-plane.ts'
import { networkCondition, podObject, POD_NAMESPACE, readyCondition, runningStatus } from './objects.ts'
import { observeEth0 } from './observe.ts'
import { hasMark, type NodePlan } from './plan.ts'
import { podRuntime } from './pods.ts'
import type { Program } from './program.ts'
import type { Progress } from './steps.ts'

const NODES_AT_ONCE = 16

/** Throws what the first pod's ADD throws that does not succeed before the deadline. */
export async function startAllPods(
  client: KubeClient,
  lab: Lab,
  program: Program,
  deadline: number,
  progress: Progress,
): Promise<void> {
  const slot = limiter(NODES_AT_ONCE)
  await Promise.all(
    lab.plan.nodes.map((node) =>
      slot(async () => {
        await startPods(client, node, lab, program, deadline).catch((error: unknown) => {
          progress.at = `the pods of ${node.name}`
          progress.log = lab.paths.node(node.name).log
          throw error
        })
      }),
    ),
  )
}

async function startPods(
  client: KubeClient,
  node: NodePlan,
  { plan, paths }: Lab,
  program: Program,
  deadline: number,
): Promise<void> {
  const runtime = podRuntime(plan, node, paths, program)
  for (const pod of node.pods) {
    await client.create(podResource, podObject(pod))
    await runtime.add(pod, Math.max(0, deadline - Date.now()))
    const ips = observeEth0(pod.namespace)?.ips ?? []
    const ref = { name: pod.name, namespace: POD_NAMESPACE }
    const body = { status: runningStatus(node, ips, new Date()) }
    await client.patch(podResource, ref, { type: 'merge', body }, { subresource: 'status' })
  }
  const now = new Date()
  // That nobody clears.
  const network = hasMark(plan) ? [] : [networkCondition(now)]
  const body = { status: { conditions: [readyCondition(now), ...network] } }
  await client.patch(nodeResource, { name: node.name }, { type: 'strategic', body }, { subresource: 'status' })
}

/** At most `size` at a time. */
function limiter(size: number): (work: () => Promise<void>) => Promise<void> {
  let free = size
  const waiting: (() => void)[] = []
  return async (work) => {
    if (free > 0) free--
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) free++
      else next()
    }
  }
}
