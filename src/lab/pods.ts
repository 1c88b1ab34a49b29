/** The lab's container runtime: makes pods as containerd does, through the node's configuration list and the plugins' executables. */

import { setTimeout as sleep } from 'node:timers/promises'
import { parseConfList, type ConfList } from '#cni/runtime/conflist.ts'
import { createRuntime, type AttachmentRequest, type Runtime } from '#cni/runtime/runtime.ts'
import { CniError } from '#cni/errors.ts'
import { confOf, jsonText } from './network.ts'
import { POD_NAMESPACE } from './objects.ts'
import { netnsPath, type LabPaths } from './paths.ts'
import { POD_PORT, type LabPlan, type NodePlan, type PodPlan } from './plan.ts'
import type { Program } from './program.ts'

export interface PodRuntime {
  /** Runs ADD until it succeeds: "try again later" is asked again, as a kubelet does. Throws the last CniError when `timeoutMs` is over. */
  add(pod: PodPlan, timeoutMs: number): Promise<void>
  del(pod: PodPlan): Promise<void>
}

const RETRY_MS = 50
const TRY_AGAIN = 11

/** The runtime of one node: plugins start in its namespace and talk to its agent. */
export function podRuntime(plan: LabPlan, node: NodePlan, paths: LabPaths, program: Program): PodRuntime {
  const own = paths.node(node.name)
  const runtime: Runtime = createRuntime({
    path: [program.plugins],
    cacheDir: own.cniCache,
    netns: netnsPath(node.namespace),
    env: { HEDDLE_SOCKET: own.cniSocket },
    deadlineMs: 30_000,
  })
  const list: ConfList = parseConfList(jsonText(confOf(plan, paths)), 'the lab')
  return {
    async add(pod, timeoutMs) {
      const deadline = Date.now() + timeoutMs
      for (;;) {
        try {
          await runtime.add(list, requestFor(pod))
          return
        } catch (error) {
          if (!isTryAgain(error) || Date.now() >= deadline) throw error
          await runtime.del(list, requestFor(pod)).catch(() => undefined)
          await sleep(RETRY_MS)
        }
      }
    },
    del: (pod) => runtime.del(list, requestFor(pod)),
  }
}

const isTryAgain = (error: unknown): boolean => error instanceof CniError && error.code === TRY_AGAIN

/** The attachment as containerd asks for it. */
export const requestFor = (pod: PodPlan): AttachmentRequest => ({
  containerId: pod.containerId,
  netns: netnsPath(pod.namespace),
  ifname: 'eth0',
  args: [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', POD_NAMESPACE],
    ['K8S_POD_NAME', pod.name],
    ['K8S_POD_INFRA_CONTAINER_ID', pod.containerId],
  ],
  ...(pod.hostPort === undefined
    ? {}
    : {
        capabilityArgs: {
          portMappings: ['tcp', 'udp'].map((protocol) => ({
            hostPort: pod.hostPort ?? 0,
            containerPort: POD_PORT,
            protocol,
          })),
        },
      }),
})
