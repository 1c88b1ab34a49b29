/** What the relay of the udp backend counts, as metrics of the agent. */

import type { Offloads } from '#flannel/udp/tunnel.ts'
import type { RelayReport } from '#flannel/relay/supervisor.ts'
import type { Counter, Gauge, Registry } from './metrics.ts'

export interface RelayMetrics {
  readonly packets: Counter
  readonly bytes: Counter
  readonly calls: Counter
  readonly drops: Counter
  readonly icmpErrors: Counter
  readonly starts: Counter
  readonly offloads: Gauge
}

export const relayMetrics = (registry: Registry): RelayMetrics => ({
  packets: registry.counter({
    name: 'heddle_relay_packets',
    help: 'Packets of pods that the relay of the udp backend carried, by direction (out, in).',
  }),
  bytes: registry.counter({
    name: 'heddle_relay_bytes',
    unit: 'bytes',
    help: 'Bytes of these packets, without the outer headers, by direction.',
  }),
  calls: registry.counter({
    name: 'heddle_relay_calls',
    help: 'Requests to the kernel that carried these packets, by direction; the fewer, the more the offloads do.',
  }),
  drops: registry.counter({ name: 'heddle_relay_drops', help: 'Packets that the relay dropped, by reason.' }),
  icmpErrors: registry.counter({
    name: 'heddle_relay_icmp_errors',
    help: 'ICMP errors that the relay answered with.',
  }),
  starts: registry.counter({
    name: 'heddle_relay_starts',
    help: 'Relays that were started; one that outlived an agent and was taken over is not counted.',
  }),
  offloads: registry.gauge({
    name: 'heddle_relay_offload',
    help: '1 while the relay uses an offload of the kernel, by offload (tcp, udp, send, receive).',
  }),
})

type Counters = RelayReport['counters']

/** Adds what was counted since the last report: a new relay begins at zero, which a counter must not. */
export class RelayCounts {
  readonly #metrics: RelayMetrics
  #last: Counters | undefined

  constructor(metrics: RelayMetrics) {
    this.#metrics = metrics
  }

  /** A new relay counts from the beginning. */
  restart(): void {
    this.#last = undefined
  }

  report(now: Counters, offloads: Offloads | null): void {
    const { packets, bytes, calls, drops, icmpErrors } = this.#metrics
    const last = this.#last
    this.#last = now
    packets.add({ direction: 'out' }, Math.max(0, now.sentPackets - (last?.sentPackets ?? 0)))
    packets.add({ direction: 'in' }, now.receivedPackets - (last?.receivedPackets ?? 0))
    bytes.add({ direction: 'out' }, Math.max(0, now.sentBytes - (last?.sentBytes ?? 0)))
    bytes.add({ direction: 'in' }, now.receivedBytes - (last?.receivedBytes ?? 0))
    calls.add({ direction: 'out' }, now.sendCalls - (last?.sendCalls ?? 0))
    calls.add({ direction: 'in' }, now.writeCalls - (last?.writeCalls ?? 0))
    icmpErrors.add({}, now.icmpErrors - (last?.icmpErrors ?? 0))
    for (const [reason, count] of Object.entries(now.drops)) {
      const before = Object.entries(last?.drops ?? {}).find(([name]) => name === reason)?.[1] ?? 0
      if (count > before) drops.add({ reason }, count - before)
    }
    for (const [name, on] of Object.entries(offloads ?? { tcp: false, udp: false, send: false, receive: false }))
      this.#metrics.offloads.set(on ? 1 : 0, { offload: name })
  }
}
