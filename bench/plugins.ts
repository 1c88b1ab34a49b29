/** ADD and DEL of each plugin by itself against its twin, one pod after the other. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { JsonObject } from '#cni/json.ts'
import { inTurns } from './attach.ts'
import type { Benchmark } from './benchmark.ts'
import { CniNode, type Plugins, type Pod } from './bed/attach.ts'
import { Bed, type Namespace } from './bed/bed.ts'
import { referencePlugins } from './bed/paths.ts'
import { own, reference, referenceMissing } from './bed/plugins.ts'
import { atMost, compared, type Measurement } from './measurement.ts'
import { compareRounds, timeLimit } from './pairs.ts'

const PODS = 10
const ROUNDS = 5
const LIMIT_MS = 15_000

type Configs = (pod: Pod, node: CniNode) => readonly JsonObject[]

interface Case {
  readonly name: string
  readonly types: readonly string[]
  readonly configs: Configs
  /** Makes what the plugin needs on the node. */
  readonly prepare?: (netns: Namespace) => Promise<void>
}

const NAME = { cniVersion: '1.0.0', name: 'bench' }

const ipam = (node: CniNode): JsonObject => ({
  type: 'host-local',
  ranges: [[{ subnet: '10.89.0.0/16' }]],
  dataDir: join(node.directory, 'networks'),
})

const bridge = (node: CniNode): JsonObject => ({
  ...NAME,
  type: 'bridge',
  bridge: 'cni0',
  isGateway: true,
  ipam: ipam(node),
})

const behindBridge = (name: string, config: JsonObject): Case => ({
  name,
  types: ['bridge', name],
  configs: (_pod, node) => [bridge(node), { ...NAME, type: name, ...config }],
})

const CASES: readonly Case[] = [
  { name: 'loopback', types: ['loopback'], configs: () => [{ ...NAME, type: 'loopback' }] },
  { name: 'bridge', types: ['bridge'], configs: (_pod, node) => [bridge(node)] },
  { name: 'ptp', types: ['ptp'], configs: (_pod, node) => [{ ...NAME, type: 'ptp', ipam: ipam(node) }] },
  {
    name: 'macvlan',
    types: ['macvlan'],
    configs: (_pod, node) => [{ ...NAME, type: 'macvlan', master: 'eth0', ipam: ipam(node) }],
    prepare: async ({ run }) => {
      await run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire')
      for (const dev of ['wire', 'eth0']) await run('ip', 'link', 'set', dev, 'up')
    },
  },
  behindBridge('tuning', { sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1' } }),
  behindBridge('bandwidth', { ingressRate: 1e8, ingressBurst: 1e6, egressRate: 1e8, egressBurst: 1e6 }),
  behindBridge('firewall', { backend: 'iptables' }),
]

/** The same programs with other configurations. */
const withCase =
  (plugins: (netns: Namespace, directory: string) => Promise<Plugins>, { types, configs, prepare }: Case) =>
  async (netns: Namespace, directory: string): Promise<Plugins> => {
    await prepare?.(netns)
    return { ...(await plugins(netns, directory)), types, configs }
  }

export const plugins: Benchmark = {
  name: 'plugins',
  about: 'ADD and DEL of each plugin by itself, or behind bridge',
  obstacle: referenceMissing,
  async run({ runs = ROUNDS, signal, progress }) {
    const measured: Measurement[] = []
    for (const one of CASES) {
      if (one.types.some((type) => !existsSync(join(referencePlugins, type)))) continue
      progress(one.name)
      measured.push(...(await measure(one, runs, signal)))
    }
    return measured
  },
}

async function measure(one: Case, runs: number, signal: AbortSignal): Promise<readonly Measurement[]> {
  await using bed = new Bed(signal)
  const ours = await CniNode.make(bed, 'ours', PODS, withCase(own(bed), one))
  const peer = await CniNode.make(bed, 'peer', PODS, withCase(reference, one))
  const rounds = {
    ADD: { ours: [] as number[][], peer: [] as number[][] },
    DEL: { ours: [] as number[][], peer: [] as number[][] },
  }
  const isLate = timeLimit(LIMIT_MS)
  const warmup = 2
  for (let round = 0; round < warmup + runs; round++) {
    if (round > warmup && isLate()) break
    const add = await inTurns(signal, ours, peer, (node, pod) => node.add([pod]))
    const del = await inTurns(signal, ours, peer, (node, pod) => node.del([pod]))
    if (round < warmup) continue
    rounds.ADD.ours.push(add.ours)
    rounds.ADD.peer.push(add.peer)
    rounds.DEL.ours.push(del.ours)
    rounds.DEL.peer.push(del.peer)
  }
  const what = one.types.join(' + ')
  return (['ADD', 'DEL'] as const).map((verb) =>
    compared(
      {
        what: `${what}: ${verb}, p50`,
        against: 'reference plugins',
        unit: 'ms',
        budget: atMost(verb === 'ADD' ? 0.25 : 0.5),
      },
      compareRounds(rounds[verb], 0.5),
    ),
  )
}
