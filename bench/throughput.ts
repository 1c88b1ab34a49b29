/** One TCP stream from pod to pod across nodes: over what our agents and plugins made, against the same made by hand. */

import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import type { Benchmark, BenchmarkContext } from './benchmark.ts'
import { Bed } from './bed/bed.ts'
import { until } from './bed/plugins.ts'
import { commandExists } from './bed/process.ts'
import { handMadePair, ownPair, type Backend, type PodPair } from './bed/two-nodes.ts'
import { atLeast, compared, type Measurement } from './measurement.ts'
import { compare, interleave } from './pairs.ts'

const RUNS = 9
const SECONDS = 1

const obstacle = (): string | undefined =>
  commandExists('iperf3') ? undefined : 'iperf3 is missing: apt-get install iperf3'

export const throughput: Benchmark = {
  name: 'throughput',
  about: 'one TCP stream from pod to pod, VXLAN and host-gw',
  obstacle,
  run: async (context) => [await measure(context, 'vxlan'), await measure(context, 'host-gw')],
}

/** The relay against what it has to beat: flannel's loop, and what the kernel does by itself. */
export const relay: Benchmark = {
  name: 'udp',
  about: "one TCP stream over the udp backend, against flannel's loop and kernel VXLAN",
  obstacle,
  run: async (context) => [
    await race(context, 'udp', "flannel's loop", 3),
    await race(context, 'vxlan', 'kernel VXLAN', 0.5),
  ],
}

async function race(
  { runs = RUNS, signal, progress }: BenchmarkContext,
  other: Backend,
  against: string,
  budget: number,
): Promise<Measurement> {
  await using bed = new Bed(signal)
  progress(`two nodes by agents with udp, two by hand with ${against}`)
  await using ours = await ownPair(bed, 'ours', 'udp')
  const peer = await handMadePair(bed, 'hand', other)
  await Promise.all([serve(bed, ours), serve(bed, peer)])
  const stream = (pair: PodPair) => () => gigabits(bed, pair)
  const rates = await interleave({ pairs: runs, signal, limitMs: 30_000 }, stream(ours), stream(peer))
  return compared({ what: 'udp, one TCP stream', against, unit: 'Gbit/s', budget: atLeast(budget) }, compare(rates))
}

async function measure({ runs = RUNS, signal, progress }: BenchmarkContext, backend: Backend): Promise<Measurement> {
  await using bed = new Bed(signal)
  progress(`${backend}: two nodes by agents, two by hand`)
  await using ours = await ownPair(bed, 'ours', backend)
  const peer = await handMadePair(bed, 'hand', backend)
  await Promise.all([serve(bed, ours), serve(bed, peer)])
  progress(`${backend}: ${runs} pairs of ${SECONDS} s`)
  const stream = (pair: PodPair) => () => gigabits(bed, pair)
  const rates = await interleave({ pairs: runs, signal, limitMs: 30_000 }, stream(ours), stream(peer))
  const about = { what: `${backend}, one TCP stream`, against: 'made by hand', unit: 'Gbit/s' } as const
  return compared({ ...about, budget: atLeast(0.98) }, compare(rates))
}

/** A server that answers one client after the other, in the second pod. */
async function serve(bed: Bed, { to }: PodPair): Promise<void> {
  const server = bed.start({ path: to }, 'iperf3', ['-s', '--forceflush'])
  await until(
    () => server.lastWords().includes('listening'),
    () => server.child.exitCode === null,
    10_000,
  )
}

/** As the receiver counts them. */
async function gigabits(bed: Bed, { from, address }: PodPair): Promise<number> {
  const client = ['-c', address, '-t', String(SECONDS), '-J']
  for (let tries = 1; ; tries++) {
    try {
      return bitsPerSecond(await bed.run('iperf3', client, { netns: from, timeoutMs: 15_000 })) / 1e9
    } catch (error) {
      // The server still says goodbye to the last client.
      if (tries === 10) throw error
      await sleep(100)
    }
  }
}

const report = v.object({ end: v.object({ sum_received: v.object({ bits_per_second: v.number() }) }) })

const bitsPerSecond = (json: string): number => v.parse(report, JSON.parse(json)).end.sum_received.bits_per_second
