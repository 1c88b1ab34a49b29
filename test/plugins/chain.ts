/** The chain bridge + host-local + portmap, called plugin by plugin as a runtime does. */

import type { JsonObject } from '#cni/json.ts'
import type { Attachment, PluginHost } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { gcInputOf, inputOf } from './input.ts'

export interface ChainCall {
  readonly containerId: string
  readonly netns?: string
  readonly hostPort?: number
  readonly prevResult?: Result
}

export const bridgeConf: JsonObject = {
  name: 'net1',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipMasq: true,
  macspoofchk: true,
  hairpinMode: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
}

const portmapConf = (hostPort = 8000): JsonObject => ({
  name: 'net1',
  type: 'portmap',
  runtimeConfig: {
    portMappings: [
      { hostPort, containerPort: 8080, protocol: 'tcp' },
      { hostPort, containerPort: 8080, protocol: 'udp', hostIP: '127.0.0.1' },
    ],
  },
})

export async function addChain(host: PluginHost, call: ChainCall): Promise<Result> {
  const prevResult = await bridge.add(inputOf(bridgeConf, call), host)
  return portmap.add(inputOf(portmapConf(call.hostPort), { ...call, prevResult }), host)
}

export async function delChain(host: PluginHost, call: ChainCall): Promise<void> {
  await portmap.del(inputOf(portmapConf(call.hostPort), call), host)
  await bridge.del(inputOf(bridgeConf, call), host)
}

export async function checkChain(host: PluginHost, call: ChainCall): Promise<void> {
  await bridge.check(inputOf(bridgeConf, call), host)
  await portmap.check(inputOf(portmapConf(call.hostPort), call), host)
}

export async function gcChain(host: PluginHost, valid: readonly Attachment[]): Promise<void> {
  await bridge.gc(gcInputOf(bridgeConf, valid), host)
  await portmap.gc(gcInputOf(portmapConf(), valid), host)
}
