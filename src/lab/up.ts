/** Makes a lab. */

import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KubeClient } from '#kube/client.ts'
import { loadKubeConfig } from '#kube/config.ts'
import { nodes as nodeResource } from '#kube/resources.ts'
import { hasCode } from '#sys/errno.ts'
import { connectCloud } from './cloud/fabric.ts'
import { giveFloatingIps } from './cloud/floating.ts'
import { cniFile } from './cloud/network.ts'
import { programServices } from './cloud/services.ts'
import { cloudPaths } from './cloud/state.ts'
import { requireCloud, waitForCloud, waitForSockets } from './cloud/up.ts'
import { startControlPlane, whileRunning, type Lab } from './control-plane.ts'
import { demolish, lockLab } from './down.ts'
import { LabError, messageOf } from './error.ts'
import { requireEtcd } from './etcd.ts'
import { connect, makeNamespaces } from './fabric.ts'
import { isNetnsMount, makeDirectory } from './host.ts'
import { requireDevices } from './kinds.ts'
import { confOf, jsonText, pluginsOf } from './network.ts'
import { isNetworkAvailable } from './objects.ts'
import { labPaths, netnsPath, type LabPaths } from './paths.ts'
import { hasMark, namespacesOf, planLab, podsOf, type LabPlan } from './plan.ts'
import { ownProgram, type Program } from './program.ts'
import { readRecord, writeRecord, type LabRecord } from './record.ts'
import { labSpec, type LabSpec } from './spec.ts'
import { startAllPods } from './start-pods.ts'
import { timed, type OnStep, type Progress } from './steps.ts'

/** Keystone's and Neutron's databases are made, and both started, on a machine that has other things to do. */
const CLOUD_MS = 300_000

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

function refuseExisting(plan: LabPlan, paths: LabPaths): void {
  const { name } = plan.spec
  const before = readRecord(paths)
  if (before !== undefined) {
    const state = before.phase === 'up' ? 'is up' : 'was begun and not finished'
    throw new LabError(
      'exists',
      `lab ${name} ${state} (${before.spec.nodes} nodes, ${before.spec.cloud?.kind ?? before.spec.backend})`,
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
  if (plan.spec.datastore === 'etcd') requireEtcd()
  if (plan.cloud !== undefined) await requireCloud(plan, plan.cloud)
  await timed(
    onStep,
    () => ({ step: 'network', nodes: plan.nodes.length, switches: plan.fabric.switches.length }),
    () => (plan.cloud === undefined ? connect(plan) : connectCloud(plan, plan.cloud)),
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
  const { cloud } = plan
  await whileRunning(started.ended, async () => {
    if (cloud !== undefined) {
      const patience = { deadline: Date.now() + (options.timeoutMs ?? CLOUD_MS), signal: options.signal }
      await timed(
        onStep,
        () => ({ step: 'cloud', nodes: plan.nodes.length, clouds: cloudPaths(paths.directory).cloudsYaml }),
        () => waitForCloud(paths, progress, patience),
      )
    }
    const deadline = Date.now() + (options.timeoutMs ?? 30_000 + 2000 * plan.nodes.length)
    const patience = { deadline, signal: options.signal }
    await timed(
      onStep,
      () => ({ step: 'agents', nodes: plan.nodes.length }),
      () =>
        hasMark(plan)
          ? waitForAgents(client, plan, deadline, progress, paths, options.signal)
          : waitForSockets(plan, paths, progress, patience),
    )
    await timed(
      onStep,
      () => ({ step: 'pods', pods: podsOf(plan).length, plugins: pluginsOf(confOf(plan, paths)) }),
      () => startAllPods(client, { ...lab, record }, program, deadline, progress),
    )
    if (cloud === undefined) return
    await programServices(plan)
    await timed(
      onStep,
      () => ({ step: 'floating-ips' }),
      () => giveFloatingIps(plan, paths),
    )
  })
  const up: LabRecord = { ...record, phase: 'up' }
  writeRecord(paths, up)
  return { ...lab, record: up }
}

function writeNodeFiles(plan: LabPlan, paths: LabPaths): void {
  for (const { name } of plan.nodes) {
    const own = paths.node(name)
    const flannel = join(own.root, 'etc/cni/net.d/10-flannel.conflist')
    const file = plan.cloud === undefined ? flannel : cniFile(own)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, jsonText(confOf(plan, paths)))
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
