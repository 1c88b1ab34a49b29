/** The DHCP daemon inside the agent: pods whose IPAM plugin is dhcp have their leases kept here. */

import { messageOf } from '#cni/errors.ts'
import { failpoints } from '#cni/runtime/host.ts'
import { openDhcpService, type DhcpService } from '#ipam/dhcp/daemon/service.ts'
import { nativeSys } from '#sys/addon.ts'
import { systemClock } from '#sys/clock.ts'
import type { AgentMetrics } from './agent-metrics.ts'
import { peerOf } from './cni/peer.ts'
import type { Health } from './health.ts'
import type { Log } from './log.ts'

export const DHCP_CHECK = 'dhcp'

/** ms that an ADD waits for its lease: less than a CNI call has, so that the pod gets the reason. */
const PATIENCE = 45_000
/** ms between tries to take the socket over from another daemon, the reference's say. */
const RETRY = 30_000

/**
 * Begins at once and in the background: without DHCP every other pod is served. Where another daemon has the socket it stays with that one, and is taken over
 * when it ends. The result ends it; pods keep their addresses.
 */
export function startDhcpService(socketPath: string, metrics: AgentMetrics, health: Health, log: Log): AsyncDisposable {
  health.expect(DHCP_CHECK, 'degraded', 'not listening yet')
  const stop = new AbortController()
  const peer = peerOf(nativeSys())
  let service: DhcpService | undefined
  const open = async (): Promise<void> => {
    for (let isFirst = true; !stop.signal.aborted; isFirst = false) {
      try {
        service = await openDhcpService({
          socketPath,
          patience: PATIENCE,
          log: (level, message, fields) => log[level](fields ?? {}, message),
          count: (event, family) => metrics.dhcpEvents.add({ event, family: `ipv${family}` }),
          failpoint: failpoints(process.env),
          uidOf: (socket) => peer(socket)?.uid,
        })
        health.pass(DHCP_CHECK)
        log.info({ socket: socketPath }, 'keeping DHCP leases')
        return
      } catch (error) {
        const reason = messageOf(error)
        health.fail(DHCP_CHECK, reason)
        if (isFirst) log.warn({ socket: socketPath, reason }, 'no DHCP daemon of our own; trying again')
        await systemClock.sleep(RETRY, stop.signal).catch(() => undefined)
      }
    }
  }
  const opening = open()
  metrics.registry.onCollect(() => {
    for (const family of [4, 6] as const)
      metrics.dhcpLeases.set(service?.daemon.count(family) ?? 0, { family: `ipv${family}` })
  })
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await opening
      await service?.[Symbol.asyncDispose]()
    },
  }
}
