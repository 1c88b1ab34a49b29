/** Our ADD against its floor: the same system calls from a C program that starts once and does nothing else. */

import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { formatIp, ip4 } from '#ip/address.ts'
import { requireAddress, inTurns } from './attach.ts'
import type { Benchmark } from './benchmark.ts'
import { Bed, type Namespace } from './bed/bed.ts'
import { CniNode, type Plugins } from './bed/attach.ts'
import { compiled } from './bed/native.ts'
import { own } from './bed/plugins.ts'
import { atMost, compared } from './measurement.ts'
import { compareRounds, timeLimit } from './pairs.ts'

const PODS = 30
const ROUNDS = 7
const LIMIT_MS = 30_000
const FIRST_ADDRESS = 0x0a58_0002

/** What a first ADD leaves behind for the others, and what the shared structure of the host ports is. */
const TABLE = `table inet wire {
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  set snat4 { type inet_proto . inet_service . ipv4_addr . inet_service; }
  set near4 { type ipv4_addr . ipv4_addr; flags interval; }
  chain hostports {
    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @any4
  }
  chain prerouting {
    type nat hook prerouting priority -99;
    fib daddr type local goto hostports
  }
  chain output {
    type nat hook output priority -99;
    fib daddr type local goto hostports
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ct status dnat meta l4proto { tcp, udp, sctp } ip saddr . ip daddr @near4 meta l4proto . ct original proto-dst . ip daddr . th dport @snat4 masquerade
  }
}
`

const wirePlugins =
  (bed: Bed) =>
  async (netns: Namespace, directory: string): Promise<Plugins> => {
    const store = join(directory, 'networks')
    const records = join(bed.memory, 'wire')
    for (const folder of [store, records]) mkdirSync(folder)
    await netns.run('ip', 'link', 'add', 'cni0', 'mtu', '1450', 'type', 'bridge')
    await netns.run('ip', 'address', 'add', '10.88.0.1/16', 'dev', 'cni0')
    await netns.run('ip', 'link', 'set', 'cni0', 'up')
    await bed.run('nft', ['-f', '-'], { netns: netns.path, input: TABLE })
    const configs: Plugins['configs'] = ({ number }) => [
      { address: formatIp(ip4(FIRST_ADDRESS + number)), number, directory: store, records },
    ]
    return { path: dirname(await compiled('wire')), types: ['wire'], configs }
  }

export const wire: Benchmark = {
  name: 'wire',
  about: 'ADD against the same requests from C and one process start',
  async run({ runs = ROUNDS, signal, progress }) {
    await using bed = new Bed(signal)
    const ours = await CniNode.make(bed, 'ours', PODS, own(bed))
    const peer = await CniNode.make(bed, 'wire', PODS, wirePlugins(bed))
    const rounds = { ours: [] as number[][], peer: [] as number[][] }
    const warmup = 2
    const isLate = timeLimit(LIMIT_MS)
    for (let round = 0; round < warmup + runs; round++) {
      if (round > warmup && isLate()) break
      progress(round < warmup ? 'warm-up' : `round ${round - warmup + 1} of ${runs}: ${PODS} pods`)
      const times = await inTurns(signal, ours, peer, (node, pod) => node.add([pod]))
      for (const node of [ours, peer]) {
        for (const pod of node.pods) requireAddress(node, pod)
        await node.del(node.pods, 8)
      }
      if (round < warmup) continue
      rounds.ours.push(times.ours)
      rounds.peer.push(times.peer)
    }
    const about = { what: 'ADD, p50', against: 'same requests from C', unit: 'ms' } as const
    return [compared({ ...about, budget: atMost(2) }, compareRounds(rounds, 0.5))]
  },
}
