/** Runs commands inside a lab. */

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { isNamespaceFile } from '#sys/netns.ts'
import { LabError } from './error.ts'
import { netnsPath } from './paths.ts'
import { planLab, podsOf, type PodPlan } from './plan.ts'
import { MARK } from './process.ts'
import { requireRecord } from './record.ts'

/** The namespace of a node, a pod, `outside` or `fabric`. Throws `LabError` `not-found`, naming the places there are. */
export function namespaceOf(
  lab: string,
  place: string,
): { readonly namespace: string; readonly kubeconfig: string; readonly id: string } {
  const { record, paths } = requireRecord(lab)
  const plan = planLab(record.spec)
  const places = new Map([
    ...plan.nodes.map((node) => [node.name, node.namespace] as const),
    ...podsOf(plan).map((pod) => [pod.name, pod.namespace] as const),
    ['outside', plan.outside.namespace] as const,
    ['fabric', plan.fabric.namespace] as const,
    ...(plan.cloud === undefined ? [] : [['router', plan.cloud.router] as const]),
  ])
  const namespace = places.get(place)
  if (namespace === undefined) {
    throw new LabError(
      'not-found',
      `lab ${lab} has no node or pod ${JSON.stringify(place)}`,
      `It has ${plan.nodes[0]?.name} to ${plan.nodes.at(-1)?.name}, ${range(podsOf(plan))}outside${plan.cloud === undefined ? '' : ', router'} and fabric.`,
    )
  }
  if (!isNamespaceFile(netnsPath(namespace))) {
    throw new LabError(
      'damaged',
      `the network namespace ${namespace} of lab ${lab} is gone`,
      `Make the lab anew: heddle lab down --name ${lab}, then heddle lab up.`,
    )
  }
  return { namespace, kubeconfig: paths.innerKubeconfig, id: record.id }
}

const range = (pods: readonly PodPlan[]): string =>
  pods.length === 0 ? '' : `${pods[0]?.name} to ${pods.at(-1)?.name}, `

/** Runs a command there, on this terminal, and gives its exit code (128 + signal as shells do). Like `ip netns exec`. */
export function labExec(lab: string, place: string, command: readonly string[]): Promise<number> {
  const { namespace, kubeconfig, id } = namespaceOf(lab, place)
  const [program = ''] = command
  // `ip netns exec` also gives the command a /sys of that namespace, which an excursion of this process cannot.
  const child = spawn('ip', ['netns', 'exec', namespace, ...command], {
    stdio: 'inherit',
    env: { ...process.env, KUBECONFIG: kubeconfig, [MARK]: id },
  })
  // Ctrl-C reaches the command by the terminal; what it does about it is its own affair.
  const ignore = (): void => {}
  process.on('SIGINT', ignore)
  const forward = (): void => void child.kill('SIGTERM')
  process.on('SIGTERM', forward)
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(
        new LabError(
          'failed',
          `cannot run ${JSON.stringify(program)} in ${place}: ${error.message}`,
          'The command ip is needed: apt-get install iproute2',
          { cause: error },
        ),
      ),
    )
    child.once('exit', (code, signal) => {
      process.off('SIGINT', ignore)
      process.off('SIGTERM', forward)
      resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL'])
    })
  })
}
