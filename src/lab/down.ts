/** Takes a lab away, whatever is left of it. */

import { readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { hasCode } from '#sys/errno.ts'
import { lockFile, type FileLock } from '#sys/flock.ts'
import { LabError, messageOf } from './error.ts'
import { removeNamespaces } from './fabric.ts'
import { dropNetnsMount, isDirectory, removeEmptyUpTo } from './host.ts'
import { labPaths, labsDirectory, type LabPaths } from './paths.ts'
import { namespacesOf, planLab, type LabPlan } from './plan.ts'
import { podRuntime } from './pods.ts'
import { endProcesses, isAlive, markedProcesses, type ProcessId } from './process.ts'
import { ownProgram } from './program.ts'
import { readProcesses, readRecord, type LabProcesses, type LabRecord } from './record.ts'
import { labName } from './spec.ts'
import { timed, type OnStep } from './steps.ts'

export interface DownOptions {
  readonly onStep?: OnStep
  /** Milliseconds to wait for another command that works on the same lab. Default 30 s. */
  readonly lockMs?: number
  /** End processes and remove files only: the namespaces went with the user namespace that held them. */
  readonly keepNamespaces?: boolean
}

/** Between asking the lab's processes to end and killing them. */
const GRACE_MS = 4000
/** For the DEL of all pods together, and more for each: what is not done by then goes with its namespace. */
const DEL_MS = 15_000
const DEL_MS_PER_POD = 150

/**
 * Removes lab `name`: pods by DEL where their agent lives, then processes, namespaces and files. False when there was none.
 * Throws `LabError` `busy` while another command works on it.
 */
export async function labDown(name: string, options: DownOptions = {}): Promise<boolean> {
  const paths = labPaths(labName(name))
  if (!isDirectory(paths.directory)) return false
  using _lock = await lockLab(paths, options.lockMs ?? 30_000)
  if (!isDirectory(paths.directory)) return false
  await demolish(name, paths, options.onStep ?? (() => {}), options.keepNamespaces)
  return true
}

/** Only one command at a time changes a lab. The lock ends with its holder, so a killed one leaves none. */
export async function lockLab(paths: LabPaths, timeoutMs: number): Promise<FileLock> {
  try {
    return await lockFile(join(paths.directory, 'lock'), { timeoutMs })
  } catch (error) {
    if (!hasCode(error, 'timeout')) throw error
    throw new LabError(
      'busy',
      `another heddle command has been working on this lab for more than ${timeoutMs / 1000} s (${paths.directory})`,
      'Wait for it, or end it and repeat this one.',
      { cause: error },
    )
  }
}

/** The work of `labDown`, for who holds the lock already. */
export async function demolish(name: string, paths: LabPaths, onStep: OnStep, keepNamespaces = false): Promise<void> {
  const record = recordOrNothing(paths)
  const plan = record === undefined ? undefined : planLab(record.spec)
  const processes = readProcesses(paths)
  if (plan !== undefined && !keepNamespaces) await deletePods(plan, paths, processes, onStep)
  await timed(
    onStep,
    (count) => ({ step: 'processes-ended', count }),
    () => endAll(record, processes),
  )
  const named = new Set([...(plan === undefined ? [] : namespacesOf(plan)), ...namespacesNamed(name)])
  await timed(
    onStep,
    (count) => ({ step: 'namespaces-removed', count }),
    () => (keepNamespaces ? 0 : removeNamespaces([...named])),
  )
  await timed(
    onStep,
    () => ({ step: 'files-removed', directory: paths.directory }),
    () => {
      // The record goes last but one, the lock last: a `down` that is killed here can be repeated.
      rmSync(paths.directory, { recursive: true, force: true })
      removeEmptyUpTo(labsDirectory(), dirname(dirname(labsDirectory())))
      if (record?.madeNetnsMount === true) dropNetnsMount()
    },
  )
}

/** A damaged record must not keep what it described. */
function recordOrNothing(paths: LabPaths): LabRecord | undefined {
  try {
    return readRecord(paths)
  } catch (error) {
    if (error instanceof LabError) return undefined
    throw error
  }
}

/** Names of the form that only lab `name` gives: `lab-worker-1` belongs to lab `lab` and to no lab `lab-worker`. */
function namespacesNamed(name: string): string[] {
  const form = new RegExp(`^${name}-(fabric|outside|router|worker-\\d+|pod-\\d+-\\d+)$`)
  try {
    return readdirSync('/run/netns').filter((entry) => form.test(entry))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** Where no agent lives, nothing but the node's namespace and directory holds state of a pod, and both go anyway. */
async function deletePods(plan: LabPlan, paths: LabPaths, processes: LabProcesses, onStep: OnStep): Promise<void> {
  const served = plan.nodes.filter(({ name }) => {
    const agent = processes.agents[name]
    return agent !== undefined && isAlive(agent)
  })
  const pods = served.flatMap((node) => node.pods.map((pod) => ({ node, pod })))
  if (pods.length === 0) return
  await timed(
    onStep,
    (failures: readonly string[]) => ({ step: 'pods-deleted', pods: pods.length, failures }),
    async () => {
      const program = ownProgram()
      const failures: string[] = []
      const ms = DEL_MS + DEL_MS_PER_POD * pods.length
      const late = AbortSignal.timeout(ms)
      const queue = [...pods]
      const open = new Set(pods.map(({ pod }) => pod.name))
      const worker = async (): Promise<void> => {
        for (let next = queue.shift(); next !== undefined && !late.aborted; next = queue.shift()) {
          const { node, pod } = next
          await podRuntime(plan, node, paths, program)
            .del(pod)
            .catch((error: unknown) => failures.push(`${pod.name}: ${messageOf(error)}`))
          open.delete(pod.name)
        }
      }
      const end = new Promise<void>((resolve) => late.addEventListener('abort', () => resolve()))
      await Promise.race([Promise.all(Array.from({ length: 16 }, worker)), end])
      return [...failures, ...[...open].map((name) => `${name}: not done in ${ms / 1000} s`)]
    },
  )
}

/** The keeper first, so that it starts no agent again; then all that carries the lab's mark, until none is left. Returns how many ended. */
async function endAll(record: LabRecord | undefined, { keeper, agents }: LabProcesses): Promise<number> {
  const marked = (): ProcessId[] => (record === undefined ? [] : markedProcesses(record.id))
  const recorded = [...(keeper === undefined ? [] : [keeper]), ...Object.values(agents)].filter(isAlive)
  const pids = new Set([...recorded, ...marked()].map(({ pid }) => pid))
  await end(recorded.filter(({ pid }) => pid === keeper?.pid))
  await end(recorded.filter(isAlive))
  // A process may have started another one while it was looked for.
  for (let round = 0; round < 5; round++) {
    const left = marked()
    if (left.length === 0) break
    for (const { pid } of left) pids.add(pid)
    await end(left)
  }
  return pids.size
}

async function end(targets: readonly ProcessId[]): Promise<void> {
  const left = await endProcesses(targets, GRACE_MS)
  if (left.length === 0) return
  throw new LabError(
    'failed',
    `processes of the lab do not end, not even by SIGKILL: ${left.map(({ pid }) => pid).join(', ')}`,
    'They hang in the kernel (see /proc/PID/stack); repeat heddle lab down when they are gone.',
  )
}
