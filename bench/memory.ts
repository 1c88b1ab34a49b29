/** What an agent keeps resident in a cluster of thousands of nodes. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ipText } from '#ip/address.ts'
import { serveApi, startAgent, type Api } from './bed/agents.ts'
import { Bed } from './bed/bed.ts'
import type { Benchmark } from './benchmark.ts'
import { countEntries, machine, peerNodes } from './bed/cluster.ts'
import { until } from './bed/plugins.ts'
import { atMost } from './measurement.ts'

const PEERS = 5000
const SETTLE_MS = 5000

export const memory: Benchmark = {
  name: 'memory',
  about: `resident memory of the agent in a cluster of ${PEERS} nodes`,
  async run({ signal, progress }) {
    await using bed = new Bed(signal)
    const netns = await machine(bed, 'node')
    const api = await serveApi(netns, ipText('127.0.0.1'))
    await using _server = api.server
    seed(api)
    progress(`an agent among ${PEERS} nodes`)
    const started = startAgent(bed, netns, {
      node: 'node-0',
      api,
      root: join(bed.directory, 'root'),
      netConf: { Network: '10.0.0.0/8', Backend: { Type: 'vxlan' } },
    })
    const pid = started.child.pid ?? 0
    const before = performance.now()
    const isDone = async (): Promise<boolean> => {
      signal.throwIfAborted()
      // Looking at it costs the machine what the agent needs.
      await sleep(250)
      const { routes, neighbours, fdb } = await countEntries(netns).catch(() => NOTHING)
      return routes >= PEERS && neighbours >= PEERS && fdb >= PEERS
    }
    await until(isDone, () => started.child.exitCode === null, 60_000).catch((error: unknown) => {
      throw new Error(`the agent has not programmed ${PEERS} peers: ${started.lastWords()}`, { cause: error })
    })
    progress(`all programmed ${((performance.now() - before) / 1000).toFixed(1)} s after the start`)
    await sleep(SETTLE_MS, undefined, { signal })
    return [
      { what: `agent, ${PEERS} nodes, resident`, unit: 'MB', ours: status(pid, 'VmRSS'), budget: atMost(120) },
      { what: `agent, ${PEERS} nodes, peak`, unit: 'MB', ours: status(pid, 'VmHWM') },
    ]
  },
}

const NOTHING = { routes: 0, neighbours: 0, fdb: 0 }

/** A line of /proc/PID/status, in MB (2^20 bytes). */
function status(pid: number, key: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const found = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]
  if (found === undefined) throw new Error(`/proc/${pid}/status has no ${key}`)
  return Number(found) / 1024
}

/** Nodes about as large as they are in clusters: with labels, conditions and a list of images, which the agent must pass over. */
function seed(api: Api): void {
  const prefix = 'flannel.alpha.coreos.com'
  api.createNode('node-0', { metadata: { name: 'node-0' }, spec: { podCIDR: '10.244.0.0/24' } })
  for (const { name, annotations, podCidrs } of peerNodes(PEERS)) {
    const [podCIDR = ''] = podCidrs
    api.createNode(name, {
      metadata: {
        name,
        labels: Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`example.org/label-${i}`, `${name}-${i}`])),
        annotations: {
          [`${prefix}/kube-subnet-manager`]: 'true',
          [`${prefix}/backend-type`]: 'vxlan',
          [`${prefix}/backend-data`]: annotations.backendData ?? '',
          [`${prefix}/public-ip`]: annotations.publicIp ?? '',
        },
      },
      spec: { podCIDR, podCIDRs: [podCIDR] },
      status: {
        conditions: ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'].map((type) => ({
          type,
          status: 'False',
          reason: 'KubeletHasEnough',
          message: 'kubelet has as much of it as it needs',
        })),
        images: Array.from({ length: 20 }, (_, i) => ({
          names: [`registry.example/${name}/${i}@sha256:${String(i).repeat(64).slice(0, 64)}`],
          sizeBytes: 100_000_000 + i,
        })),
      },
    })
  }
}
