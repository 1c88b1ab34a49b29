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

/** Forgets UDP connections to these ports of the host, and only of the host: those of pods to servers elsewhere stay. A failure is only logged. */
export function forgetUdp(host: PluginHost, ports: readonly Pick<HostPort, 'protocol' | 'hostPort'>[]): void {
  const wanted = new Set(ports.filter(({ protocol }) => protocol === 'udp').map(({ hostPort }) => hostPort))
  if (wanted.size === 0) return
  try {
    const { nft } = hostNetns(host)
    const local = new Set<IpText>(listAddrs(host.netlink).map(({ address }) => ipOf(address)))
    for (const family of [4, 6] as const) {
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
