/** Addresses for a pod's only interface, from the IPAM plugin. */

import { invalidConfig } from '#cni/errors.ts'
import type { PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import type { Undo } from './undo.ts'

/** IPAM's ADD; what fails after it gives the addresses back. All of them belong to interface 0. Throws CniError 7 for a result without any. */
export async function allocate(plugin: string, input: PluginInput, host: PluginHost, undo: Undo): Promise<Result> {
  const { type } = input.config.ipam
  undo.add('addresses', () => host.delegate('DEL', type, input))
  const result = await host.delegate('ADD', type, input)
  host.failpoint(`${plugin}.allocated`)
  if (result.ips.length === 0) throw invalidConfig(`the IPAM plugin ${type} gave no address`)
  return { ...result, ips: result.ips.map((ip) => ({ ...ip, interface: 0 })) }
}
