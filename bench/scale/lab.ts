/** A real lab of many nodes, each with an agent of its own: how long it takes, what it holds, and how fast word of a node goes round. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Node } from 'kubernetes-types/core/v1.js'

import { clusterConfig } from '#agent/cluster.ts'
import { cidrText } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { KubeClient } from '#kube/client.ts'
import { listAll } from '#kube/list.ts'
import { nodes as nodeResource } from '#kube/resources.ts'
import { labPaths } from '#lab/paths.ts'
import { listRoutes } from '#netlink/route.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { Bed } from '../bed/bed.ts'
import { heddle } from '../bed/paths.ts'
import { median } from '../statistics.ts'
import type { Row } from './row.ts'

export interface LabScale {
  readonly nodes: number
  readonly runs: number
  readonly signal: AbortSignal
  readonly progress: (text: string) => void
}

const UP_MS = 900_000
const CONVERGE_MS = 120_000
const IDLE_MS = 10_000
/** USER_HZ of every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100

export async function labScale({ nodes: count, runs, signal, progress }: LabScale): Promise<readonly Row[]> {
  await using bed = new Bed(signal)
  const name = `hs${process.pid}`
  const base = join(bed.memory, 'l')
  const lab = (verb: string, ...args: readonly string[]): Promise<string> =>
    bed.run(heddle, ['lab', verb, '--name', name, ...args], {
      env: { HEDDLE_LAB_DIR: base, LC_ALL: 'C.UTF-8' },
      timeoutMs: UP_MS,
    })
  await using stack = new AsyncDisposableStack()
  // Also after an interrupt, when the bed starts nothing any more.
  stack.defer(() => down(name, base))
  const rows: Row[] = []
  const timed = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    progress(what)
    const start = performance.now()
    await work()
    rows.push({ what, value: (performance.now() - start) / 1000, unit: 's' })
  }
  await timed(`lab up, ${count} nodes with a pod each`, () =>
    lab('up', '--nodes', String(count), '--pods', '1', '--timeout', String(UP_MS / 1000)),
  )
  let failed = 0
  await timed('lab check: every pod reaches every other, and whatever else it checks', async () => {
    failed = await lab('check').then(() => 0, failedChecks)
  })
  rows.push({ what: 'checks that failed', value: failed, unit: '' })
  const paths = labPaths(name, base)
  const agents = agentsBelow(paths.directory)
  if (agents.length !== count) throw new Error(`${agents.length} agents run on ${count} nodes`)
  const resident = agents.map((pid) => status(pid, 'VmRSS'))
  const proportional = agents.map(proportionalSize)
  rows.push({ what: 'an agent, resident, the largest', value: Math.max(...resident), unit: 'MB' })
  rows.push({ what: 'all agents, shared memory counted once', value: sum(proportional), unit: 'MB' })
  progress(`idle for ${IDLE_MS / 1000} s`)
  const before = sum(agents.map(processorTime))
  await sleep(IDLE_MS, undefined, { signal })
  const used = (sum(agents.map(processorTime)) - before) / (IDLE_MS / 1000)
  rows.push({ what: `all ${count} agents at rest`, value: used * 100, unit: '% of a processor' })
  using client = new KubeClient(clusterConfig(paths.kubeconfig, undefined), { userAgent: 'heddle-scale' })
  const times = await leaveAndJoin(client, name, runs, signal, progress)
  rows.push({ what: `a Node goes: until no other node has its route`, value: median(times.leave), unit: 'ms' })
  rows.push({ what: `it comes: from its object to the route on every node`, value: median(times.join), unit: 'ms' })
  return rows
}

/** A check that fails is a figure; a check that does not take place is an error. */
function failedChecks(error: unknown): number {
  const count = /(\d+) of \d+ checks failed/.exec(String(error))?.[1]
  if (count === undefined) throw error
  process.stderr.write(`scale: ${String(error)}\n`)
  return Number(count)
}

async function down(name: string, base: string): Promise<void> {
  await using bed = new Bed(new AbortController().signal)
  await bed.run(heddle, ['lab', 'down', '--name', name], { env: { HEDDLE_LAB_DIR: base }, timeoutMs: 300_000 })
}

async function leaveAndJoin(
  client: KubeClient,
  lab: string,
  runs: number,
  signal: AbortSignal,
  progress: (text: string) => void,
): Promise<{ readonly leave: readonly number[]; readonly join: readonly number[] }> {
  const { items } = await listAll(client, nodeResource, (node) => node)
  const last = items.at(-1)
  const name = last?.metadata.name
  const subnet = last?.spec?.podCIDR
  if (last === undefined || name === undefined || subnet === undefined)
    throw new Error('the lab has no Node with a podCIDR')
  using stack = new DisposableStack()
  const others = items
    .flatMap(({ metadata }) => (metadata.name === name ? [] : [`/run/netns/${lab}-${metadata.name}`]))
    .map((netns) => stack.use(NetlinkSocket.open({ netns })))
  const dst = cidrText(subnet)
  const leave: number[] = []
  const join: number[] = []
  for (let i = 0; i < runs; i++) {
    progress(`${name} leaves and joins, ${i + 1} of ${runs}`)
    await until(others, dst, true, signal)
    const start = performance.now()
    await client.delete(nodeResource, { name })
    await until(others, dst, false, signal)
    leave.push(performance.now() - start)
    // What its kubelet would register; the annotations are its agent's to write.
    const again: Node = {
      metadata: { name, ...(last.metadata.labels === undefined ? {} : { labels: last.metadata.labels }) },
      ...(last.spec === undefined ? {} : { spec: last.spec }),
    }
    const created = performance.now()
    await client.create(nodeResource, again)
    await until(others, dst, true, signal)
    join.push(performance.now() - created)
  }
  return { leave, join }
}

/** Until all of them have the route, or none. */
async function until(
  sockets: readonly NetlinkSocket[],
  dst: CidrText,
  wanted: boolean,
  signal: AbortSignal,
): Promise<void> {
  let open = sockets
  const deadline = performance.now() + CONVERGE_MS
  const has = (socket: NetlinkSocket): boolean =>
    listRoutes(socket, { table: RT_TABLE.MAIN, family: 4 }).some((route) => route.dst === dst)
  while (open.length > 0) {
    if (performance.now() > deadline)
      throw new Error(`${open.length} nodes ${wanted ? 'lack' : 'have'} the route to ${dst} after ${CONVERGE_MS} ms`)
    open = open.filter((socket) => has(socket) !== wanted)
    await sleep(5, undefined, { signal })
  }
}

/** Agents whose files lie below a folder. */
function agentsBelow(folder: string): readonly number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      const words = read(`/proc/${pid}/cmdline`).split('\0')
      return words.includes('agent') && words.some((word) => word.startsWith(`${folder}/nodes/`))
    })
    .map(Number)
}

/** In MB (2^20 bytes). */
const status = (pid: number, key: string): number => kilobytes(`/proc/${pid}/status`, key) / 1024
const proportionalSize = (pid: number): number => kilobytes(`/proc/${pid}/smaps_rollup`, 'Pss') / 1024
const kilobytes = (path: string, key: string): number =>
  Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(read(path))?.[1] ?? Number.NaN)

/** Seconds of user and kernel time so far. Source: proc_pid_stat(5), fields 14 and 15. */
function processorTime(pid: number): number {
  const text = read(`/proc/${pid}/stat`)
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
