/** The relay of the udp backend as this agent starts it and hears of it. */

import { join } from 'node:path'

import { RelaySupervisor } from '#flannel/relay/supervisor.ts'
import type { RelayProgram } from '#flannel/relay/start.ts'
import { systemClock } from '#sys/clock.ts'
import type { Log } from './log.ts'
import { RelayCounts, type RelayMetrics } from './relay-metrics.ts'

export interface OpenRelayOptions {
  readonly socket: string
  readonly version: string
  readonly metrics: RelayMetrics
  readonly log: Log
  /** HEDDLE_UDP_OFFLOAD: `all`, `none`, or of `device` and `socket` those to use. HEDDLE_RELAY_LINGER_MS: for tests, whose agents do not come back. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Takes over a relay that runs, or is ready to start one. */
export function openRelay({ socket, version, metrics, log, env }: OpenRelayOptions): Promise<RelaySupervisor> {
  const counts = new RelayCounts(metrics)
  return RelaySupervisor.open({
    socket,
    version,
    program: relayProgram(env, log),
    clock: systemClock,
    onNote: (level, message, fields) => log[level]({ ...fields, part: 'relay' }, message),
    onCounters: (counters, offloads) => counts.report(counters, offloads),
    onStart: () => {
      metrics.starts.add()
      counts.restart()
    },
  })
}

/** In a checkout this is src/agent/relay.ts, in a build a part of dist/lib. */
function relayProgram(env: OpenRelayOptions['env'], log: Log): RelayProgram {
  const here = import.meta.dirname
  const entry = import.meta.filename.endsWith('.ts') ? join(here, '../cli/relay.ts') : join(here, 'relay.mjs')
  const linger = env['HEDDLE_RELAY_LINGER_MS']
  return {
    file: process.execPath,
    args: [
      ...process.execArgv,
      entry,
      ...offloadFlags(env['HEDDLE_UDP_OFFLOAD'] ?? 'all', log),
      ...(linger === undefined ? [] : ['--linger-ms', linger]),
    ],
  }
}

function offloadFlags(text: string, log: Log): string[] {
  const words = text.split(',').map((word) => word.trim())
  const odd = words.find((word) => !['all', 'none', 'device', 'socket'].includes(word))
  if (odd !== undefined)
    log.warn({ value: odd }, 'HEDDLE_UDP_OFFLOAD knows all, none, device and socket; using all offloads')
  if (odd !== undefined || words.includes('all')) return []
  return [
    ...(words.includes('device') ? [] : ['--no-device-offload']),
    ...(words.includes('socket') ? [] : ['--no-socket-offload']),
  ]
}
