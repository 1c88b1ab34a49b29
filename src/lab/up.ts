/** Makes a lab. */

import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KubeClient } from '#kube/client.ts'
import { loadKubeConfig } from '#kube/config.ts'
import { nodes as nodeResource, pods as podResource } from '#kube/resources.ts'
import { hasCode } from '#sys/errno.ts'
import { startControlPlane, type Lab } from './control-plane.ts'
import { demolish, lockLab } from './down.ts'
import { LabError, messageOf } from './error.ts'
import { connect, makeNamespaces } from './fabric.ts'
import { isNetnsMount, makeDirectory } from './host.ts'
import { requireDevices } from './kinds.ts'
import { cniConf, jsonText } from './network.ts'
import { isNetworkAvailable, podObject, POD_NAMESPACE, readyCondition, runningStatus } from './objects.ts'
import { observeEth0 } from './observe.ts'
import { labPaths, netnsPath, type LabPaths } from './paths.ts'
import { namespacesOf, planLab, podsOf, type LabPlan, type NodePlan } from './plan.ts'
import { podRuntime } from './pods.ts'
import { ownProgram, type Program } from './program.ts'
import { readRecord, writeRecord, type LabRecord } from './record.ts'
import { labSpec, type LabSpec } from './spec.ts'
import { timed, type OnStep } from './steps.ts'

