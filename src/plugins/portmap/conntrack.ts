/**
 * Connections that the kernel remembers from before a mapping changed: a stream of UDP packets never ends by itself, and would keep going the old way.
 */

import { messageOf } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import { familyOf } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { listAddrs } from '#netlink/addr.ts'
import { deleteFlows, listFlows } from '#nft/conntrack.ts'
import type { HostPort } from '../rules/host-ports.ts'
import { ipOf } from '../link/configure.ts'
import { hostNetns } from '../link/host-netns.ts'

const UDP = 17

/** A port of the host whose traffic of one family was or will be mapped. */
export interface MappedPort {
  readonly protocol: HostPort['protocol']
  readonly hostPort: number
  readonly family: 4 | 6
}

/**
 * Forgets UDP connections to these ports of the host, and only of the host: those of pods to servers elsewhere stay. A failure is only logged.
 * The kernel walks its whole table for each family, some milliseconds, so families without a mapped UDP port are not looked at.
 */
export function forgetUdp(host: PluginHost, ports: readonly MappedPort[]): void {
  const udp = ports.filter(({ protocol }) => protocol === 'udp')
  if (udp.length === 0) return
  try {
    const { nft } = hostNetns(host)
    const local = new Set<IpText>(listAddrs(host.netlink).map(({ address }) => ipOf(address)))
    for (const [family, some] of Map.groupBy(udp, (port) => port.family)) {
      const wanted = new Set(some.map(({ hostPort }) => hostPort))
      for (const { original } of listFlows(nft, family, { protocol: UDP })) {
        if (original.dstPort === undefined || !wanted.has(original.dstPort)) continue
        if (isLocal(original.dst, local)) deleteFlows(nft, family, { protocol: UDP, original })
      }
    }
  } catch (error) {
    host.log('warn', 'portmap: old UDP connections could not be forgotten', { error: messageOf(error) })
  }
}

const isLocal = (ip: IpText, local: ReadonlySet<IpText>): boolean =>
  local.has(ip) || (familyOf(ip) === 4 && ip.startsWith('127.'))
