/** A host with a bridge that a DHCP server is on, a daemon, and pods whose links come from the plugin bridge. */

import { join } from 'node:path'

import type { JsonObject } from '#cni/json.ts'
import type { PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { openDhcpService, type DhcpService, type DhcpServiceOptions } from '#ipam/dhcp/daemon/service.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { inputOf } from '../plugins/input.ts'
import { execIn, NetworkHost } from '../plugins/network-host.ts'

export const SERVER = '10.99.0.1'

export const conf = (ipam: JsonObject = {}): JsonObject => ({
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  ipam: { type: 'dhcp', ...ipam },
})

/** With `br0` up, as 10.99.0.1/24 and fd99::1/64. */
export function dhcpHost(): NetworkHost {
  const host = new NetworkHost()
  host.exec('ip', 'link', 'add', 'br0', 'address', '02:00:00:00:00:01', 'type', 'bridge')
  host.exec('ip', 'address', 'add', `${SERVER}/24`, 'dev', 'br0')
  host.exec('ip', '-6', 'address', 'add', 'fd99::1/64', 'dev', 'br0', 'nodad')
  host.exec('ip', 'link', 'set', 'br0', 'up')
  return host
}

export interface Counted {
  readonly service: DhcpService
  readonly events: string[]
  readonly logs: string[]
}

export const socketOf = (host: NetworkHost): string => join(host.root, 'run/cni/dhcp.sock')

/** The daemon inside this process. */
export async function daemonOf(
  host: NetworkHost,
  options: Partial<DhcpServiceOptions> = {},
): Promise<Counted & AsyncDisposable> {
  const events: string[] = []
  const logs: string[] = []
  const service = await openDhcpService({
    socketPath: socketOf(host),
    patience: 20_000,
    log: (level, message, fields) => void logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    count: (event, family) => void events.push(`${event} ${family}`),
    ...options,
  })
  return { service, events, logs, [Symbol.asyncDispose]: () => service[Symbol.asyncDispose]() }
}

export interface Pod {
  readonly netns: string
  readonly input: PluginInput
  readonly result: Result
  readonly addresses: () => string
}

/** ADD of the plugin bridge. */
export async function addPod(
  host: NetworkHost,
  containerId: string,
  ipam: JsonObject = {},
  args: Readonly<Record<string, string>> = {},
): Promise<Pod> {
  const netns = host.pod()
  execIn(netns, 'ip', 'link', 'set', 'lo', 'up')
  const input = inputOf(conf(ipam), { containerId, netns, args })
  const result = await bridge.add(input, host.host)
  return { netns, input: { ...input, prevResult: result }, result, addresses: () => addressesIn(netns) }
}

export const addressesIn = (netns: string): string =>
  execIn(netns, 'ip', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'global')

export const delPod = (host: NetworkHost, pod: Pod): Promise<void> => bridge.del(pod.input, host.host)
