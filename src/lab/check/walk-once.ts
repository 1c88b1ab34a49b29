/** One packet, so that every neighbour on its way is known before the way is read. */

import { familyOf } from '#ip/prefix.ts'
import { netnsPath } from '../paths.ts'
import { Pinger, type PingResult } from '../probe/pinger.ts'
import type { PodView } from './view.ts'

/** Waits up to five seconds: a route may just be on its way. */
export async function walkOnce(from: PodView, to: PodView, family: 4 | 6): Promise<PingResult> {
  const ip = to.ips.find((ip) => familyOf(ip) === family)
  if (ip === undefined) return { kind: 'unreachable', reason: `${to.name} has no IPv${family} address` }
  using pinger = new Pinger(netnsPath(from.namespace), family)
  const deadline = Date.now() + 5000
  for (;;) {
    const result = await pinger.ping(ip, { timeoutMs: 500, retryMs: 50 })
    if (result.kind === 'reply' || Date.now() >= deadline) return result
  }
}
