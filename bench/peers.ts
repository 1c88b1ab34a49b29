/** Thousands of peers programmed from nothing, against iproute2's batch mode with the same entries. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Desired } from '#state/entry.ts'
import type { Benchmark } from './benchmark.ts'
import { Bed } from './bed/bed.ts'
import { addDevice, ClusterNode, countEntries, DEVICE, machine, peerNodes } from './bed/cluster.ts'
import { atMost, compared } from './measurement.ts'
import { compare, interleave } from './pairs.ts'

const PEERS = 5000
const ROUNDS = 5

export const peers: Benchmark = {
  name: 'peers',
  about: `${PEERS} peers programmed from nothing: route, neighbour, FDB`,
  async run({ runs = ROUNDS, signal, progress }) {
    const views = peerNodes(PEERS)
    let programmed: Awaited<ReturnType<typeof countEntries>> | undefined

    const ours = async (round: number): Promise<number> => {
      progress(round === 0 ? 'warm-up' : `round ${round} of ${runs}`)
      await using bed = new Bed(signal)
      await using node = await ClusterNode.open(bed, 'ours')
      const plans = node.plan(views)
      const start = performance.now()
      node.want(plans)
      await node.settle()
      const took = performance.now() - start
      programmed = await countEntries(node.netns)
      if (programmed.routes < PEERS) throw new Error(`only ${programmed.routes} of ${PEERS} routes are there`)
      return took
    }

    const peer = async (): Promise<number> => {
      await using bed = new Bed(signal)
      await using planner = await ClusterNode.open(bed, 'planner')
      const batch = batches([...planner.plan(views).values()].flat(), bed.directory)
      const netns = await machine(bed, 'peer')
      await addDevice(netns)
      const start = performance.now()
      await netns.run('ip', '-batch', batch.ip)
      await netns.run('bridge', '-batch', batch.bridge)
      const took = performance.now() - start
      requireSame(programmed, await countEntries(netns))
      return took
    }

    const about = { what: `${PEERS} peers from nothing`, against: 'ip -batch, bridge -batch', unit: 'ms' } as const
    return [
      compared(
        { ...about, budget: atMost(0.7) },
        compare(await interleave({ pairs: runs, signal, limitMs: 40_000 }, ours, peer)),
      ),
    ]
  },
}

/** The commands that equal the entries, in the same order. */
function batches(desired: readonly Desired[], directory: string): { readonly ip: string; readonly bridge: string } {
  const ip: string[] = []
  const bridge: string[] = []
  for (const { entry } of desired) {
    if (entry.kind === 'route') ip.push(`route replace ${entry.dst} via ${entry.via} dev ${entry.dev} onlink proto 72`)
    if (entry.kind === 'neigh')
      ip.push(`neighbour replace ${entry.ip} lladdr ${entry.mac} dev ${entry.dev} nud permanent`)
    if (entry.kind === 'fdb') bridge.push(`fdb replace ${entry.mac} dev ${DEVICE} dst ${entry.dst} self permanent`)
  }
  const files = { ip: join(directory, 'ip.batch'), bridge: join(directory, 'bridge.batch') }
  writeFileSync(files.ip, ip.join('\n'))
  writeFileSync(files.bridge, bridge.join('\n'))
  return files
}

/** A comparison of different things is none. */
function requireSame(ours: unknown, peer: unknown): void {
  if (JSON.stringify(ours) !== JSON.stringify(peer))
    throw new Error(`the two sides programmed different things: ${JSON.stringify({ ours, peer })}`)
}