export interface UpOptions {
  readonly onStep?: OnStep
  /** Leave what was made when something fails, to be looked at. */
  readonly keep?: boolean
  /** Milliseconds that agents and pods may take to get ready; grows with the number of nodes unless given. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** Makes the lab and returns it, or removes what was made and throws: `LabError`, whose remedy names the log to read. */
export async function labUp(given: Partial<LabSpec>, options: UpOptions = {}): Promise<Lab> {
  const spec = labSpec(given)
  const paths = labPaths(spec.name)
  const program = ownProgram()
  const plan = planLab(spec)
  // Twice: before anything is made, and again when nobody else can be making it.
  refuseExisting(plan, paths)
  makeDirectory(paths.directory)
  using _lock = await lockLab(paths, 1000)
  refuseExisting(plan, paths)
  const record: LabRecord = {
    version: 1,
    id: randomUUID(),
    phase: 'starting',
    created: new Date().toISOString(),
    spec,
    madeNetnsMount: !isNetnsMount(),
  }
  writeRecord(paths, record)
  const progress: Progress = { at: 'the network' }
  try {
    return await build({ record, plan, paths }, program, progress, options)
  } catch (error) {
    const failure = failed(error, progress, paths, options.keep === true)
    if (options.keep !== true) await demolish(spec.name, paths, () => {})
    throw failure
  }
}

/** Where the work is, and which log tells more about it. */
interface Progress {
  at: string
  log?: string
}

function refuseExisting(plan: LabPlan, paths: LabPaths): void {
  const { name } = plan.spec
  const before = readRecord(paths)
  if (before !== undefined) {
    const state = before.phase === 'up' ? 'is up' : 'was begun and not finished'
    throw new LabError(
      'exists',
      `lab ${name} ${state} (${before.spec.nodes} nodes, ${before.spec.backend})`,
      `Remove it first: heddle lab down --name ${name}. Or give this one another --name.`,
    )
  }
  const taken = namespacesOf(plan).filter((namespace) => existsSync(netnsPath(namespace)))
  if (taken.length > 0) {
    throw new LabError(
      'exists',
      `network namespaces exist that this lab would make: ${taken.slice(0, 5).join(', ')}${taken.length > 5 ? ' …' : ''}`,
      'Give the lab another --name. If they are left over and nobody needs them: ip netns delete NAME.',
    )
  }
}

async function build(lab: Lab, program: Program, progress: Progress, options: UpOptions): Promise<Lab> {
  const { plan, paths } = lab
  const onStep: OnStep = (step, ms) => {
    options.onStep?.(step, ms)
    options.signal?.throwIfAborted()
  }
  const count = namespacesOf(plan).length
  await timed(
    onStep,
    () => ({ step: 'namespaces', count }),
    () => makeNamespaces(plan),
  )
  await requireDevices(plan)
  await timed(
    onStep,
    () => ({ step: 'network', nodes: plan.nodes.length, switches: plan.fabric.switches.length }),
    () => connect(plan),
  )
  writeNodeFiles(plan, paths)
  progress.at = 'the API server'
  progress.log = paths.keeperLog
  const started = await timed(
    onStep,
    ({ url }) => ({ step: 'api', url }),
    async () => startControlPlane(lab, program),
  )
  const { record } = started
  using client = new KubeClient(loadKubeConfig({ file: paths.kubeconfig }), { timeout: 60_000 })
  const deadline = Date.now() + (options.timeoutMs ?? 30_000 + 2000 * plan.nodes.length)
  await whileRunning(started.ended, async () => {
    const slot = limiter(16)
    await timed(
      onStep,
      () => ({ step: 'agents', nodes: plan.nodes.length }),
      () => waitForAgents(client, plan, deadline, progress, paths, options.signal),
    )
    await timed(
      onStep,
      () => ({ step: 'pods', pods: podsOf(plan).length }),
      () =>
        Promise.all(
          plan.nodes.map((node) =>
            slot(async () => {
              await startPods(client, node, { ...lab, record }, program, deadline).catch((error: unknown) => {
                progress.at = `the pods of ${node.name}`
                progress.log = paths.node(node.name).log
                throw error
              })
            }),
          ),
        ),
    )
  })
  const up: LabRecord = { ...record, phase: 'up' }
  writeRecord(paths, up)
  return { ...lab, record: up }
}

function writeNodeFiles(plan: LabPlan, paths: LabPaths): void {
  for (const { name } of plan.nodes) {
    const { root } = paths.node(name)
    const confDir = join(root, 'etc/cni/net.d')
    mkdirSync(confDir, { recursive: true })
    writeFileSync(join(confDir, '10-flannel.conflist'), jsonText(cniConf()))
  }
}

async function whileRunning<T>(ended: Promise<never>, work: () => Promise<T>): Promise<T> {
  try {
    return await Promise.race([work(), ended])
  } catch (error) {
    // A keeper that dies is first seen as a broken connection; its end is the better reason.
    await Promise.race([ended, sleep(100)])
    throw error
  }
}

/** Until every node's agent has cleared NetworkUnavailable. */
async function waitForAgents(
  client: KubeClient,
  plan: LabPlan,
  deadline: number,
  progress: Progress,
  paths: LabPaths,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (;;) {
    const { items } = await client.list(nodeResource)
    const ready = new Set(items.filter(isNetworkAvailable).map(({ metadata }) => metadata.name))
    const late = plan.nodes.find(({ name }) => !ready.has(name))
    if (late === undefined) return
    progress.at = `the agent of ${late.name}`
    progress.log = paths.node(late.name).log
    if (Date.now() >= deadline) throw new Error(`${plan.nodes.length - ready.size} agents are not ready`)
    // Every answer holds all nodes: a large lab is asked less often.
    await sleep(Math.max(50, 10 * plan.nodes.length), undefined, { signal })
  }
}

async function startPods(
  client: KubeClient,
  node: NodePlan,
  { paths }: Lab,
  program: Program,
  deadline: number,
): Promise<void> {
  const runtime = podRuntime(node, paths, program)
  for (const pod of node.pods) {
    await client.create(podResource, podObject(pod))
    await runtime.add(pod, Math.max(0, deadline - Date.now()))
    const ips = observeEth0(pod.namespace)?.ips ?? []
    const ref = { name: pod.name, namespace: POD_NAMESPACE }
    const body = { status: runningStatus(node, ips, new Date()) }
    await client.patch(podResource, ref, { type: 'merge', body }, { subresource: 'status' })
  }
  const body = { status: { conditions: [readyCondition(new Date())] } }
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

/** The failure with the last words of the log that belongs to it: the log goes with the lab. */
function failed(error: unknown, progress: Progress, paths: LabPaths, kept: boolean): unknown {
  if (error instanceof LabError || hasCode(error, 'ABORT_ERR')) return error
  const words = progress.log === undefined ? '' : lastLines(progress.log, 5)
  const log = progress.log === undefined ? '' : `\nLast lines of ${progress.log}:\n${words === '' ? '(empty)' : words}`
  return new LabError(
    'failed',
    `the lab did not come up: ${progress.at} failed: ${messageOf(error)}${log}`,
    kept
      ? `Everything was left for you to look at: ${paths.directory}. heddle lab down removes it.`
      : 'Everything was removed. With --keep it stays, logs too.',
    { cause: error },
  )
}

function lastLines(path: string, count: number): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-count).join('\n')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return ''
    throw error
  }
}
